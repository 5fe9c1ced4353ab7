"""Query images of several cameras on one rig: a pose of the rig is a pose of every camera.

A rig's pose comes from the localized camera with most inliers, or from the correspondences of all cameras at once. A
camera that was not localized by itself gets its pose through the rig, exactly as far as the mounts are exact.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from gloam.data.scene import Pose, Scene
from gloam.runtime.localization.colmap import AbsolutePoseOptions, RigView, Triangulation, rig_pose
from gloam.runtime.localization.maps.mapping import PairMatcher
from gloam.runtime.localization.pose import Localized, correspondences, mini_map


def rig_frames(query: Scene, mounts: Mapping[str, Pose]) -> list[list[str]]:
    """Images that the cameras of a rig took at one time, two or more of each, sorted.

    Args:
        query: the images.
        mounts: from the rig to its cameras, by sensor id.
    """
    found: dict[int, list[str]] = defaultdict(list)
    for name in query.names:
        record = query.records[name]
        if record.camera_id in mounts:
            found[record.timestamp].append(name)
    return [names for _, names in sorted(found.items()) if len(names) > 1]


def through_rig(
    query: Scene, mounts: Mapping[str, Pose], poses: Mapping[str, Pose | None], inliers: Mapping[str, int]
) -> dict[str, Pose | None]:
    """Poses with those of cameras that were not localized, through the best localized camera of their rig.

    Args:
        query: the images.
        mounts: from the rig to its cameras, by sensor id.
        poses: of cameras, world to camera; None where one was not localized. They stay as they are.
        inliers: of these poses; the camera with most tells the rig's, of equal ones that of the earlier name.

    Returns:
        the poses, and those of all cameras of a rig of which one was localized.
    """
    found = dict(poses)
    for names in rig_frames(query, mounts):
        localized = [name for name in names if poses.get(name) is not None]
        if not localized:
            continue
        best = max(localized, key=lambda name: inliers.get(name, 0))
        pose = poses[best]
        assert pose is not None  # it is one of those
        rig = pose.seen_from(mounts[query.records[best].camera_id].inverse)
        for name in names:
            if found.get(name) is None:
                found[name] = rig.seen_from(mounts[query.records[name].camera_id])
    return found


def localize_rig(
    matcher: PairMatcher,
    retrieved: Mapping[str, Sequence[str]],
    mounts: Mapping[str, Pose],
    world: Triangulation | None,
    options: AbsolutePoseOptions | None = None,
) -> dict[str, Localized]:
    """One pose of a rig by the matches of all its cameras.

    Args:
        matcher: of the datasets.
        retrieved: map images of each of the rig's images, best first.
        mounts: from the rig to its cameras, by sensor id.
        world: the map; None triangulates each camera's retrieved images alone.
        options: of the pose.

    Returns:
        poses of all the images, with the rig's inliers and all cameras' correspondences; empty where the rig was not
        localized, or one camera alone has correspondences.
    """
    views: dict[str, RigView] = {}
    for name, images in sorted(retrieved.items()):
        own = mini_map(matcher, images) if world is None else world
        if own is None:
            continue
        matched = [(matcher.matches(name, image), own.observed[image]) for image in images if image in own.observed]
        unique = correspondences(matched)
        points = matcher.features(name).keypoints[unique[:, 0]]
        mount = mounts[matcher.scene_of(name).records[name].camera_id]
        views[name] = RigView(matcher.camera(name), mount, points, own.points[unique[:, 1]])
    answer = rig_pose(list(views.values()), options, matcher.seed)
    if answer is None:
        return {}
    rig, inliers = answer
    count = sum(len(view.points2d) for view in views.values())
    records = {name: matcher.scene_of(name).records[name] for name in retrieved}
    return {
        name: Localized(rig.seen_from(mounts[record.camera_id]), inliers, count) for name, record in records.items()
    }
