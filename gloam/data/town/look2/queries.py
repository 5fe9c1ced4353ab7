"""Query poses of the second look: along the street, turned wide to the houses, and against the traffic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gloam.data.scene import Pose
from gloam.data.town.sampling import AHEAD, camera_pose, clear_of
from gloam.errors import DataError

KINDS = ("along", "wide", "reversed", "wide")  # by turns
ROOM = 1.5  # metres from the middle of the road; parked cars begin further out


def changing_query_poses(seed: int, length: float, count: int, mapping: Sequence[Pose]) -> list[Pose]:
    """Query views, spread evenly along the street, at places and headings that no mapping view has.

    ``along`` looks down the street, ``wide`` is turned by 27 to 42 degrees, ``reversed`` drives on the lane that was
    mapped the other way.

    Args:
        count: number of poses.
        mapping: what they must keep clear of.

    Raises:
        DataError: no such pose was found in some stretch of the street.
    """
    rng = np.random.default_rng([seed, 404, 2])
    poses: list[Pose] = []
    for index in range(count):
        kind = KINDS[index % len(KINDS)]
        for _ in range(500):
            back = int(rng.integers(2))
            x = (index + rng.uniform(0.1, 0.9)) / count * (length - AHEAD - 3) + (AHEAD if back else 3)
            turn, y = float(rng.uniform(-6, 6)), float(rng.uniform(-ROOM, ROOM))
            if kind == "wide":
                turn = float(rng.choice((-1, 1))) * float(rng.uniform(27, 42))
            elif kind == "reversed":
                y = (-1 if back else 1) * float(rng.uniform(0.3, ROOM))  # +x is mapped on the right, at negative y
            height, pitch, roll = float(rng.uniform(1.4, 2.0)), float(rng.uniform(0, 8)), float(rng.normal(0, 2))
            pose = camera_pose(float(x), y, height, 180.0 * back + turn, pitch, roll)
            if clear_of(pose, mapping):
                poses.append(pose)
                break
        else:
            raise DataError(
                f"no query pose is clear of the mapping views near {index / count * length:.0f} m; use another seed"
            )
    return poses
