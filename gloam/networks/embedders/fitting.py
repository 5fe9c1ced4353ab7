"""Resizing inside the graph, on normalised floats, as some networks' authors do it: from each image's own size, so that
padding stays exact.

A resize is a weighted mean, so it gives the same before the normalisation and behind it, but for float32's rounding;
what tells it from a caller's is that nothing is rounded to whole levels, nor clipped where a bicubic kernel overshoots.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from gloam.networks.masks import Masks, sides
from gloam.networks.resampling import Filter, antialias_matrix


@dataclass(frozen=True)
class Fitting:
    """Sizes that a graph resizes images to, with antialias.

    Attributes:
        stretch: exact (width, height), whatever the aspect; or None.
        multiple: both sides to the nearest multiple, a half to the even number, one at least.
        filter: of the resizing.
    """

    stretch: tuple[int, int] | None = None
    multiple: int = 1
    filter: Filter = "bilinear"

    @classmethod
    def named(cls, name: str, kind: Filter) -> Fitting:
        """By a network's option: ``322x322`` or ``multiple-14``.

        Raises:
            ValueError: no such name.
        """
        if exact := re.fullmatch(r"(\d{2,4})x(\d{2,4})", name):
            return cls((int(exact[1]), int(exact[2])), 1, kind)
        if (nearest := re.fullmatch(r"multiple-(\d{1,3})", name)) and int(nearest[1]) > 0:
            return cls(None, int(nearest[1]), kind)
        raise ValueError(f"resize {name!r}: write e.g. 322x322 or multiple-14")

    def into(self, cell: int) -> bool:
        """Whether the sides that come out are multiples of a cell."""
        return not any(side % cell for side in self.stretch or (self.multiple,))

    def __call__(self, images: Tensor, masks: Masks | None = None) -> tuple[Tensor, Masks | None]:
        """Float ``[B, C, H, W]`` to the sizes, and the masks of what comes; None where every image fills it."""
        heights, widths = sides(images, masks)
        if self.stretch is not None:
            wide, high = self.stretch
            rows = antialias_matrix(torch.full_like(heights, high), heights, high, images.shape[2], self.filter)
            columns = antialias_matrix(torch.full_like(widths, wide), widths, wide, images.shape[3], self.filter)
            return rows[:, None] @ images @ columns[:, None].mT, None
        made = []
        for sources, most in ((heights, images.shape[2]), (widths, images.shape[3])):
            counts = (sources.to(torch.float32) / self.multiple).round().to(torch.int64).clamp(min=1) * self.multiple
            # Room for the half that is rounded up, and for the one multiple.
            room = (most + self.multiple // 2) // self.multiple * self.multiple
            made.append((counts, antialias_matrix(counts, sources, room, most, self.filter)))
        (tall, rows), (broad, columns) = made
        resized = rows[:, None] @ images @ columns[:, None].mT
        batch = images.shape[0]
        return resized, Masks.of(tall.expand(batch), broad.expand(batch), resized)
