"""Photographs of a street for translators: each condition from poses of its own, or all from the same."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gloam.data.scene import Pose
from gloam.data.town.look2.queries import ROOM
from gloam.data.town.looks import open_street
from gloam.data.town.sampling import camera_pose
from gloam.data.town.street import Street, pinhole
from gloam.errors import UsageError

LENGTH = 40.0  # metres of street that the views are spread over


def sample_poses(seed: int, count: int, key: str, length: float = LENGTH, reach: float = 2.4) -> list[Pose]:
    """Poses of someone who walks both ways along a street and looks about.

    Args:
        key: equal keys give equal poses, others give others.
        length: of the street, metres.
        reach: how far from the middle of the road the poses are at most, metres.
    """
    rng = np.random.default_rng([seed, 606, zlib.crc32(key.encode())])
    poses = []
    for index in range(count):
        x = (index + rng.uniform()) / count * length
        yaw = 180.0 * int(rng.integers(2)) + rng.choice((-25.0, 0.0, 25.0)) + rng.uniform(-12, 12)
        height, pitch, roll = rng.uniform(1.4, 1.9), rng.uniform(-1, 8), rng.normal(0, 1.5)
        poses.append(camera_pose(x, rng.uniform(-reach, reach), height, float(yaw), pitch, roll))
    return poses


def render_unpaired(
    seed: int,
    count: int,
    conditions: Sequence[str] = ("day", "night"),
    size: tuple[int, int] = (213, 160),
    *,
    same_poses: bool = False,
    look: int = 1,
) -> dict[str, list[npt.NDArray[np.uint8]]]:
    """Photograph a street under several conditions.

    Args:
        seed: of the street; streets of other seeds share nothing.
        count: photographs of each condition.
        size: width and height, pixels; the field of view is the town's.
        same_poses: pairs: the poses of all conditions are the same; else no two are.
        look: of the town; in the second, every condition is a visit of its own, pairs included.

    Returns:
        uint8 RGB images ``[h, w, 3]`` by condition.

    Raises:
        UsageError: nothing to photograph, or an unknown condition or look.
    """
    if count < 1 or not conditions:
        raise UsageError("views of a street need a count of at least 1 and one condition")
    width, height = size
    street = view_street(seed, width, look)
    camera = pinhole(width, height)
    reach = () if look == 1 else (LENGTH, ROOM)
    views = {}
    for condition in conditions:
        poses = sample_poses(seed, count, "all" if same_poses else condition, *reach)
        views[condition] = [
            street.render(pose, condition, camera, noise_seed=index).image for index, pose in enumerate(poses)
        ]
    return views


def view_street(seed: int, width: int, look: int = 1) -> Street:
    """The street of the views, with textures as fine as images of ``width`` pixels can show."""
    return open_street(seed, LENGTH, min(64, max(8, width // 8)), look)
