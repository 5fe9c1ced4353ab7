"""Small charts as inline SVG that take their colours from the page, so that they follow its light and dark theme.

Every chart is drawn 360 units wide: about one unit is one pixel on a phone, which keeps its text readable there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape

from gloam.files import printable

WIDTH, HEIGHT = 360, 208
LEFT, RIGHT, TOP, BOTTOM = 40, 12, 12, 40
MAP_LIMITS = (90, 420)  # height of a map in units, whatever the shape of the place
SIDES = 8.0  # metres beside the outermost cameras, where what stands there is known

SHARES = ((0.0, "0%"), (0.25, "25%"), (0.5, "50%"), (0.75, "75%"), (1.0, "100%"))

Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """One line: ``x`` and ``y`` in data units; ``style`` is the number of its colour and dashes in the style sheet."""

    label: str
    style: int
    x: Sequence[float]
    y: Sequence[float]


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    x_ticks: Sequence[tuple[float, str]],
    log: bool = False,
    guides: Sequence[float] = (),
    step: bool = False,
    y_ticks: Sequence[tuple[float, str]] = SHARES,
) -> Markup:
    """Lines over x; of shares (y from 0 to 1) where no other ticks are given.

    Args:
        series: at least one.
        title: what a screen reader says.
        x_label: name and unit of x.
        x_ticks: (value, text), ascending; the first and last are the ends of the axis.
        log: logarithmic x.
        guides: x of dashed vertical lines.
        step: hold a value until the next x, as a cumulative distribution does.
        y_ticks: like ``x_ticks``; lines are cut off at both ends.
    """
    first, last = x_ticks[0][0], x_ticks[-1][0]
    bottom, top = y_ticks[0][0], y_ticks[-1][0]

    def across(value: float) -> float:
        low, high, at = (math.log(v) for v in (first, last, max(value, first))) if log else (first, last, value)
        return LEFT + (WIDTH - LEFT - RIGHT) * min(max((at - low) / ((high - low) or 1.0), 0.0), 1.0)

    def up(value: float) -> float:
        share = min(max((value - bottom) / ((top - bottom) or 1.0), 0.0), 1.0)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

    parts = [_open(title, HEIGHT)]
    for value, text in y_ticks:
        y = up(value)
        parts.append(_line(LEFT, y, WIDTH - RIGHT, y, "grid" if value > bottom else "axis"))
        parts.append(_text(LEFT - 6, y + 3.5, text, "end"))
    for guide in guides:
        parts.append(_line(across(guide), TOP, across(guide), HEIGHT - BOTTOM, "guide"))
    for value, text in x_ticks:
        # The last label would cross the edge of the picture.
        anchor = "end" if value == last else "middle"
        parts.append(_text(across(value) + (4 if value == last else 0), HEIGHT - BOTTOM + 15, text, anchor))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x_label, "middle", "name"))
    for entry in series:
        path = ""
        for x, y in zip(entry.x, entry.y, strict=True):
            if step and path:
                path += f"H{across(x):.1f}"
            path += f"{'L' if path else 'M'}{across(x):.1f} {up(y):.1f}"
        if len(entry.x) == 1:  # a line of one point would not be seen
            path += "m-4 0h8"
        parts.append(
            f'<path class="line s{entry.style}" d="{path}"><title>{escape(printable(entry.label))}</title></path>'
        )
    return Markup("".join(parts) + "</svg>")


def pose_map(
    true_xy: Points,  # [n, 2] metres, rows of NaN where not known
    estimated_xy: Points,  # [n, 2] metres, rows of NaN where not localized
    map_xy: Points,  # [m, 2] metres
    *,
    title: str,
    name: str,
    ground: Mapping[str, Points] | None = None,
) -> Markup:
    """Seen from above: map cameras as dots, true positions as discs, a line from each to its estimate.

    The longer side of the place lies across. Estimates beyond the frame are cut off; the line still leaves
    towards them. ``name`` makes the clip path unique on the page. ``ground``: rectangles ``[n, 4]`` (x, y of two
    corners, metres) by kind, beneath all.
    """
    ground = ground or {}
    frame = np.concatenate([true_xy, map_xy])
    frame = frame[np.isfinite(frame).all(axis=1)]
    if not len(frame):
        frame = np.zeros((1, 2))
    swap = bool(np.ptp(frame[:, 1]) > np.ptp(frame[:, 0]))
    if swap:  # by a quarter turn, for a mirrored street is another street
        true_xy, estimated_xy, map_xy, frame = (
            points[:, ::-1] * (1, -1) for points in (true_xy, estimated_xy, map_xy, frame)
        )
        ground = {kind: corners[:, [1, 0, 3, 2]] * (1, -1, 1, -1) for kind, corners in ground.items()}
    low, high = frame.min(axis=0), frame.max(axis=0)
    margin = max(0.06 * float((high - low).max()), 1.0)
    if ground:  # houses on both sides are seen
        margin = max(margin, SIDES)
    low, high = low - margin, high + margin
    scale = WIDTH / float(high[0] - low[0])
    height = float(np.clip((high[1] - low[1]) * scale, *MAP_LIMITS))
    middle = float(low[1] + high[1]) / 2

    def place(point: Points) -> tuple[float, float]:
        return float(point[0] - low[0]) * scale, height / 2 - float(point[1] - middle) * scale

    total = height + 24
    parts = [_open(title, total)]
    parts.append(f'<clipPath id="{escape(name)}"><rect width="{WIDTH}" height="{height:.0f}" rx="4"/></clipPath>')
    parts.append(f'<rect class="ground" width="{WIDTH}" height="{height:.0f}" rx="4"/>')
    parts.append(f'<g clip-path="url(#{escape(name)})">')
    for kind, rectangles in ground.items():
        for corners in rectangles:
            x1, y1 = place(np.array([min(corners[0], corners[2]), max(corners[1], corners[3])]))
            size = np.abs(corners[2:] - corners[:2]) * scale
            parts.append(
                f'<rect class="{escape(kind)}" x="{x1:.1f}" y="{y1:.1f}" width="{size[0]:.1f}" height="{size[1]:.1f}"/>'
            )
    for point in map_xy:
        x, y = place(point)
        parts.append(f'<circle class="mapped" cx="{x:.1f}" cy="{y:.1f}" r="1.6"/>')
    for true, estimate in zip(true_xy, estimated_xy, strict=True):
        parts += _posed(place(true) if np.isfinite(true).all() else None, estimate, place)
    parts.append("</g>")
    metres = _round_length(60 / scale)
    y = height + 14
    parts.append(_line(2, y, 2 + metres * scale, y, "scale"))
    parts.append(_text(8 + metres * scale, y + 4, f"{metres:g} m", "start"))
    return Markup("".join(parts) + "</svg>")


def _posed(
    true: tuple[float, float] | None, estimate: Points, place: Callable[[Points], tuple[float, float]]
) -> list[str]:
    """A query's truth, its estimate and the line between them."""
    parts = []
    if np.isfinite(estimate).all():
        # Far beyond the frame only the direction counts; keep the numbers printable.
        ex, ey = np.clip(place(estimate), -1e4, 1e4)
        if true is not None:
            parts.append(f'<path class="error" d="M{true[0]:.1f} {true[1]:.1f}L{ex:.1f} {ey:.1f}"/>')
        parts.append(f'<circle class="estimate" cx="{ex:.1f}" cy="{ey:.1f}" r="2.2"/>')
        if true is not None:
            parts.append(f'<circle class="truth" cx="{true[0]:.1f}" cy="{true[1]:.1f}" r="3.4"/>')
    elif true is not None:
        parts.append(f'<path class="lost" d="M{true[0] - 3:.1f} {true[1] - 3:.1f}l6 6m0 -6l-6 6"/>')
    return parts


def _round_length(metres: float) -> float:
    power = 10.0 ** math.floor(math.log10(metres))
    return max(step * power for step in (1, 2, 5) if step * power <= metres * 1.0001)


def _open(title: str, height: float) -> str:
    label = escape(printable(title))
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{label}"><title>{label}</title>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "tick") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(printable(text))}</text>'
