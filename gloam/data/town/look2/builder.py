"""How the second look builds a street's pieces: lanterns with panes, dead lamps, and houses that are built again."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np

from gloam.data.town.facades import Style
from gloam.data.town.layout import Builder
from gloam.data.town.look2.hours import LANTERN
from gloam.data.town.surfaces import Surface, Texture
from gloam.data.town.textures import fill, pack

WIDTHS = (5.5, 6.5, 7.5, 8.5)  # of houses, metres; few, so that a front finds a place of its size again
REPEATED = 0.45  # share of the fronts that copy an earlier one of the same width, signs and curtains included


@dataclass
class RepeatingBuilder(Builder):
    """Builds the street of the second look."""

    fronts: dict[tuple[float, bool], list[Surface]] = field(default_factory=dict)

    def width(self) -> float:
        """One of :data:`WIDTHS`."""
        return float(self.rng.choice(WIDTHS))

    def front(
        self, axis: int, offset: float, facing: int, span: tuple[float, float], style: Style, shop: bool
    ) -> Surface:
        """A street front, at times the copy of one that stands elsewhere in the street."""
        known = self.fronts.setdefault((span[1] - span[0], shop), [])
        if known and self.rng.random() < REPEATED:
            model = known[int(self.rng.integers(len(known)))]
            low, high = (span[0], 0.0), (span[1], model.high[1])
            copy = dataclasses.replace(model, axis=axis, offset=offset, facing=facing, low=low, high=high)
            self.surfaces.append(copy)
            return copy
        surface = super().front(axis, offset, facing, span, style, shop)
        known.append(surface)
        return surface

    def lantern(self, x: float, y: float, height: float) -> float:
        """Four panes in a frame below a cap; one in six is dark."""
        lit = self.rng.random() > 1 / 6
        for axis in (0, 1):
            centre, other = (x, y) if axis == 0 else (y, x)
            for facing in (-1, 1):
                low, high = (other - 0.14, height + 0.04), (other + 0.14, height + 0.36)
                surface = Surface(axis, centre + facing * 0.14, facing, low, high, pane(lit))
                surface.tint = (LANTERN, 0.72 * LANTERN, 0.4 * LANTERN)
                self.surfaces.append(surface)
        self.box((x - 0.1, y - 0.1, height - 0.04), (x + 0.1, y + 0.1, height + 0.04))
        self.box((x - 0.18, y - 0.18, height + 0.36), (x + 0.18, y + 0.18, height + 0.4))
        self.box((x - 0.09, y - 0.09, height + 0.4), (x + 0.09, y + 0.09, height + 0.48))
        return float(lit)


def pane(lit: bool) -> Texture:
    """Frosted glass in an iron frame, brightest in the middle where it is lit."""
    rows, columns = 32, 28
    canvas = fill(rows, columns, np.array([0.75, 0.76, 0.72], np.float32))
    y, x = np.mgrid[0:rows, 0:columns]
    middle = np.clip(1 - np.square((y - 17) / 16) * 0.8 - np.square((x - 13.5) / 14) * 0.5, 0, 1).astype(np.float32)
    frame = (y < 2) | (y >= rows - 2) | (x < 2) | (x >= columns - 2)
    canvas[frame] = 0.12
    return pack(canvas, np.where(frame, np.float32(0), middle * np.float32(lit)))
