"""Which images of a map are matched with one another before it is triangulated.

A map that depends on no retrieval is the same for every one: neighbours by covisibility where points are known, by pose
else, or all pairs.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from gloam.data.scene import Scene, rotation_error
from gloam.errors import DataError, UsageError
from gloam.runtime.localization.maps.colmap_model import ColmapModel

Pair = tuple[str, str]
Rule = Literal["exhaustive", "covisibility", "pose"]
RULES: tuple[Rule, ...] = ("exhaustive", "covisibility", "pose")

NEIGHBOURS = {"covisibility": 20, "pose": 10}
METRES, DEGREES = 15.0, 60.0  # of a map in metres
REACH = 2.0  # of a map of unknown scale: times the usual distance of an image's last neighbour


@dataclass(frozen=True)
class MapPairs:
    """How the pairs of a map are chosen.

    Attributes:
        rule: ``exhaustive``, ``covisibility`` (most shared points first) or ``pose`` (nearest first); None for
            covisibility where the map has points, else pose.
        neighbours: an image's, at most; 20 by covisibility and 10 by pose where None.
        distance: between camera centres, in the map's own unit, for ``pose``. None for 15, and where that leaves over
            half of the images alone, so that the unit can be no metre, for twice the median distance from an image to
            the last of its neighbours.
        angle: between orientations, degrees, for ``pose``.

    Raises:
        UsageError: an option that its rule does not have, or out of range.
    """

    rule: Rule | None = None
    neighbours: int | None = None
    distance: float | None = None
    angle: float | None = None

    def __post_init__(self) -> None:
        if self.neighbours is not None and self.neighbours < 1:
            raise UsageError("--map-neighbours must be 1 or more")
        if self.distance is not None and not 0 < self.distance < float("inf"):
            raise UsageError("--map-distance must be above 0")
        if self.angle is not None and not 0 <= self.angle <= 180:
            raise UsageError("--map-angle is in degrees, from 0 to 180")
        if self.rule == "exhaustive" and self.neighbours is not None:
            raise UsageError("--map-neighbours is for pairs by covisibility or pose; exhaustive pairs are all of them")
        if self.rule in ("exhaustive", "covisibility") and (self.distance is not None or self.angle is not None):
            raise UsageError(f"--map-distance and --map-angle are for pairs by pose, not {self.rule}")

    def choose(
        self, scene: Scene, observed: Mapping[str, npt.NDArray[np.int64]] | None = None
    ) -> tuple[list[Pair], str]:
        """The pairs of a map, sorted, and how they were chosen in words.

        Args:
            scene: its images, with poses.
            observed: per image the point of each keypoint or -1, where the map has points.

        Raises:
            DataError: covisibility without points, or nothing left; the limits are named.
        """
        seen = observed is not None and any((points >= 0).any() for points in observed.values())
        by_pose = self.distance is not None or self.angle is not None
        rule = self.rule or ("covisibility" if seen and not by_pose else "pose")
        if rule == "exhaustive":
            pairs, how = list(itertools.combinations(scene.names, 2)), "exhaustive"
        elif rule == "covisibility":
            if not seen or observed is None:
                raise DataError(f"{scene.root}: has no points, which covisibility is of; use --map-pairs pose")
            k = self.neighbours or NEIGHBOURS[rule]
            pairs, how = pairs_by_covisibility(observed, k), f"covisibility, {k} neighbours"
        else:
            pairs, how = self._by_pose(scene)
        if not pairs:
            raise DataError(
                f"{scene.root}: no two of the map's {len(scene.records)} images are a pair by {how}; change it by "
                "--map-pairs, --map-neighbours, --map-distance or --map-angle"
            )
        return pairs, how

    def _by_pose(self, scene: Scene) -> tuple[list[Pair], str]:
        k, angle = self.neighbours or NEIGHBOURS["pose"], DEGREES if self.angle is None else self.angle
        distance = METRES if self.distance is None else self.distance
        pairs = pairs_by_pose(scene, k, distance, angle)
        if self.distance is None and 2 * len({name for pair in pairs for name in pair}) < len(scene.poses):
            distance = usual_distance(scene, k, angle) * REACH
            pairs = pairs_by_pose(scene, k, distance, angle)
        return pairs, f"pose, {k} neighbours within {distance:g} units and {angle:g} degrees"


def choose_pairs(
    map_pairs: MapPairs | Sequence[Pair] | None, scene: Scene, model: ColmapModel | None = None
) -> tuple[list[Pair], str]:
    """The pairs of a map and how they were chosen in words, from a list of them, a rule, or the default.

    Args:
        map_pairs: see above.
        scene: the map's images.
        model: that the scene is of, whose points tell covisibility.
    """
    if map_pairs is None or isinstance(map_pairs, MapPairs):
        return (map_pairs or MapPairs()).choose(scene, None if model is None else model.points.observed)
    return list(map_pairs), "a list"


def pairs_by_pose(scene: Scene, k: int = 10, max_distance: float = METRES, max_angle: float = DEGREES) -> list[Pair]:
    """Each mapping image with its nearest ones by known pose: a map that does not depend on any retrieval.

    Args:
        scene: mapping images with poses.
        k: neighbours per image.
        max_distance: between centres, in the map's unit.
        max_angle: degrees between orientations.
    """
    near = _near(scene, k, max_angle, max_distance)
    return sorted({(min(name, other), max(name, other)) for name, others in near.items() for other, _ in others})


def usual_distance(scene: Scene, k: int, max_angle: float = DEGREES) -> float:
    """Median distance from an image to the last of its k nearest by pose, in the map's unit; 0 where none has any."""
    last = [others[-1][1] for others in _near(scene, k, max_angle).values() if others]
    return float(np.median(last)) if last else 0.0


def _near(
    scene: Scene, k: int, max_angle: float, max_distance: float = float("inf")
) -> dict[str, list[tuple[str, float]]]:
    """The k nearest images of each that look alike, with their distances, nearest first."""
    names = [name for name in scene.names if name in scene.poses]
    poses = [scene.poses[name] for name in names]
    centers = np.array([pose.center for pose in poses])
    found: dict[str, list[tuple[str, float]]] = {name: [] for name in names}
    for row, name in enumerate(names):
        away = np.linalg.norm(centers - centers[row], axis=1)
        for other in np.argsort(away, kind="stable").tolist():
            far = float(away[other])
            if len(found[name]) == k or far > max_distance:  # those behind are as far
                break
            if other != row and rotation_error(poses[row], poses[other]) <= max_angle:
                found[name].append((names[other], far))
    return found


def pairs_by_covisibility(observed: Mapping[str, npt.NDArray[np.int64]], k: int = 20) -> list[Pair]:
    """Each image with those that share most points of the map with it; ties go to the earlier name.

    Args:
        observed: per image int64 ``[n]``, the point of each keypoint or -1.
        k: neighbours per image.
    """
    names = sorted(observed)
    points = [np.unique(observed[name][observed[name] >= 0]) for name in names]
    # The images of each point, one behind the other, ordered by point.
    image = np.repeat(np.arange(len(names)), [len(seen) for seen in points])
    point = np.concatenate([np.zeros(0, np.int64), *points])
    order = np.argsort(point, kind="stable")
    image, starts = image[order], np.searchsorted(point[order], np.arange(point.max(initial=-1) + 2))
    pairs = set()
    for row, seen in enumerate(points):
        sizes = starts[seen + 1] - starts[seen]
        runs = np.repeat(starts[seen] - np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes) + np.arange(sizes.sum())
        shared = np.bincount(image[runs.astype(np.int64)], minlength=len(names))
        shared[row] = 0
        best = np.argsort(-shared, kind="stable")[:k]
        pairs |= {(min(names[row], names[other]), max(names[row], names[other])) for other in best if shared[other]}
    return sorted(pairs)
