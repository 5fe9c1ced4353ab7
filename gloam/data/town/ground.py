"""The ground: a road with markings, patches and manholes, pavements of slabs, a cobbled side street."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from gloam.data.town.surfaces import Texture
from gloam.data.town.textures import Float32, Rng, blocks, colour, crack, lettering, noise, pack, weathered


def asphalt(rng: Rng, height: int, width: int, texels: int) -> Float32:
    """Asphalt with mended trenches, cracks and drains, float32 ``[height, width, 3]``."""
    tone = float(rng.uniform(0.3, 0.42))
    canvas = np.full((height, width, 3), tone, np.float32) * np.array([1.0, 1.0, rng.uniform(0.98, 1.06)], np.float32)
    metres = width / texels
    for _ in range(int(metres / 4)):
        left, top = rng.integers(0, width), rng.integers(0, height)
        w, h = int(rng.uniform(0.4, 3.0) * texels), int(rng.uniform(0.3, 1.5) * texels)
        canvas[top : top + h, left : left + w] *= np.float32(rng.uniform(0.75, 1.25))
    for _ in range(int(metres / 1.5)):
        crack(rng, canvas, texels)
    for _ in range(int(metres / 7)):
        manhole(rng, canvas, texels)
    canvas += noise(rng, height, width, 2.5, 1)[..., None] * 0.025
    return weathered(rng, canvas, texels, 0.03)


def manhole(rng: Rng, canvas: Float32, texels: int) -> None:
    """Draw an iron cover with a pattern of bars."""
    height, width = canvas.shape[:2]
    radius = int(rng.uniform(0.28, 0.42) * texels)
    x, y = (
        int(rng.integers(radius, max(width - radius, radius + 1))),
        int(rng.integers(radius, max(height - radius, radius + 1))),
    )
    tone = float(rng.uniform(0.12, 0.3))
    cv2.circle(canvas, (x, y), radius, (tone, tone, tone * 0.95), -1, cv2.LINE_AA)
    for offset in np.linspace(-0.7, 0.7, int(rng.integers(3, 7))) * radius:
        reach = int(np.sqrt(max(radius * radius * 0.8 - offset * offset, 0)))
        row = round(y + offset)
        cv2.line(canvas, (x - reach, row), (x + reach, row), (tone + 0.2,) * 3, max(texels // 24, 1), cv2.LINE_AA)


def paint_road(rng: Rng, size: tuple[float, float], texels: int, crossings: tuple[float, ...]) -> Texture:
    """The main road, its centre line along the middle.

    Args:
        size: length and width, metres.
        crossings: where zebra crossings start, metres from the left end.
    """
    width, height = round(size[0] * texels), round(size[1] * texels)
    canvas = asphalt(rng, height, width, texels)
    paint = np.zeros((height, width), np.float32)
    dash, gap = rng.uniform(1.2, 3.0), rng.uniform(1.5, 4.0)
    middle, half = height // 2, max(int(0.06 * texels), 1)
    for start in np.arange(rng.uniform(0, 2), size[0], dash + gap):
        paint[middle - half : middle + half, int(start * texels) : int((start + dash) * texels)] = 1
    edge = int(0.25 * texels)
    paint[edge : edge + half] = paint[height - edge - half : height - edge] = 1
    for start in crossings:
        span = slice(int(start * texels), int((start + 3.0) * texels))
        paint[:, span] = ((np.arange(height) / texels / 0.5).astype(int) % 2)[:, None]
    paint *= np.clip(0.75 + 0.25 * noise(rng, height, width, texels / 6, 4), 0, 1)  # worn
    canvas = canvas * (1 - paint[..., None]) + 0.82 * paint[..., None]
    return pack(canvas)


def paint_pavement(rng: Rng, size: tuple[float, float], texels: int) -> Texture:
    """Slabs, some replaced, some stained."""
    width, height = round(size[0] * texels), round(size[1] * texels)
    rgb = colour(rng, (0.02, 0.15), (0.45, 0.65))
    slab = (float(rng.uniform(0.35, 0.8)), float(rng.uniform(0.3, 0.6)))
    canvas = blocks(rng, height, width, texels, slab, rgb, 0.05, 0.015)
    for _ in range(int(size[0] / 2)):
        centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        shade = [float(c) for c in rgb * rng.uniform(0.6, 0.9)]
        axes = (int(rng.uniform(0.03, 0.2) * texels) + 1, int(rng.uniform(0.03, 0.15) * texels) + 1)
        cv2.ellipse(canvas, centre, axes, 0, 0, 360, shade, -1, cv2.LINE_AA)
    return pack(weathered(rng, canvas, texels, 0.04))


def paint_cobbles(rng: Rng, size: tuple[float, float], texels: int) -> Texture:
    """Cobbles of a side street."""
    width, height = round(size[0] * texels), round(size[1] * texels)
    rgb = colour(rng, (0.03, 0.15), (0.35, 0.5))
    side = float(rng.uniform(0.14, 0.22))
    canvas = blocks(rng, height, width, texels, (side, side), rgb, 0.07, 0.025)
    return pack(weathered(rng, canvas, texels, 0.04))


def paint_kerb(rng: Rng, size: tuple[float, float], texels: int) -> Texture:
    """Kerb stones, seen from the road."""
    width, height = round(size[0] * texels), max(round(size[1] * texels), 2)
    canvas = blocks(rng, height, width, texels, (1.0, 1.0), colour(rng, (0.0, 0.1), (0.6, 0.75)), 0.06, 0.02)
    return pack(weathered(rng, canvas, texels, 0.03))


def paint_box(rng: Rng, alphabet: npt.NDArray[np.uint8], size: tuple[float, float], texels: int) -> Texture:
    """One side of a piece of street furniture: painted metal with seams, rust and a label."""
    width, height = max(round(size[0] * texels), 4), max(round(size[1] * texels), 4)
    rgb = colour(rng, (0.2, 0.8), (0.25, 0.8))
    canvas = blocks(rng, height, width, texels, (max(size[0] / 2, 0.2), max(size[1] / 3, 0.2)), rgb, 0.04, 0.02)
    if min(width, height) > 24:
        h = height // 4
        top, shade = int(rng.integers(0, height - h)), colour(rng, (0.0, 0.5), (0.05, 0.95))
        mask = lettering(rng, alphabet, h, width)[..., None]
        canvas[top : top + h] = canvas[top : top + h] * (1 - mask) + shade * mask
    return pack(weathered(rng, canvas, texels, 0.05))
