"""One localization benchmark as gloam uses it: a map, queries, their conditions, and what its server scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gloam.data.scene import Pose, Scene

SetName = Literal["aachen-v1.1", "robotcar-v1", "robotcar-v2"]
NameStyle = Literal["aachen", "robotcar", "full"]
Layout = Literal["kapture", "original"]


@dataclass(frozen=True)
class LocalizationSet:
    """A benchmark that was read.

    Attributes:
        name: of the benchmark.
        root: its folder.
        mapping: all map images, with intrinsics and poses.
        query: all query images, with intrinsics; poses only where the dataset gives them.
        conditions: names of queries by condition, such as ``night`` or ``night-rain``; every query has one.
        day, night: the conditions that the papers' Day-All and Night-All are of.
        style: of image names in the evaluation server's file.
        scored: cameras whose poses the server scores, by sensor id; None for every camera.
        locations: of images, by name, where the dataset is cut into places that are localized apart; else empty.
        known: true poses of images that are no part of the map, for a check without the server: RobotCar v2's training
            images of other conditions. They are queries of :attr:`known_query`.
        known_query: those images, with intrinsics; None where there are none.
        map_pairs: of map images to match for the fixed map, where the dataset states them; else None.
        layout: in which form it was read: ``kapture`` or ``original``.
        rig: from the rig to each of its cameras, by sensor id; images of one timestamp are of one pose of the rig.
            Empty where cameras are held by hand.
    """

    name: SetName
    root: Path
    mapping: Scene
    query: Scene
    conditions: Mapping[str, Sequence[str]]
    day: tuple[str, ...]
    night: tuple[str, ...]
    style: NameStyle
    scored: tuple[str, ...] | None = None
    locations: Mapping[str, str] = field(default_factory=dict)
    known: Mapping[str, Pose] = field(default_factory=dict)
    known_query: Scene | None = None
    map_pairs: Sequence[tuple[str, str]] | None = None
    layout: Layout = "kapture"
    rig: Mapping[str, Pose] = field(default_factory=dict)

    @property
    def scored_queries(self) -> list[str]:
        """Names of the queries whose poses the server scores, sorted."""
        return [n for n in self.query.names if self.scored is None or self.query.records[n].camera_id in self.scored]
