"""R-MAC: the largest values of overlapping square regions at three sizes, each made a unit vector, summed (Tolias et
al. 2016, section 3.2).

Where the regions lie depends on an image's aspect. It is computed in whole numbers from sizes alone and kept as masks,
so that an exported graph takes images of any size, and padded batches their valid sizes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gloam.networks.masks import Masks

LEVELS = 3  # regions of a half, a third and a quarter of twice the shorter side
MOST_MORE = 6  # regions that the longer side may have more than the shorter
EPSILON = 1e-6  # beside a region's length


class RMAC(nn.Module):
    """The sum of the unit vectors of the whole map and of its regions, over valid cells alone."""

    def forward(self, x: Tensor, masks: Masks | None = None) -> Tensor:
        """Float ``[B, C, H, W]`` to ``[B, C]``, not of unit length."""
        if masks is None:
            one = torch.ones(1, dtype=torch.int64, device=x.device)
            heights, widths = one * x.shape[2], one * x.shape[3]
        else:
            heights, widths = masks.heights, masks.widths
        short = torch.minimum(heights, widths)
        more = more_regions(short, torch.maximum(heights, widths) - short)
        more_rows = torch.where(heights > widths, more, torch.zeros_like(more))
        more_columns = torch.where(widths > heights, more, torch.zeros_like(more))
        everywhere = _windows(heights, heights, heights.clamp(max=1), 1, x.shape[2])
        across = _windows(widths, widths, widths.clamp(max=1), 1, x.shape[3])
        total = _regions(x, everywhere, across)
        for level in range(1, LEVELS + 1):
            side = torch.div(2 * short, level + 1, rounding_mode="trunc")
            rows = _windows(heights, side, level + more_rows, level + MOST_MORE, x.shape[2])
            columns = _windows(widths, side, level + more_columns, level + MOST_MORE, x.shape[3])
            total = total + _regions(x, rows, columns)
        return total


def more_regions(short: Tensor, extra: Tensor) -> Tensor:
    """How many regions the longer side has more than the shorter, 1 to 6: those whose neighbours overlap by nearest to
    40 %, the fewer of equal ones.

    Args:
        short: the shorter side, int64 ``[B]``.
        extra: what the longer one is longer by, int64 ``[B]``.
    """
    found, least = torch.ones_like(short), (3 * short - 5 * extra).abs() * 60
    for count in range(2, MOST_MORE + 1):
        # |1 - extra / (count short) - 0.4|, times 300 short: whole numbers, which tie where fractions do.
        distance = (3 * count * short - 5 * extra).abs() * (60 // count)
        nearer = distance < least
        found = torch.where(nearer, torch.full_like(found, count), found)
        least = torch.minimum(distance, least)
    return found


def _windows(length: Tensor, side: Tensor, count: Tensor, most: int, cells: int) -> Tensor:
    """Which cells of an axis lie in each of its windows, bool ``[B, most, cells]``; none where there are fewer windows.

    Args:
        length: of the axis, int64 ``[B]``.
        side, count: of the windows, which are spread evenly from end to end, int64 ``[B]``.
        most: windows that any image has at most.
        cells: of the padded axis.
    """
    index = torch.arange(most, device=length.device)[None]
    start = torch.div(index * (length - side)[:, None], (count - 1).clamp(min=1)[:, None], rounding_mode="trunc")
    at = torch.arange(cells, device=length.device)[None, None]
    inside = (at >= start[..., None]) & (at < (start + side[:, None])[..., None])
    return inside & (index < count[:, None])[..., None]


def _regions(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The sum ``[B, C]`` of the unit vectors of the largest values in every window of rows and columns."""
    narrow = _largest(x, columns).transpose(2, 3)  # [B, C, columns, H]
    found = _largest(narrow, rows)  # [B, C, columns, rows]
    there = columns.any(2)[:, None, :, None] & rows.any(2)[:, None, None, :]
    found = torch.where(there, found, torch.zeros_like(found))
    units: Tensor = found / (torch.linalg.vector_norm(found, dim=1, keepdim=True) + EPSILON)
    return units.sum((2, 3))


def _largest(x: Tensor, windows: Tensor) -> Tensor:
    """The largest value in each window of the last axis, ``[B, C, H, n]``."""
    spread: Tensor = x[:, :, :, None].masked_fill(~windows[:, None, None], torch.finfo(x.dtype).min)
    return spread.amax(-1)
