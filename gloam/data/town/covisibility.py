"""Which mapping views see what a query sees, from exact depth: the town's retrieval ground truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gloam.data.scene import Camera, Pose
from gloam.data.town.surfaces import Float32

STRIDE = 6  # every sixth pixel of the query is followed
SCALE = 1.6  # a point counts where both views see it at scales within this factor; beyond it features do not match
POSITIVE = 0.30  # share of the query's surface pixels that a positive also sees
JUNK = 0.10  # from this share up to POSITIVE a view is neither right nor wrong


def covisible_share(
    depth: Float32, pose: Pose, other_depth: Float32, other: Pose, camera: Camera, stride: int = STRIDE
) -> float:
    """Share of a view's surface pixels that another view sees too, at a similar scale, 0 to 1.

    Args:
        depth, pose: the view; depth ``[h, w]`` in metres, 0 for sky.
        other_depth, other: the other view, of the same ``camera`` (PINHOLE).
        stride: every so many pixels are followed, in both directions.
    """
    fx, fy, cx, cy = camera.params
    rows, columns = (
        axis.ravel() for axis in np.mgrid[stride // 2 : camera.height : stride, stride // 2 : camera.width : stride]
    )
    z = depth[rows, columns].astype(np.float64)
    solid = z > 0
    if not solid.any():
        return 0.0
    z, rows, columns = z[solid], rows[solid], columns[solid]
    points = np.stack([(columns + 0.5 - cx) / fx * z, (rows + 0.5 - cy) / fy * z, z], axis=1)
    world = (points - np.asarray(pose.translation)) @ pose.rotation
    seen = other.transform(world)
    front = seen[:, 2] > 0.1
    x = np.floor(seen[front, 0] / seen[front, 2] * fx + cx).astype(int)
    y = np.floor(seen[front, 1] / seen[front, 2] * fy + cy).astype(int)
    inside = (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
    expected = seen[front, 2][inside]
    there = other_depth[y[inside], x[inside]]
    # A pixel at a grazing angle spans a stretch of depth, so the tolerance grows with distance.
    same = np.abs(there - expected) < 0.1 + 0.03 * expected
    ratio = expected / z[front][inside]
    return float((same & (ratio < SCALE) & (ratio > 1 / SCALE)).sum() / z.size)


def grade(shares: Sequence[float]) -> dict[str, list[int]]:
    """Positives (``ok``) and ``junk`` of one query from its share with each mapping view."""
    return {
        "ok": [index for index, share in enumerate(shares) if share >= POSITIVE],
        "junk": [index for index, share in enumerate(shares) if JUNK <= share < POSITIVE],
    }
