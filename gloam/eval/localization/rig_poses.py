"""Poses of queries on a rig, after each camera was localized by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from gloam.data.scene import Pose
from gloam.runtime.localization.colmap import AbsolutePoseOptions, Triangulation
from gloam.runtime.localization.maps.mapping import PairMatcher
from gloam.runtime.localization.pose import Localized
from gloam.runtime.localization.rigs import localize_rig, rig_frames, through_rig

Rig = Literal["off", "fill", "joint"]


def pose_rigs(
    rig: Rig,
    matcher: PairMatcher,
    mounts: Mapping[str, Pose],
    poses: Mapping[str, Pose | None],
    inliers: Mapping[str, int],
    retrieved: Mapping[str, Sequence[str]],
    world: Triangulation | None,
    options: AbsolutePoseOptions,
    pool: ThreadPoolExecutor,
) -> dict[str, Pose | None]:
    """Poses of all cameras of a rig.

    Args:
        rig: ``off`` leaves every camera by itself. ``fill`` gives a camera without a pose that of the rig, by the
            camera with most inliers. ``joint`` poses the rig by all cameras' matches at once, and fills where that
            finds nothing.
        matcher: of the datasets.
        mounts: from the rig to its cameras, by sensor id.
        poses, inliers: of each camera by itself.
        retrieved: map images by query, best first.
        world: the map; None for one of each query's retrieved images alone.
        options: of the pose.
        pool: of threads.
    """
    found, counts = dict(poses), dict(inliers)
    if rig == "off":
        return found

    def one(names: Sequence[str]) -> dict[str, Localized]:
        return localize_rig(matcher, {name: retrieved[name] for name in names}, mounts, world, options)

    if rig == "joint":
        frames = [[name for name in names if retrieved.get(name)] for names in rig_frames(matcher.query, mounts)]
        for together in pool.map(one, filter(None, frames)):
            for name, item in together.items():
                found[name], counts[name] = item.pose, item.inliers
    return through_rig(matcher.query, mounts, found, counts)
