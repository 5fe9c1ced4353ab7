"""What a look-alike is made of before anything is rendered: streets, cameras, and the photographs to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gloam.data.localization_sets.dataset import SetName
from gloam.data.scene import Camera, Pose, Record, Scene

APART = 400.0  # metres between streets of one world; none is seen from another


@dataclass(frozen=True)
class PlannedStreet:
    """A street of the town, and where it lies in the benchmark's world.

    Attributes:
        seed, length: of the street; metres.
        shift: where the street's origin lies, metres.
    """

    seed: int
    length: float
    shift: tuple[float, float, float]


@dataclass(frozen=True)
class View:
    """One photograph to take.

    Attributes:
        part: kapture dataset that it belongs to, a folder below the set's.
        name: image name within it.
        camera_id, timestamp: kapture's.
        street: index of the street; pose: of the camera in that street, world to camera.
        light: one of the town's conditions.
        visit: photographs of one street, light and visit show the same cars and people.
        posed: whether the set gives its pose.
    """

    part: str
    name: str
    camera_id: str
    timestamp: int
    street: int
    pose: Pose
    light: str
    visit: str
    posed: bool = False


@dataclass(frozen=True)
class SetPlan:
    """All photographs of a look-alike.

    Attributes:
        cameras: intrinsics by part and sensor id.
        rig: from the rig ``car`` to each camera, by sensor id; empty where there is none.
    """

    name: SetName
    streets: Sequence[PlannedStreet]
    cameras: Mapping[str, Mapping[str, Camera]]
    views: Sequence[View]
    rig: Mapping[str, Pose] = field(default_factory=dict)

    def camera(self, view: View) -> Camera:
        """Intrinsics of a photograph."""
        return self.cameras[view.part][view.camera_id]

    def world_pose(self, view: View) -> Pose:
        """Pose of a photograph in the benchmark's world."""
        return shifted(view.pose, self.streets[view.street].shift)

    def scene(self, part: str, root: Path) -> Scene:
        """The kapture dataset of one part, with those poses that the set gives."""
        chosen = [view for view in self.views if view.part == part]
        return Scene(
            root,
            dict(self.cameras[part]),
            {view.name: Record(view.camera_id, view.timestamp) for view in chosen},
            {view.name: self.world_pose(view) for view in chosen if view.posed},
        )


def street_at(index: int, seed: int, length: float) -> PlannedStreet:
    """The street of an index; streets lie in rows of ten."""
    return PlannedStreet(seed * 1000 + index, length, (index % 10 * APART, index // 10 * APART, 0.0))


def shifted(pose: Pose, shift: Sequence[float]) -> Pose:
    """A pose after the world's origin has moved away: the camera's centre moves by ``shift``, metres."""
    x, y, z = map(float, np.asarray(pose.translation) - pose.rotation @ np.asarray(shift))
    return Pose(pose.quaternion, (x, y, z)).rounded()


def spread(total: int, places: int) -> list[int]:
    """How many of a total fall on each of some places, evenly; the first get one more."""
    return [total // places + (index < total % places) for index in range(places)]
