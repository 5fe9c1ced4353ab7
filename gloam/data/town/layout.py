"""The plan of a street: two rows of houses, a crossing, pavements, furniture and lamps, all from one seed."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gloam.data.town.facades import Style, draw_style, paint_facade, paint_side, snap
from gloam.data.town.ground import paint_box, paint_cobbles, paint_kerb, paint_pavement, paint_road
from gloam.data.town.surfaces import Lamp, Plan, Surface, Texture
from gloam.data.town.textures import Rng, glyphs, pack, panel

MARGIN = 22.0  # the street goes on this far beyond both ends of the surveyed length, metres
KERB = 0.12
DEPTH = 14.0  # of the side street, from the facades to where houses close it


@dataclass
class Builder:
    """Collects the surfaces of one street."""

    rng: Rng
    texels: int
    alphabet: npt.NDArray[np.uint8]
    styles: list[Style]
    surfaces: list[Surface] = field(default_factory=list)
    lamps: list[Lamp] = field(default_factory=list)
    buildings: list[tuple[float, ...]] = field(default_factory=list)

    def width(self) -> float:
        """Of the next house, metres."""
        return float(self.rng.uniform(5.5, 9.5))

    def paint(self) -> Rng:
        """A generator for one texture: what it draws depends on the resolution, and must not move the layout."""
        return self.rng.spawn(1)[0]

    def flat(self, height: float, x: tuple[float, float], y: tuple[float, float], texture: Texture) -> None:
        """A horizontal rectangle that is seen from above."""
        self.surfaces.append(Surface(2, height, 1, (x[0], y[0]), (x[1], y[1]), texture))

    def upright(self, axis: int, offset: float, facing: int, span: tuple[float, float], top: float) -> Surface:
        """A bare vertical rectangle from the ground to ``top``; the caller paints it."""
        blank = np.zeros((1, 1, 4), np.uint8)
        surface = Surface(axis, offset, facing, (span[0], 0.0), (span[1], top), blank)
        self.surfaces.append(surface)
        return surface

    def front(
        self, axis: int, offset: float, facing: int, span: tuple[float, float], style: Style, shop: bool
    ) -> Surface:
        """A street front with windows, at times gabled."""
        rng = self.rng
        wall = snap(float(3.6 + style.floor * rng.integers(1, 4) + rng.uniform(0.3, 0.9)))
        gable = snap(float(rng.uniform(1.2, 3.2))) if rng.random() < 0.45 else 0.0
        surface = self.upright(axis, offset, facing, span, wall + gable)
        surface.gable, surface.gable_shape = gable, str(rng.choice(("triangle", "steps")))
        surface.texture, surface.openings = paint_facade(
            rng, style, self.alphabet, surface.size, self.texels, eaves=gable, shop=shop
        )
        red, green, blue = (float(factor) for factor in rng.uniform(0.75, 1.25, 3))
        surface.tint = (red, 0.76 * green, 0.42 * blue)
        return surface

    def side(self, x: float, facing: int, span: tuple[float, float], top: float, style: Style, windows: bool) -> None:
        """A side wall at ``x``."""
        surface = self.upright(0, x, facing, span, top)
        surface.texture, surface.openings = paint_side(
            self.rng, style, self.alphabet, surface.size, self.texels, windows
        )

    def lantern(self, x: float, y: float, height: float) -> float:
        """What shines on top of a lamp post; returns the share of its power that it gives."""
        self.box((x - 0.18, y - 0.18, height), (x + 0.18, y + 0.18, height + 0.32), glow=1.0)
        return 1.0

    def box(self, low: tuple[float, float, float], high: tuple[float, float, float], glow: float = 0.0) -> None:
        """A closed box; ``glow`` is its emission, 0 to 1."""
        for axis in (0, 1, 2):
            u, v = (a for a in (0, 1, 2) if a != axis)
            size = (high[u] - low[u], high[v] - low[v])
            for facing in (-1, 1):
                if axis == 2 and facing < 0 and low[2] <= KERB:
                    continue
                offset = high[axis] if facing > 0 else low[axis]
                texture = paint_box(self.paint(), self.alphabet, size, self.texels)
                if glow:
                    texture = pack(np.ones((4, 4, 3), np.float32), np.full((4, 4), glow, np.float32))
                self.surfaces.append(Surface(axis, offset, facing, (low[u], low[v]), (high[u], high[v]), texture))


def plan_street(seed: int, length: float, texels: int, kind: type[Builder] = Builder) -> Plan:
    """Lay out and paint a street.

    Args:
        seed: everything follows from it; other seeds share nothing.
        length: of the surveyed part, metres; it runs from x = 0 to x = length.
        texels: texels per metre.
        kind: how its pieces are built.
    """
    rng = np.random.default_rng([seed, 101])
    builder = kind(rng, texels, glyphs(rng), [draw_style(rng) for _ in range(int(rng.integers(5, 8)))])
    half = float(rng.uniform(5.6, 6.6))
    pavement = float(rng.uniform(1.6, 2.1))
    middle = length * float(rng.uniform(0.38, 0.62))
    crossing = (snap(middle - float(rng.uniform(2.8, 3.6))), snap(middle + float(rng.uniform(2.8, 3.6))))
    start, end = -MARGIN, length + MARGIN
    for row in (1, -1):
        for low, high in ((start, crossing[0]), (crossing[1], end)):
            build_row(builder, row, half, low, high, crossing)
        style = builder.styles[int(rng.integers(len(builder.styles)))]
        builder.front(1, row * (half + DEPTH), -row, (crossing[0] - 4.0, crossing[1] + 4.0), style, False)
    for offset, facing in ((start, 1), (end, -1)):
        style = builder.styles[int(rng.integers(len(builder.styles)))]
        builder.front(0, offset, facing, (-half - 2.0, half + 2.0), style, True)
    lay_ground(builder, half, pavement, crossing, (start, end))
    furnish(builder, half, pavement, crossing, length)
    buildings = np.array(builder.buildings)
    return Plan(builder.surfaces, builder.lamps, length, half, half - pavement, crossing, buildings, builder.alphabet)


def build_row(builder: Builder, row: int, half: float, low: float, high: float, crossing: tuple[float, float]) -> None:
    """Houses side by side from ``low`` to ``high`` on one side (``row`` +1 left, -1 right) of the street."""
    rng = builder.rng
    edges = [low]
    while high - edges[-1] > 11.0:
        edges.append(snap(edges[-1] + builder.width()))
    edges.append(high)
    previous: tuple[float, float, Style] | None = None
    for left, right in itertools.pairwise(edges):
        index = int(rng.integers(len(builder.styles)))
        style, shop = builder.styles[index], bool(rng.random() < 0.45)
        setback = float(rng.choice((0.0, 0.0, 0.35, 0.7, 1.1)))
        plane = row * (half + setback)
        front = builder.front(1, plane, -row, (left, right), style, shop)
        builder.buildings.append((row, left, right - left, front.high[1], index))
        wall = front.high[1] - front.gable
        if previous is not None:
            part(builder, row, half, left, previous, (setback, wall, style))
        previous = (setback, wall, style)
        for corner, facing in ((left, -1), (right, 1)):
            if corner in crossing and (corner == crossing[0]) == (facing == 1):
                span = sorted((plane, row * (half + DEPTH)))
                builder.side(corner, facing, (span[0], span[1]), wall, style, True)
        decorate(builder, row, plane, left, right, shop)


def part(
    builder: Builder,
    row: int,
    half: float,
    x: float,
    left: tuple[float, float, Style],
    right: tuple[float, float, Style],
) -> None:
    """The walls that two neighbours, each (setback, wall height, style), show beside each other at ``x``."""
    for own, other, facing in ((left, right, 1), (right, left, -1)):
        if own[1] > other[1]:
            back = own[0] + 6.0  # the taller house rises above its neighbour's roof
        elif own[0] < other[0]:
            back = other[0]
        else:
            continue
        span = sorted((row * (half + own[0]), row * (half + back)))
        builder.side(x, facing, (span[0], span[1]), own[1], own[2], False)


def decorate(builder: Builder, row: int, plane: float, left: float, right: float, shop: bool) -> None:
    """Hanging signs, and the light that a shop throws on the pavement."""
    rng = builder.rng
    if rng.random() < 0.7:
        x, reach, drop = (
            float(rng.uniform(left + 0.5, right - 0.5)),
            float(rng.uniform(0.6, 1.0)),
            float(rng.uniform(0.5, 1.1)),
        )
        bottom = float(rng.uniform(2.7, 3.6))
        lit = float(rng.uniform(0.5, 0.9)) if rng.random() < 0.6 else 0.0
        span = sorted((plane - row * 0.15, plane - row * (0.15 + reach)))
        for offset, facing in ((x, -1), (x + 0.08, 1)):
            texture = hanging_sign(builder, reach, drop, lit)
            builder.surfaces.append(Surface(0, offset, facing, (span[0], bottom), (span[1], bottom + drop), texture))
    if shop:
        glow = (1.0, float(rng.uniform(0.65, 0.9)), float(rng.uniform(0.3, 0.7)))
        builder.lamps.append(
            Lamp(((left + right) / 2, plane - row * 1.2, 2.2), glow, float(rng.uniform(0.8, 1.6)), False)
        )


def hanging_sign(builder: Builder, width: float, height: float, lit: float) -> Texture:
    """A board of glyphs that hangs across the pavement."""
    rows, columns = max(round(height * builder.texels), 8), max(round(width * builder.texels), 8)
    canvas = panel(builder.paint(), builder.alphabet, rows, columns)
    return pack(canvas, np.full((rows, columns), lit, np.float32))


def lay_ground(
    builder: Builder, half: float, pavement: float, crossing: tuple[float, float], ends: tuple[float, float]
) -> None:
    """Road, raised pavements with kerbs, and the side street."""
    rng, texels = builder.rng, min(builder.texels, 48)
    kerb = half - pavement
    span, setback = ends[1] - ends[0], 1.2
    zebra = (crossing[0] - ends[0] - 3.5, float(rng.uniform(0.2, 0.8)) * span)
    builder.flat(0.0, ends, (-kerb, kerb), paint_road(builder.paint(), (span, 2 * kerb), texels, zebra))
    for row in (1, -1):
        for low, high in ((ends[0], crossing[0]), (crossing[1], ends[1])):
            size = (high - low, pavement + setback)
            y = sorted((row * kerb, row * (half + setback)))
            builder.flat(KERB, (low, high), (y[0], y[1]), paint_pavement(builder.paint(), size, texels))
            kerbstone = Surface(
                1, row * kerb, -row, (low, 0.0), (high, KERB), paint_kerb(builder.paint(), (high - low, KERB), texels)
            )
            builder.surfaces.append(kerbstone)
        for corner, facing in ((crossing[0], 1), (crossing[1], -1)):
            y = sorted((row * kerb, row * (half + setback)))
            stone = paint_kerb(builder.paint(), (pavement + setback, KERB), texels)
            builder.surfaces.append(Surface(0, corner, facing, (y[0], 0.0), (y[1], KERB), stone))
        y = sorted((row * kerb, row * (half + DEPTH)))
        size = (crossing[1] - crossing[0], y[1] - y[0])
        builder.flat(0.0, crossing, (y[0], y[1]), paint_cobbles(builder.paint(), size, texels))


def furnish(builder: Builder, half: float, pavement: float, crossing: tuple[float, float], length: float) -> None:
    """Lamp posts along both kerbs, and boxes, bins and cabinets on the pavements."""
    rng = builder.rng
    kerb = half - pavement
    spacing = float(rng.uniform(11.0, 15.0))
    for index, at in enumerate(np.arange(-MARGIN + spacing / 2, length + MARGIN, spacing / 2)):
        row, x = (1 if index % 2 else -1), float(at + rng.uniform(-1, 1))
        if crossing[0] - 0.5 < x < crossing[1] + 0.5:
            continue
        y, height = row * (kerb + 0.35), float(rng.uniform(4.2, 5.0))
        builder.box((x - 0.06, y - 0.06, KERB), (x + 0.06, y + 0.06, height))
        share = builder.lantern(x, y, height)
        warm = (1.0, float(rng.uniform(0.6, 0.75)), float(rng.uniform(0.25, 0.42)))
        builder.lamps.append(Lamp((x, y - row * 0.1, height - 0.1), warm, share * float(rng.uniform(7.0, 12.0))))
    for x in np.arange(-8.0, length + 8.0, 4.5):
        if rng.random() < 0.55:
            place = float(x + rng.uniform(0, 3))
            row = int(rng.choice((-1, 1)))
            w, d, h = float(rng.uniform(0.4, 1.3)), float(rng.uniform(0.3, 0.6)), float(rng.uniform(0.6, 1.5))
            if crossing[0] < place + w and place < crossing[1]:
                continue
            near = sorted((row * (half - 0.05), row * (half - 0.05 - d)))
            builder.box((place, near[0], KERB), (place + w, near[1], KERB + h))
