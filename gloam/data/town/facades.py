"""Facades: floors of windows, doors, shop fronts, signs and posters painted over a wall of one style.

A street has a handful of styles, and houses of one style look alike; what tells them apart is their signs, posters,
curtains, stains and which windows are lit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gloam.data.town.surfaces import Opening, Texture
from gloam.data.town.textures import WALLS, Float32, Rng, colour, fill, lettering, pack, panel, wall, wall_colour

GRID = 0.125  # openings start and end on this grid, metres: their ids are looked up in cells of this size


@dataclass(frozen=True)
class Style:
    """What houses of one kind have in common; lengths in metres."""

    kind: str
    rgb: Float32
    trim: Float32
    frame: Float32
    floor: float
    window: tuple[float, float]
    pitch: float
    bars: tuple[int, int]
    shutters: bool
    recess: float
    band: float
    base: float


def draw_style(rng: Rng) -> Style:
    """A random style."""
    return Style(
        kind=str(rng.choice(WALLS)),
        rgb=wall_colour(rng),
        trim=np.clip(wall_colour(rng) * rng.uniform(0.8, 1.3), 0.1, 0.95),
        frame=colour(rng, (0.0, 0.5), (0.2, 0.95)),
        floor=float(rng.uniform(2.8, 3.5)),
        window=(float(rng.uniform(0.8, 1.5)), float(rng.uniform(1.2, 2.0))),
        pitch=float(rng.uniform(1.9, 3.0)),
        bars=(int(rng.integers(1, 4)), int(rng.integers(1, 4))),
        shutters=bool(rng.random() < 0.35),
        recess=float(rng.uniform(0.1, 0.3)),
        band=float(rng.uniform(0.1, 0.3)),
        base=float(rng.uniform(0.3, 0.8)),
    )


def snap(value: float) -> float:
    """``value`` on the grid of openings."""
    return round(value / GRID) * GRID


class FacadePainter:
    """Paints one facade: colour canvas, emission mask, openings."""

    def __init__(
        self, rng: Rng, style: Style, alphabet: npt.NDArray[np.uint8], width: float, height: float, texels: int
    ) -> None:
        self.rng, self.style, self.alphabet, self.texels = rng, style, alphabet, texels
        self.width, self.height = width, height
        self.grain = rng.spawn(1)[0]  # draws that depend on the resolution; the layout must not
        rows, columns = max(round(height * texels), 2), max(round(width * texels), 2)
        rgb = np.clip(style.rgb * rng.uniform(0.9, 1.1) + rng.normal(0, 0.02, 3), 0.1, 0.95).astype(np.float32)
        self.canvas = wall(self.grain, style.kind, rows, columns, texels, rgb)
        self.emission = np.zeros((rows, columns), np.float32)
        self.openings: list[Opening] = []

    def box(self, left: float, top: float, right: float, bottom: float) -> tuple[slice, slice]:
        """Rows and columns of a rectangle in metres."""
        rows, columns = self.emission.shape
        y0, y1 = (int(np.clip(round(v * self.texels), 0, rows)) for v in (top, bottom))
        x0, x1 = (int(np.clip(round(v * self.texels), 0, columns)) for v in (left, right))
        return slice(y0, y1), slice(x0, x1)

    def paint(self, left: float, top: float, right: float, bottom: float, rgb: Float32) -> None:
        """Fill a rectangle and keep a little of the wall's grain."""
        area = self.canvas[self.box(left, top, right, bottom)]
        if area.size:
            area[:] = rgb + (area - area.mean(axis=(0, 1))) * 0.5

    def glass(self, left: float, top: float, right: float, bottom: float, lit: float) -> None:
        """A pane: a dim room with curtains and things on the sill, lit or not."""
        area = self.canvas[self.box(left, top, right, bottom)]
        rows, columns = area.shape[:2]
        if not rows or not columns:
            return
        rng = self.grain
        area[:] = colour(rng, (0.1, 0.4), (0.12, 0.28)) + np.linspace(0.22, 0.0, rows)[:, None, None] * rng.random()
        curtain = colour(rng, (0.0, 0.5), (0.45, 0.95))
        folds = 0.1 * np.sin(np.arange(columns) * rng.uniform(0.4, 1.2))[None, :, None]
        for side in (0, 1):
            if rng.random() < 0.7:
                depth = int(columns * rng.uniform(0.1, 0.4))
                cut = slice(0, depth) if side == 0 else slice(columns - depth, columns)
                area[:, cut] = (curtain + folds)[:, cut]
        for _ in range(int(rng.integers(0, 4))):
            x, h = int(rng.integers(0, columns)), int(rows * rng.uniform(0.1, 0.4))
            w = max(int(columns * rng.uniform(0.06, 0.2)), 1)
            area[rows - h :, x : x + w] = colour(rng, (0.1, 0.9), (0.1, 0.8))
        if lit > 0:
            fade = np.linspace(1.0, rng.uniform(0.5, 0.9), rows)[:, None]
            self.emission[self.box(left, top, right, bottom)] = lit * fade

    def window(self, left: float, top: float, width: float, height: float, lit_share: float = 0.35) -> None:
        """A recessed window with frame, bars, sill, lintel and perhaps shutters."""
        left, top, right, bottom = snap(left), snap(top), snap(left + width), snap(top + height)
        style, rng = self.style, self.rng
        if right - left < 0.4 or left < 0.1 or right > self.width - 0.1 or not self.free(left, top, right, bottom):
            return
        if style.shutters:
            reach = (right - left) * 0.4
            for x0, x1 in ((left - reach, left - 0.02), (right + 0.02, right + reach)):
                self.paint(x0, top, x1, bottom, style.frame)
                for slat in np.arange(top, bottom, 0.11):
                    self.paint(x0 + 0.04, slat, x1 - 0.04, slat + 0.035, style.frame * 0.6)
        self.paint(left - 0.1, top - 0.16, right + 0.1, top, style.trim)
        self.paint(left - 0.12, bottom, right + 0.12, bottom + 0.1, style.trim * 1.05)
        self.paint(left - 0.12, bottom + 0.1, right + 0.12, bottom + 0.16, style.rgb * 0.55)  # the sill's shadow
        self.paint(left, top, right, bottom, style.frame)
        lit = float(rng.uniform(0.45, 1.0)) if rng.random() < lit_share else 0.0
        across, down = style.bars
        xs, ys = np.linspace(left, right, across + 1), np.linspace(top, bottom, down + 1)
        self.glass(left + 0.05, top + 0.05, right - 0.05, bottom - 0.05, lit)
        for x in xs[1:-1]:
            self.bar(x - 0.03, top, x + 0.03, bottom)
        for y in ys[1:-1]:
            self.bar(left, y - 0.03, right, y + 0.03)
        self.openings.append(Opening(left, top, right, bottom, style.recess))

    def free(self, left: float, top: float, right: float, bottom: float) -> bool:
        """Whether a rectangle touches no opening."""
        return all(left >= o.right or right <= o.left or top >= o.bottom or bottom <= o.top for o in self.openings)

    def bar(self, left: float, top: float, right: float, bottom: float) -> None:
        """A glazing bar: the frame's colour, never lit."""
        area = self.box(left, top, right, bottom)
        self.canvas[area] = self.style.frame
        self.emission[area] = 0

    def door(self, left: float, bottom: float, width: float = 1.0, height: float = 2.1) -> None:
        """A panelled door in a deeper recess."""
        left, top, right = snap(left), snap(bottom - height), snap(left + width)
        rgb = colour(self.rng, (0.3, 0.9), (0.2, 0.6))
        self.paint(left - 0.15, top - 0.2, right + 0.15, bottom, self.style.trim)
        self.paint(left, top, right, bottom, rgb)
        rows, columns = int(self.rng.integers(2, 5)), int(self.rng.integers(1, 3))
        for i in range(rows):
            for j in range(columns):
                x, y = left + (right - left) * (j + 0.15) / columns, top + (bottom - top) * (i + 0.15) / rows
                w, h = (right - left) * 0.7 / columns, (bottom - top) * 0.7 / rows
                self.paint(x, y, x + w, y + h, rgb * float(self.rng.uniform(0.55, 0.8)))
        self.openings.append(Opening(left, top, right, snap(bottom), self.style.recess + 0.1))

    def sign(self, left: float, top: float, width: float, height: float, lit: float) -> None:
        """A board with a name in the street's alphabet."""
        rows, columns = self.box(left, top, left + width, top + height)
        h, w = rows.stop - rows.start, columns.stop - columns.start
        if h < 4 or w < 8:
            return
        board, ink = colour(self.grain, (0.4, 0.95), (0.1, 0.5)), colour(self.grain, (0.0, 0.5), (0.75, 0.98))
        if self.grain.random() < 0.4:
            board, ink = ink, board
        margin = max(h // 7, 1)
        mask = np.zeros((h, w), np.float32)
        inner = mask[margin : h - margin, margin : w - margin]
        inner[:] = lettering(self.grain, self.alphabet, *inner.shape)
        self.canvas[rows, columns] = fill(h, w, board) * (1 - mask[..., None]) + ink * mask[..., None]
        self.emission[rows, columns] = lit * (0.35 + 0.65 * mask)

    def poster(self, left: float, top: float, width: float, height: float) -> None:
        """A poster on the wall."""
        rows, columns = self.box(left, top, left + width, top + height)
        h, w = rows.stop - rows.start, columns.stop - columns.start
        if h > 6 and w > 6:
            self.canvas[rows, columns] = panel(self.grain, self.alphabet, h, w)

    def upper_floors(self, eaves: float, ground: float) -> None:
        """Rows of windows between ``eaves`` (metres from the top) and the ground floor (``ground`` metres high)."""
        style, rng = self.style, self.rng
        columns = max(int((self.width - 0.6) / style.pitch), 1)
        pitch = self.width / columns
        bottom = self.height - ground
        while bottom - style.floor > eaves - 0.3:
            top = bottom - style.floor
            self.paint(0, bottom - style.band / 2, self.width, bottom + style.band / 2, style.trim)
            for column in range(columns):
                x = (column + 0.5) * pitch - style.window[0] / 2 + rng.normal(0, 0.05)
                if rng.random() < 0.94:
                    self.window(x, top + (style.floor - style.window[1]) * 0.45, *style.window)
            bottom = top
        self.paint(0, eaves, self.width, eaves + style.band * 1.5, style.trim * 0.95)
        self.paint(0, eaves + style.band * 1.5, self.width, eaves + style.band * 2.2, style.rgb * 0.5)

    def shop(self, ground: float) -> None:
        """A ground floor with display windows, a door and a lit name."""
        rng, floor = self.rng, self.height
        door = float(rng.uniform(0.3, max(self.width - 1.5, 0.4)))
        self.door(door, floor, 1.0, 2.25)
        for left, right in ((0.35, door - 0.25), (door + 1.25, self.width - 0.35)):
            count = max(int((right - left) / 2.2), 1)
            step = (right - left) / count
            for i in range(count):
                if step > 0.8:
                    self.window(left + i * step, floor - 2.55, step - 0.2, 2.0, lit_share=0.75)
        share = float(rng.uniform(0.55, 0.95))
        lit = float(rng.uniform(0.6, 1.0)) if rng.random() < 0.75 else 0.0
        start = float(rng.uniform(0.2, self.width * (1 - share) + 0.2))
        self.sign(start, floor - ground + 0.15, self.width * share - 0.4, float(rng.uniform(0.45, 0.75)), lit)

    def house(self) -> None:
        """A ground floor with a door, windows and posters."""
        rng, style, floor = self.rng, self.style, self.height
        columns = max(int((self.width - 0.6) / style.pitch), 1)
        pitch = self.width / columns
        chosen = int(rng.integers(0, columns))
        for column in range(columns):
            x = (column + 0.5) * pitch
            if column == chosen:
                self.door(x - 0.5, floor)
                self.sign(x + 0.75, floor - 2.2, 0.45, 0.3, 0.0)
            elif rng.random() < 0.8:
                self.window(
                    x - style.window[0] / 2,
                    floor - 0.95 - style.window[1] * 0.8,
                    style.window[0],
                    style.window[1] * 0.8,
                )
            else:
                self.poster(x - 0.5, floor - 2.1, float(rng.uniform(0.6, 1.1)), float(rng.uniform(0.8, 1.3)))

    def posters(self, count: int) -> None:
        """Small bills at eye level, between whatever else is there."""
        for _ in range(count):
            x = float(self.rng.uniform(0.1, max(self.width - 0.7, 0.2)))
            y = self.height - float(self.rng.uniform(1.3, 2.2))
            w, h = (float(v) for v in self.rng.uniform(0.25, 0.6, 2))
            if self.free(x, y, x + w, y + h):
                self.poster(x, y, w, h)

    def finish(self) -> Texture:
        """The packed texture, darker towards the pavement and at both edges."""
        rows, columns = self.emission.shape
        foot = np.clip((np.arange(rows)[::-1] / self.texels) / 0.5, 0, 1)
        side = np.clip(np.minimum(np.arange(columns), np.arange(columns)[::-1]) / self.texels / 0.25, 0, 1)
        shade = (0.75 + 0.25 * foot)[:, None] * (0.85 + 0.15 * side)[None, :]
        return pack(self.canvas * shade[..., None].astype(np.float32), self.emission)


def paint_facade(
    rng: Rng,
    style: Style,
    alphabet: npt.NDArray[np.uint8],
    size: tuple[float, float],
    texels: int,
    eaves: float = 0.0,
    shop: bool = False,
) -> tuple[Texture, list[Opening]]:
    """A street front.

    Args:
        size: width and height, metres, gable included.
        eaves: metres from the top at which the wall proper begins.
        shop: display windows and a lit sign on the ground floor.

    Returns:
        texture uint8 ``[h, w, 4]`` and the openings in it.
    """
    painter = FacadePainter(rng, style, alphabet, *size, texels)
    ground = float(rng.uniform(3.3, 3.9))
    painter.paint(0, size[1] - style.base, size[0], size[1], style.trim * 0.7)
    painter.upper_floors(eaves, ground)
    if shop:
        painter.shop(ground)
    else:
        painter.house()
    painter.posters(int(rng.integers(1, 5)))
    return painter.finish(), painter.openings


def paint_side(
    rng: Rng, style: Style, alphabet: npt.NDArray[np.uint8], size: tuple[float, float], texels: int, windows: bool
) -> tuple[Texture, list[Opening]]:
    """A side wall: bare with a painted advertisement, or with a few windows where it lines a side street."""
    painter = FacadePainter(rng, style, alphabet, *size, texels)
    painter.paint(0, size[1] - style.base, size[0], size[1], style.trim * 0.7)
    if windows:
        painter.upper_floors(0.0, 3.5)
        painter.posters(3)
    elif size[0] > 1.5:
        width = min(size[0] * 0.7, 4.0)
        painter.poster(size[0] * 0.15, size[1] * 0.15, width, min(width * 0.8, size[1] * 0.5))
    return painter.finish(), painter.openings
