"""A map of what was paired: images by domain, pairs as lines, test regions and what lies in the gap around them."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from gloam.data.weak_pairs.split import PARTS, Region
from gloam.files import printable, write_bytes

SIDE, MARGIN, LEGEND = 1400, 60, 330  # pixels
WHITE, INK, PAIR, GAP, TEST = (255, 255, 255), (40, 40, 40), (150, 150, 150), (205, 205, 205), (0, 0, 0)
Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


def draw_map(
    path: Path,
    plane: Array,
    labels: Indices,
    parts: Indices,
    pairs: Indices,
    domains: Sequence[str],
    regions: Sequence[Region] = (),
    axes: tuple[str, str] = ("x", "y"),
) -> None:
    """Write a PNG.

    Args:
        path: to write.
        plane: positions along the map's two axes, float64 ``[n, 2]``, metres.
        labels: place of each image's domain in ``domains``, int64 ``[n]``.
        parts: place of each image's part in :data:`gloam.data.weak_pairs.split.PARTS`, int64 ``[n]``.
        pairs: rows of ``plane``, int64 ``[q, 2]``.
        domains: names.
        regions: of the test.
        axes: names of the two axes.
    """
    low, high = plane.min(axis=0), plane.max(axis=0)
    scale = (SIDE - 2 * MARGIN) / max(float((high - low).max()), 1.0)
    extent = np.maximum((high - low) * scale, 200)  # a street along one axis still has a map
    width, height = (int(value) + 2 * MARGIN for value in extent)
    height = max(height, 2 * MARGIN + 30 * (len(domains) + 5))
    picture = Image.new("RGB", (width + LEGEND, height), WHITE)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(16)

    def places(points: Array) -> list[tuple[float, float]]:
        moved = (points - (low + high) / 2) * scale * (1, -1) + (width / 2, height / 2)
        return [(float(x), float(y)) for x, y in moved]

    at = places(plane)
    for first, second in pairs.tolist():
        draw.line([at[first], at[second]], fill=PAIR, width=3)
    colours = [_colour(place, len(domains)) for place in range(len(domains))]
    for row, (x, y) in enumerate(at):
        colour = GAP if PARTS[parts[row]] == "gap" else colours[labels[row]]
        draw.ellipse([x - 2, y - 2, x + 2, y + 2], fill=colour)
    for region in regions:
        corners = places(region.corners)
        draw.line([*corners, corners[0]], fill=TEST, width=2)
    _corners(draw, font, low, high, places(np.stack([low, high])), axes)
    draw.rectangle([width, 0, width + LEGEND, height], fill=WHITE)
    counts = np.bincount(labels[parts != PARTS.index("gap")], minlength=len(domains))
    lines = [(colours[place], f"{name}: {counts[place]}") for place, name in enumerate(domains)]
    lines.append((PAIR, f"pairs: {len(pairs)}"))
    if regions:
        lines += [(TEST, "test regions"), (GAP, f"in the gap: {int((parts == PARTS.index('gap')).sum())}")]
    for place, (colour, text) in enumerate(lines):
        y = MARGIN + 30 * place
        draw.rectangle([width + 10, y + 3, width + 24, y + 17], fill=colour)
        draw.text((width + 34, y), printable(text)[:34], fill=INK, font=font)
    _scale_bar(draw, font, scale, (width + 10, MARGIN + 30 * (len(lines) + 1)))
    encoded = io.BytesIO()
    picture.save(encoded, "PNG")
    write_bytes(path, encoded.getvalue())


def _colour(place: int, count: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(place / count, 0.85, 0.85 if place % 2 == 0 else 0.6)
    return round(red * 255), round(green * 255), round(blue * 255)


def _corners(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    low: Array,
    high: Array,
    at: list[tuple[float, float]],
    axes: tuple[str, str],
) -> None:
    """The frame of all positions, with its corners' numbers, from which regions can be read off."""
    (left, bottom), (right, top) = at
    draw.rectangle([left - 8, top - 8, right + 8, bottom + 8], outline=PAIR)
    draw.text((left - 8, bottom + 12), f"{axes[0]} {low[0]:.1f}, {axes[1]} {low[1]:.1f}", fill=INK, font=font)
    text = f"{axes[0]} {high[0]:.1f}, {axes[1]} {high[1]:.1f}"
    draw.text((max(right + 8 - draw.textlength(text, font=font), 0), top - 30), text, fill=INK, font=font)


def _scale_bar(
    draw: ImageDraw.ImageDraw, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, scale: float, at: tuple[int, int]
) -> None:
    most = (LEGEND - 80) / scale
    power = 10.0 ** np.floor(np.log10(most))
    metres = max(step * power for step in (1, 2, 5) if step * power <= most)
    x, y = at
    draw.line([(x, y + 10), (x + metres * scale, y + 10)], fill=INK, width=3)
    draw.text((x, y + 16), f"{metres:g} m", fill=INK, font=font)
