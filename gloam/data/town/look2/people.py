"""People on the pavement: two upright silhouettes that cross, so that they are seen from every side."""

from __future__ import annotations

import cv2
import numpy as np

from gloam.data.town.surfaces import Float32, Surface, Texture
from gloam.data.town.textures import Rng, colour, fill, pack

TEXELS = 64  # per metre, whatever the town's, as of cars


def person(rng: Rng, x: float, y: float, floor: float) -> list[Surface]:
    """Surfaces of one person.

    Args:
        rng: decides stature, clothes and stance.
        x, y: where; floor: height of the ground there, metres.
    """
    height, width = float(rng.uniform(1.55, 1.9)), 0.7
    rows, columns = max(round(height * TEXELS), 12), max(round(width * TEXELS), 5)
    coat, trousers = colour(rng, (0.0, 0.7), (0.05, 0.7)), colour(rng, (0.0, 0.5), (0.05, 0.4))
    skin, hair = colour(rng, (0.0, 0.1), (0.3, 0.8)) * (1, 0.85, 0.75), colour(rng, (0.1, 0.5), (0.05, 0.4))
    surfaces = []
    for axis in (0, 1):
        mask = np.zeros((rows, columns), np.uint8)
        canvas = fill(rows, columns, coat)

        def part(
            shape: list[tuple[float, float]], rgb: Float32, canvas: Float32 = canvas, mask: Texture = mask
        ) -> None:
            points = np.array([(u * columns, v * rows) for u, v in shape]).round().astype(np.int32)
            cv2.fillPoly(mask, [points], 1)
            cv2.fillPoly(canvas, [points], [float(v) for v in rgb])

        stride, slim = float(rng.uniform(0.02, 0.14)), float(rng.uniform(0.8, 1.1))
        for side in (-1, 1):
            hip, foot = 0.5 + side * 0.06, 0.5 + side * (0.07 + stride)
            part([(hip - 0.09, 0.5), (hip + 0.09, 0.5), (foot + 0.07, 1), (foot - 0.07, 1)], trousers)
            hand = 0.5 + side * (0.3 * slim + stride)
            shoulder = 0.5 + side * 0.2 * slim
            part([(shoulder - 0.06, 0.2), (shoulder + 0.06, 0.2), (hand + 0.05, 0.53), (hand - 0.05, 0.53)], coat * 0.9)
        low, high = 0.2 * slim, 0.24 * slim
        part([(0.5 - high, 0.18), (0.5 + high, 0.18), (0.5 + low, 0.56), (0.5 - low, 0.56)], coat)
        centre, radius = (columns // 2, int(0.085 * rows)), max(int(0.065 * rows), 1)
        for target, ink in ((mask, 1), (canvas, [float(v) for v in skin])):
            cv2.ellipse(target, centre, (max(int(radius * 0.8), 1), radius), 0, 0, 360, ink, -1)
        cv2.ellipse(canvas, centre, (max(int(radius * 0.8), 1), radius), 0, 150, 390, [float(v) for v in hair], -1)
        texture = pack(canvas + rng.normal(0, 0.015, (rows, columns, 1)).astype(np.float32))
        middle, other = (x, y) if axis == 0 else (y, x)
        for facing in (-1, 1):
            low_corner, high_corner = (other - width / 2, floor), (other + width / 2, floor + height)
            surfaces.append(
                Surface(axis, middle + facing * 1e-3, facing, low_corner, high_corner, texture, cutout=mask > 0)
            )
    return surfaces
