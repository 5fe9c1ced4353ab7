"""Photographs for contrastive training: several views of each of many places, on a street of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gloam.data.scene import Pose
from gloam.data.town.config import CONDITIONS
from gloam.data.town.look2.queries import ROOM
from gloam.data.town.looks import open_street
from gloam.data.town.sampling import camera_pose
from gloam.data.town.street import pinhole
from gloam.errors import UsageError

PLACE_SPACING = 9.0  # metres between places that look the same way along the street


@dataclass(frozen=True)
class TrainingViews:
    """Images with what is known of them, in the same order.

    Attributes:
        images: uint8 RGB ``[h, w, 3]`` each.
        places: place label of each image, int64 ``[n]``; unique within one street.
        conditions: of each image.
        poses: of each image.
    """

    images: list[npt.NDArray[np.uint8]]
    places: npt.NDArray[np.int64]
    conditions: list[str]
    poses: list[Pose]


def sample_places(
    seed: int, places: int, views_per_place: int, length: float, reach: float = 2.4
) -> tuple[list[Pose], list[int]]:
    """Poses in groups that see the same houses.

    Args:
        places: number of groups, spread along the street in both directions.
        views_per_place: poses per group, up to 1.5 m and 12 degrees from its middle.
        length: of the street, metres.
        reach: how far from the middle of the road the poses are at most, metres.

    Returns:
        poses and the place label of each, group by group.
    """
    rng = np.random.default_rng([seed, 505])
    poses, labels = [], []
    ways = (places + 1) // 2
    for place in range(places):
        direction, rank = 180.0 * (place % 2), place // 2
        middle = (rank + 0.5) / ways * length + float(rng.uniform(-0.5, 0.5))
        aside = float(rng.choice((-22.0, 0.0, 22.0)))
        for _ in range(views_per_place):
            x, y = middle + rng.uniform(-1.5, 1.5), rng.uniform(-reach, reach)
            yaw = direction + aside + rng.uniform(-12, 12)
            poses.append(
                camera_pose(
                    float(x),
                    float(y),
                    float(rng.uniform(1.4, 1.9)),
                    float(yaw),
                    float(rng.uniform(-1, 7)),
                    float(rng.normal(0, 2)),
                )
            )
            labels.append(place)
    return poses, labels


def render_training_views(
    seed: int,
    places: int,
    views_per_place: int,
    conditions: Sequence[str] = CONDITIONS,
    size: tuple[int, int] = (256, 192),
    look: int = 1,
) -> TrainingViews:
    """Photograph a street for training.

    Each place is seen under as many conditions as it has views for, beginning with the first of ``conditions``, so
    that every place has pairs across conditions. The street is long enough for its places to be distinct.

    Args:
        seed: of the street; never one that is evaluated on.
        places: number of places; views_per_place: photographs of each.
        conditions: drawn from by turns.
        size: width and height, pixels; the field of view is the town's.
        look: of the town; in the second, every condition is a visit of its own.

    Raises:
        UsageError: no places, views or conditions, or an unknown look.
    """
    if places < 1 or views_per_place < 1 or not conditions:
        raise UsageError("training views need at least one place, one view per place and one condition")
    length = max(30.0, (places + 1) // 2 * PLACE_SPACING)
    width, height = size
    street = open_street(seed, length, min(64, max(8, width // 8)), look)
    poses, labels = sample_places(seed, places, views_per_place, length, *(() if look == 1 else (ROOM,)))
    chosen = [conditions[index % views_per_place % len(conditions)] for index in range(len(poses))]
    camera = pinhole(width, height)
    images = [
        street.render(pose, condition, camera, noise_seed=index).image
        for index, (pose, condition) in enumerate(zip(poses, chosen, strict=True))
    ]
    return TrainingViews(images, np.array(labels, np.int64), chosen, poses)
