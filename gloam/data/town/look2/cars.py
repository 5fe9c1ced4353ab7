"""Parked cars: painted sides cut out along a profile, and between them steps that follow it."""

from __future__ import annotations

import cv2
import numpy as np

from gloam.data.town.surfaces import Float32, Surface
from gloam.data.town.textures import Rng, colour, fill, pack

GLASS = np.array([0.1, 0.12, 0.14], np.float32)
FLOOR = 0.22  # height of the underside, metres
TEXELS = 48  # per metre, whatever the town's: outlines are geometry, and must not move with the textures' resolution
STEP = 0.1  # rise of the steps that stand for bonnet, windscreen and rear, metres

# Share of the length and height in metres of the roof line, from bumper to bumper.
PROFILES = {
    "saloon": ((0, 0.7), (0.02, 0.8), (0.27, 0.92), (0.42, 1.42), (0.7, 1.44), (0.86, 1.0), (0.98, 0.95), (1, 0.7)),
    "hatchback": ((0, 0.65), (0.02, 0.8), (0.24, 0.95), (0.4, 1.47), (0.85, 1.47), (0.97, 0.95), (1, 0.7)),
    "van": ((0, 0.8), (0.02, 0.95), (0.12, 1.15), (0.24, 1.9), (0.99, 1.95), (1, 1.8)),
}


def parked_car(rng: Rng, x: float, y: float, forward: bool) -> list[Surface]:
    """Surfaces of one car.

    Args:
        rng: decides kind, size and paint.
        x, y: of its middle, metres; it stands along x.
        forward: whether its nose points along +x.
    """
    kind = str(rng.choice(tuple(PROFILES), p=(0.4, 0.45, 0.15)))
    length, width = (float(rng.uniform(*span)) for span in (((4.8, 5.3) if kind == "van" else (3.7, 4.6)), (1.68, 1.8)))
    grey = rng.random() < 0.6
    paint = colour(rng, (0.0, 0.08) if grey else (0.3, 0.75), (0.1, 0.9) if grey else (0.2, 0.7))
    shares, heights = np.array(PROFILES[kind]).T
    along = shares * length
    canvas, mask = paint_side(rng, kind, (length, float(heights.max())), along, heights, paint)
    left, right = x - length / 2, x + length / 2
    surfaces = []
    for facing in (-1, 1):
        side = Surface(1, y + facing * width / 2, facing, (left, 0.0), (right, float(heights.max())), pack(canvas))
        # Textures run from left to right as seen; the nose is at the canvas's left.
        turned = side.flipped == forward
        side.texture = np.ascontiguousarray(side.texture if turned else side.texture[:, ::-1])
        side.cutout = mask if turned else mask[:, ::-1]
        surfaces.append(side)
    for start, end, low, high in steps(along, heights):
        x0, x1 = (right - end, right - start) if forward else (left + start, left + end)
        middle = (start + end) / 2
        glazed = low > FLOOR and (1.2 if kind == "van" else 1.0) < high < heights.max() - STEP
        y0, y1 = y - width / 2 + 0.01, y + width / 2 - 0.01
        top = GLASS if glazed else paint
        surfaces.append(Surface(2, high, 1, (x0, y0), (x1, y1), plain(rng, top)))
        front = middle < length / 2
        facing = 1 if front == forward else -1
        face = Surface(0, x1 if facing > 0 else x0, facing, (y0, low), (y1, high), plain(rng, top))
        if low <= FLOOR:
            face.texture = paint_end(rng, paint, front, high)
        surfaces.append(face)
    shade = plain(rng, np.array([0.05, 0.05, 0.05], np.float32))
    surfaces.append(
        Surface(2, 0.012, 1, (left + 0.1, y - width / 2 + 0.05), (right - 0.1, y + width / 2 - 0.05), shade)
    )
    return surfaces


def steps(along: Float32, heights: Float32) -> list[tuple[float, float, float, float]]:
    """Slabs below the roof line, none higher than it: where each begins and ends, and its riser's foot and top.

    The front half's risers face forward, the rear half's backward.
    """
    rise = np.arange(float(heights[0]), float(heights.max()), STEP)
    crest = int(np.argmax(heights))
    front = [(float(np.interp(level, heights[: crest + 1], along[: crest + 1])), float(level)) for level in rise]
    back = heights[::-1][: len(heights) - crest], along[::-1][: len(heights) - crest]
    rear = [
        (float(np.interp(level, *back)), float(level)) for level in np.arange(float(heights[-1]), back[0].max(), STEP)
    ]
    slabs = []
    for corners in (front, rear):
        for place, (at, level) in enumerate(corners):
            following = corners[place + 1][0] if place + 1 < len(corners) else float(along[crest])
            low = FLOOR if place == 0 else corners[place - 1][1]
            if abs(following - at) > 1e-3:
                slabs.append((min(at, following), max(at, following), low, level))
    return slabs


def plain(rng: Rng, rgb: Float32) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A small texture of one colour with a little dirt, uint8 ``[4, 4, 4]``."""
    return pack(np.clip(fill(4, 4, rgb) + rng.normal(0, 0.015, (4, 4, 1)).astype(np.float32), 0.02, 0.97))


def paint_end(rng: Rng, paint: Float32, front: bool, high: float) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Bumper, lamps and number plate of an end that is ``high`` metres high, uint8 ``[32, 64, 4]``."""
    rows = 32
    canvas = fill(rows, 64, paint)

    def at(height: float) -> int:
        return int(np.clip((high - height) / (high - FLOOR) * rows, 0, rows))

    canvas[at(0.42) :] = paint * 0.55
    lamp = np.array([0.85, 0.86, 0.85] if front else [0.55, 0.06, 0.05], np.float32)
    canvas[at(0.66) : at(0.54), 3:14] = canvas[at(0.66) : at(0.54), 50:61] = lamp
    canvas[at(0.44) : at(0.32), 23:41] = (0.9, 0.9, 0.86)
    for place in range(25, 39, 3):
        if rng.random() < 0.8:
            canvas[at(0.42) : at(0.34), place : place + 2] = 0.1
    return pack(canvas)


def paint_side(
    rng: Rng, kind: str, size: tuple[float, float], along: Float32, heights: Float32, paint: Float32
) -> tuple[Float32, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]:
    """A side, nose to the left: colours float32 ``[h, w, 3]`` and where there is car, bool ``[h, w]``."""
    rows, columns = round(size[1] * TEXELS), round(size[0] * TEXELS)
    canvas, mask = fill(rows, columns, paint), np.zeros((rows, columns), np.uint8)

    def pixels(points: list[tuple[float, float]]) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
        return np.array([(x * TEXELS, rows - z * TEXELS) for x, z in points]).round().astype(np.int32)

    outline = list(zip(along.tolist(), heights.tolist(), strict=True))
    cv2.fillPoly(mask, [pixels([(0, FLOOR), *outline, (size[0], FLOOR)])], 1)
    belt = 1.25 if kind == "van" else 0.96
    cabin = [
        (x + (0.06 if x < size[0] / 2 else -0.06), min(z - 0.07, size[1] - 0.09)) for x, z in outline if z > belt + 0.1
    ]
    if kind == "van":
        cabin = [(0.17 * size[0], belt), (0.26 * size[0], 1.75), (0.36 * size[0], 1.75), (0.36 * size[0], belt)]
    else:
        cabin = [(cabin[0][0] - 0.3, belt), *cabin, (cabin[-1][0] + 0.3, belt)]
    cv2.fillPoly(canvas, [pixels(cabin)], tuple(float(v) for v in GLASS))
    for share in (0.43, 0.62):
        column = int(share * columns)
        canvas[rows - int(size[1] * TEXELS) : rows - int(0.3 * TEXELS), column : column + max(TEXELS // 40, 1)] *= 0.4
    canvas[rows - int(0.34 * TEXELS) :] *= 0.6
    radius = 0.31
    for share in (0.18, 0.82):
        centre = (int(share * columns), rows - int(radius * TEXELS))
        cv2.circle(canvas, centre, int((radius + 0.05) * TEXELS), (0.03, 0.03, 0.03), -1)
        cv2.circle(canvas, centre, int(radius * 0.62 * TEXELS), (0.45, 0.45, 0.46), -1)
        cv2.circle(canvas, centre, int(radius * 0.2 * TEXELS), (0.15, 0.15, 0.15), -1)
        cv2.circle(mask, centre, int(radius * TEXELS), 1, -1)
    canvas += rng.normal(0, 0.01, (rows, columns, 1)).astype(np.float32)
    return canvas, mask > 0
