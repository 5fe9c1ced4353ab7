"""Where the photographs are taken: mapping lanes, held-out query poses, and the distances kept between them."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gloam.data.scene import Pose
from gloam.errors import DataError

LANE = 1.2  # mapping lanes run this far left and right of the middle of the road, metres
HEADING = 17.0  # mapping views look this far left and right of the lane's direction in turn, degrees
MAPPING_DISTANCE = 2.0  # metres between any two mapping views
AHEAD = 12.0  # at least so much of the surveyed street lies ahead of a query, metres
QUERY_DISTANCE = 1.0  # metres between a query and any mapping view
QUERY_ANGLE = 10.0  # degrees between them


def camera_pose(x: float, y: float, z: float, yaw: float, pitch: float = 0.0, roll: float = 0.0) -> Pose:
    """Pose of a camera at a point.

    Args:
        x, y, z: centre, metres.
        yaw: heading in degrees, 0 along +x, positive to the left; pitch: degrees upwards; roll: degrees clockwise.
    """
    a, b, c = np.radians([yaw, pitch, roll])
    forward = np.array([np.cos(b) * np.cos(a), np.cos(b) * np.sin(a), np.sin(b)])
    right = np.array([np.sin(a), -np.cos(a), 0.0])
    down = np.cross(forward, right)
    rotation = np.stack([np.cos(c) * right + np.sin(c) * down, np.cos(c) * down - np.sin(c) * right, forward])
    return Pose.from_matrix(rotation, -rotation @ np.array([x, y, z])).rounded()


def mapping_poses(seed: int, length: float, spacing: float) -> list[Pose]:
    """Mapping views: there along one lane and back along the other, looking left and right in turn.

    Args:
        length: of the street, metres.
        spacing: between views of a lane, metres; at least 2.

    Raises:
        DataError: the views would stand closer than 2 metres.
    """
    rng = np.random.default_rng([seed, 303])
    poses = []
    for lane, direction in ((-LANE, 0.0), (LANE, 180.0)):
        for step, x in enumerate(np.arange(0.5, length, spacing)):
            side = HEADING if step % 2 else -HEADING
            lift = float(rng.uniform(0.0, 0.06))
            pitch = float(rng.uniform(2.0, 5.0))
            poses.append(camera_pose(float(x), lane, 1.6 + lift, direction + side, pitch))
    check_mapping(poses)
    return poses


def query_poses(seed: int, length: float, count: int, mapping: Sequence[Pose]) -> list[Pose]:
    """Query views: between or outside the mapping lanes, at headings that no mapping view has.

    Args:
        count: number of poses, spread evenly along the street.
        mapping: what they must keep clear of.

    Raises:
        DataError: no such pose was found in some stretch of the street.
    """
    rng = np.random.default_rng([seed, 404])
    poses: list[Pose] = []
    for index in range(count):
        for _ in range(500):
            x = (index + rng.uniform(0.1, 0.9)) / count * (length - AHEAD - 3) + (AHEAD if index % 2 else 3)
            y = float(rng.choice((0.0, -2.4, 2.4))) + float(rng.uniform(-0.15, 0.15))
            heading = 180.0 * (index % 2) + float(rng.uniform(-6, 6))
            pose = camera_pose(
                float(x), y, float(rng.uniform(1.5, 1.8)), heading, float(rng.uniform(0, 6)), float(rng.normal(0, 1.5))
            )
            if clear_of(pose, mapping):
                poses.append(pose)
                break
        else:
            raise DataError(
                f"no query pose is clear of the mapping views near {index / count * length:.0f} m; use another seed"
            )
    return poses


def clear_of(pose: Pose, mapping: Sequence[Pose]) -> bool:
    """Whether a query is at least 1 m and 10 degrees from every mapping view."""
    centres, quaternions = _centres_and_quaternions(tuple(mapping))
    if not len(centres):
        return True
    own = np.asarray(pose.quaternion)
    cosine = np.abs(quaternions @ own) / np.linalg.norm(own)
    distance = np.linalg.norm(centres - pose.center, axis=1)
    return bool(distance.min() >= QUERY_DISTANCE and cosine.max() <= np.cos(np.radians(QUERY_ANGLE) / 2))


@functools.lru_cache(maxsize=4)
def _centres_and_quaternions(poses: tuple[Pose, ...]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Float64 ``[n, 3]``, and ``[n, 4]`` of unit length; many queries are held against one map."""
    quaternions = np.array([pose.quaternion for pose in poses]).reshape(-1, 4)
    lengths = np.linalg.norm(quaternions, axis=1, keepdims=True)
    return np.array([pose.center for pose in poses]).reshape(-1, 3), quaternions / lengths


def check_mapping(poses: Sequence[Pose]) -> None:
    """Refuse mapping views that stand closer than 2 metres.

    Raises:
        DataError: naming the two.
    """
    centres = np.array([pose.center for pose in poses])
    for index, centre in enumerate(centres[:-1]):
        distance = np.linalg.norm(centres[index + 1 :] - centre, axis=1)
        if distance.min() < MAPPING_DISTANCE - 1e-9:
            other = index + 1 + int(distance.argmin())
            raise DataError(
                f"mapping views {index} and {other} are {distance.min():.2f} m apart; at least 2 m are needed"
            )
