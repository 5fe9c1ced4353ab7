"""A query's pose on a map, from verified matches with map images."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gloam.data.scene import Camera, Pose
from gloam.runtime.localization.colmap import AbsolutePoseOptions, Triangulation, absolute_pose
from gloam.runtime.localization.maps.mapping import Matches, PairMatcher, build_map


@dataclass(frozen=True)
class Localized:
    """What became of a query.

    Attributes:
        pose: None where it was not localized.
        inliers: correspondences that agree with the pose.
        correspondences: unique pairs of a keypoint and a map point.
        covariance: float64 ``[6, 6]``, rotation before translation, radians and metres in the camera's own axes, see
            :func:`gloam.runtime.localization.colmap.pose_covariance`; None without a pose, or one that is not fixed.
    """

    pose: Pose | None
    inliers: int
    correspondences: int
    covariance: npt.NDArray[np.float64] | None = field(default=None, compare=False)


def standard_deviations(covariance: npt.NDArray[np.float64]) -> tuple[float, float]:
    """What a pose's covariance says of the errors to be expected.

    Args:
        covariance: ``[6, 6]``, as in :class:`Localized`.

    Returns:
        of the camera's centre, metres, and of the rotation, degrees: roots of the sums over the three axes.
    """
    rotation, position = (float(np.sqrt(np.trace(covariance[part, part]))) for part in (slice(3), slice(3, None)))
    return position, float(np.degrees(rotation))


def why_not(correspondences: int | None, retrieved: Sequence[str], min_inliers: int) -> str:
    """Why a query has no pose.

    Args:
        correspondences: of the query; None where none are counted.
        retrieved: its map images.
        min_inliers: that a pose needs.
    """
    if not retrieved:
        return "no map image was retrieved"
    if correspondences is None:
        return "no usable pose"
    if correspondences < min_inliers:
        return f"{correspondences} correspondences with the map, {min_inliers} are needed"
    return f"no pose agrees with {min_inliers} correspondences"


def localize_on_map(
    matcher: PairMatcher,
    query: str,
    retrieved: Sequence[str],
    world: Triangulation,
    options: AbsolutePoseOptions | None = None,
) -> Localized:
    """Absolute pose of a query from its matches with retrieved map images.

    Args:
        matcher: of the datasets.
        query: image name.
        retrieved: map images, best first.
        world: the map.
        options: of the pose.
    """
    matched = ((matcher.matches(query, name), world.observed[name]) for name in retrieved if name in world.observed)
    keypoints = matcher.features(query).keypoints
    return pose_by_matches(keypoints, matched, world.points, matcher.camera(query), options, matcher.seed)


def pose_by_matches(
    keypoints: npt.NDArray[np.float32],
    matched: Iterable[tuple[Matches, npt.NDArray[np.int64]]],
    points: npt.NDArray[np.float64],
    camera: Camera,
    options: AbsolutePoseOptions | None = None,
    seed: int = 0,
) -> Localized:
    """Absolute pose of an image from its matches with map images, each point of the map counted once a keypoint.

    Args:
        keypoints: of the image, ``[n, 2]``, pixels.
        matched: for each map image, matches uint32 ``[m, 2]`` of keypoints of the image and of the map image, and the
            point of each keypoint of the map image, or -1.
        points: of the map, ``[P, 3]``, metres.
        camera: of the image.
        options, seed: of the pose.
    """
    unique = correspondences(matched)
    answer = absolute_pose(keypoints[unique[:, 0]], points[unique[:, 1]], camera, options, seed)
    if answer is None:
        return Localized(None, 0, len(unique))
    return Localized(answer.pose, int(answer.inliers.sum()), len(unique), answer.covariance)


def correspondences(matched: Iterable[tuple[Matches, npt.NDArray[np.int64]]]) -> npt.NDArray[np.int64]:
    """Keypoint and point of each match that has one, int64 ``[n, 2]``, each pair once; see :func:`pose_by_matches`."""
    found: list[npt.NDArray[np.int64]] = [np.zeros((0, 2), np.int64)]
    for matches, observed in matched:
        rows, of_points = matches[:, 0].astype(np.int64), observed[matches[:, 1]]
        seen = of_points >= 0
        found.append(np.stack([rows[seen], of_points[seen]], axis=1))
    return np.unique(np.concatenate(found), axis=0)


def localize_locally(
    matcher: PairMatcher, query: str, retrieved: Sequence[str], options: AbsolutePoseOptions | None = None
) -> Localized:
    """Paradigm 2a: triangulate a mini-map of the retrieved images alone, then the absolute pose on it."""
    world = mini_map(matcher, retrieved)
    return Localized(None, 0, 0) if world is None else localize_on_map(matcher, query, retrieved, world, options)


def mini_map(matcher: PairMatcher, retrieved: Sequence[str]) -> Triangulation | None:
    """The map of the retrieved images alone; None of one view, or views of different places: nothing to triangulate."""
    pairs = list(itertools.combinations(dict.fromkeys(retrieved), 2))
    return build_map(matcher, pairs) if any(len(matcher.matches(*pair)) for pair in pairs) else None
