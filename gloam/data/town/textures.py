"""Procedural textures: noise, walls, grounds and glyphs, each from a random generator alone.

Colours are float32 RGB in [0, 1], the square root of reflectance, which is close to what a display shows.
"""

from __future__ import annotations

import colorsys

import cv2
import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Rng = np.random.Generator


def noise(rng: Rng, height: int, width: int, cells: float, octaves: int = 4) -> Float32:
    """Multi-scale noise float32 ``[height, width]``, mean about 0, standard deviation about 1.

    Args:
        cells: pixels per cell of the coarsest octave; each further octave halves it.
    """
    total = np.zeros((height, width), np.float32)
    weight, power = 1.0, 0.0
    for octave in range(octaves):
        step = max(cells / 2**octave, 1.0)
        small = rng.standard_normal((int(height / step) + 3, int(width / step) + 3), np.float32)
        scaled = cv2.resize(
            small, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC if step > 1 else cv2.INTER_NEAREST
        )
        row, column = rng.integers(0, max(int(step), 1), 2)
        total += weight * scaled[row : row + height, column : column + width]
        power += weight * weight
        weight *= 0.65
    return np.asarray(total / np.float32(0.75 * np.sqrt(power)), np.float32)


def colour(rng: Rng, saturation: tuple[float, float], value: tuple[float, float]) -> Float32:
    """A random RGB colour float32 ``[3]`` of any hue."""
    return np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value)), np.float32)


def wall_colour(rng: Rng) -> Float32:
    """A colour of masonry: mostly warm hues, seldom a painted blue or green, float32 ``[3]``."""
    hue = rng.uniform(0.01, 0.14) if rng.random() < 0.75 else rng.uniform(0.2, 0.65)
    return np.array(colorsys.hsv_to_rgb(hue, rng.uniform(0.12, 0.5), rng.uniform(0.5, 0.88)), np.float32)


def fill(height: int, width: int, rgb: Float32) -> Float32:
    """A canvas float32 ``[height, width, 3]`` of one colour."""
    canvas = np.empty((height, width, 3), np.float32)
    canvas[:] = rgb
    return canvas


def blocks(
    rng: Rng,
    height: int,
    width: int,
    texels: int,
    block: tuple[float, float],
    rgb: Float32,
    spread: float,
    joint: float,
) -> Float32:
    """Courses of bricks, ashlar or paving in running bond, float32 ``[height, width, 3]``.

    Args:
        block: width and height of a block, metres.
        spread: standard deviation of the blocks' brightness.
        joint: width of the joint, metres; darker or lighter than the blocks.
    """
    across, down = block
    rows = np.arange(height) / texels / down
    row = rows.astype(np.int32)
    shift = np.where(row % 2 == 1, 0.5, 0.0) + rng.uniform(-0.12, 0.12, row.max() + 1)[row]
    columns = np.arange(width)[None, :] / texels / across + shift[:, None] + 1
    column = columns.astype(np.int32)
    tone = rng.normal(0, spread, (row.max() + 1, column.max() + 1)).astype(np.float32)
    hue = rng.normal(0, spread * 0.35, (row.max() + 1, column.max() + 1, 3)).astype(np.float32)
    canvas = rgb + tone[row[:, None], column][..., None] + hue[row[:, None], column]
    edge = ((rows - row) * down < joint)[:, None] | ((columns - column) * across < joint)
    canvas[edge] = rgb * rng.uniform(0.55, 0.75) if rng.random() < 0.6 else np.clip(rgb * 1.25, 0, 0.92)
    return np.asarray(canvas, np.float32)


def plaster(rng: Rng, height: int, width: int, texels: int, rgb: Float32) -> Float32:
    """Painted render with patches where it was mended, float32 ``[height, width, 3]``."""
    canvas = fill(height, width, rgb)
    for _ in range(int(rng.integers(3, 9))):
        left, top = rng.integers(0, width), rng.integers(0, height)
        w, h = (rng.uniform(0.2, 1.8, 2) * texels).astype(int)
        canvas[top : top + h, left : left + w] += rng.normal(0, 0.06)
    for _ in range(int(rng.integers(3, 10))):
        crack(rng, canvas, texels)
    return canvas


def crack(rng: Rng, canvas: Float32, texels: int) -> None:
    """Draw one dark wandering line into ``canvas``."""
    height, width = canvas.shape[:2]
    steps = rng.normal(0, 0.25 * texels, (int(rng.integers(4, 12)), 2))
    steps[:, 1] += 0.12 * texels
    points = np.cumsum(steps, 0) + rng.uniform(0, 1, 2) * (width, height)
    tone = float(rng.uniform(0.15, 0.45))
    cv2.polylines(canvas, [points.astype(np.int32)], False, (tone, tone, tone), 1, cv2.LINE_AA)


def boards(rng: Rng, height: int, width: int, texels: int, rgb: Float32) -> Float32:
    """Horizontal weatherboards, float32 ``[height, width, 3]``."""
    pitch = rng.uniform(0.14, 0.24)
    rows = np.arange(height) / texels / pitch
    row = rows.astype(np.int32)
    tone = rng.normal(0, 0.035, row.max() + 1)[row] - 0.16 * (rows - row < 0.12) + 0.05 * (rows - row)
    return np.asarray(fill(height, width, rgb) + tone[:, None, None], np.float32)


def weathered(rng: Rng, canvas: Float32, texels: int, strength: float = 0.07) -> Float32:
    """Add grain, stains and dirt that runs down, at every scale down to a texel; in place, and returned."""
    height, width = canvas.shape[:2]
    grain = noise(rng, height, width, 2.0 * texels, 7) * strength
    runs = cv2.resize(noise(rng, max(height // 12, 1), width, 0.5 * texels, 4), (width, height)) * strength * 0.6
    canvas += (grain + runs)[..., None]
    return canvas


WALLS = ("brick", "plaster", "ashlar", "boards")


def wall(rng: Rng, kind: str, height: int, width: int, texels: int, rgb: Float32) -> Float32:
    """A bare wall of one of :data:`WALLS`, float32 ``[height, width, 3]``."""
    if kind == "brick":
        size = (rng.uniform(0.2, 0.28), rng.uniform(0.065, 0.09))
        canvas = blocks(rng, height, width, texels, size, rgb, 0.07, 0.012)
    elif kind == "ashlar":
        size = (rng.uniform(0.5, 0.9), rng.uniform(0.28, 0.42))
        canvas = blocks(rng, height, width, texels, size, rgb, 0.045, 0.02)
    elif kind == "boards":
        canvas = boards(rng, height, width, texels, rgb)
    else:
        canvas = plaster(rng, height, width, texels, rgb)
    return weathered(rng, canvas, texels)


def glyphs(rng: Rng, count: int = 14) -> npt.NDArray[np.uint8]:
    """A street's own alphabet: strokes and arcs, uint8 ``[count, 32, 24]``, 255 where there is ink."""
    alphabet = np.zeros((count, 32, 24), np.uint8)
    nodes = np.array([(x, y) for y in (4, 10, 16, 22, 28) for x in (4, 12, 20)])
    thickness = int(rng.integers(3, 6))
    for glyph in alphabet:
        for _ in range(int(rng.integers(2, 5))):
            first, second = nodes[rng.choice(len(nodes), 2, replace=False)].tolist()
            if rng.random() < 0.25:
                axes = (int(rng.integers(4, 9)), int(rng.integers(4, 12)))
                cv2.ellipse(
                    glyph, (12, 16), axes, 0, int(rng.integers(0, 180)), int(rng.integers(220, 400)), 255, thickness
                )
            else:
                cv2.line(glyph, first, second, 255, thickness)
    return alphabet


def lettering(rng: Rng, alphabet: npt.NDArray[np.uint8], height: int, width: int) -> Float32:
    """Glyphs in one row that fill a box, float32 ``[height, width]`` in [0, 1]."""
    count = int(np.clip(round(width / (height * 0.8)), 1, 11))
    row = np.concatenate([np.pad(alphabet[i], ((4, 4), (3, 3))) for i in rng.integers(0, len(alphabet), count)], axis=1)
    return np.asarray(cv2.resize(row, (width, height), interpolation=cv2.INTER_AREA), np.float32) / np.float32(255)


def panel(rng: Rng, alphabet: npt.NDArray[np.uint8], height: int, width: int) -> Float32:
    """A poster or painted panel: blots of colour below a line of glyphs, float32 ``[height, width, 3]``."""
    paper, ink = colour(rng, (0.1, 0.7), (0.55, 0.95)), colour(rng, (0.3, 0.9), (0.05, 0.45))
    canvas = fill(height, width, paper)
    for _ in range(int(rng.integers(2, 6))):
        centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        axes = (int(rng.integers(1, max(width // 3, 2))), int(rng.integers(1, max(height // 3, 2))))
        shade = [float(c) for c in colour(rng, (0.2, 0.9), (0.1, 0.95))]
        cv2.ellipse(canvas, centre, axes, float(rng.uniform(0, 180)), 0, 360, shade, -1, cv2.LINE_AA)
    line = max(height // 5, 1)
    top = int(rng.integers(0, max(height - line, 1)))
    mask = lettering(rng, alphabet, line, width)[..., None]
    band = canvas[top : top + line]
    band[:] = band * (1 - mask) + ink * mask
    return canvas


def pack(canvas: Float32, emission: Float32 | None = None) -> npt.NDArray[np.uint8]:
    """uint8 ``[h, w, 4]`` of a colour canvas ``[h, w, 3]`` and an emission mask ``[h, w]``, both in [0, 1]."""
    packed = np.zeros((*canvas.shape[:2], 4), np.uint8)
    packed[..., :3] = np.clip(canvas * 255 + 0.5, 4, 250)
    if emission is not None:
        packed[..., 3] = np.clip(emission * 255 + 0.5, 0, 255)
    return packed
