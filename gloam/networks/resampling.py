"""Resampling as matrices: a row per output cell, its weights on the input's cells, made in the graph from each image's
own sizes. So one batch holds images of several sizes, and no ``Resize`` node is needed, whose antialias TensorRT lacks.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Filter = Literal["bilinear", "bicubic"]


def antialias_matrix(counts: Tensor, sources: Tensor, rows: int, columns: int, kind: Filter = "bicubic") -> Tensor:
    """torch's ``interpolate`` with ``antialias`` to an exact size, as Pillow resizes: the kernel (cubic with a = -0.5,
    or a triangle) is widened by the reduction, and the weights inside the image are brought to a sum of 1.

    Args:
        counts: cells of the output of each image, int64 ``[B]``.
        sources: cells of its input, int64 ``[B]``.
        rows, columns: of the matrix, the largest output and input of the batch.
        kind: of the kernel.

    Returns:
        float32 ``[B, rows, columns]``; nothing but zeros from the image's own ``sources`` on. Rows from ``counts`` on
        are finite.
    """
    places = torch.arange(rows, device=counts.device)
    ratio = (sources.to(torch.float32) / counts.to(torch.float32))[:, None, None]
    centre = ratio * (places.to(torch.float32) + 0.5)[None, :, None]
    taps = torch.arange(columns, device=counts.device)
    distance = (taps.to(torch.float32) + 0.5 - centre) / ratio.clamp(min=1.0)
    weights = cubic(distance, -0.5) if kind == "bicubic" else (1 - distance.abs()).clamp(min=0.0)
    weights = weights * (taps[None] < sources[:, None]).to(torch.float32)[:, None]
    # A row that is of no image may sum to 0.
    inside = (places[None] < counts[:, None])[..., None]
    return weights / torch.where(inside, weights.sum(2, keepdim=True), 1.0)


def offset_matrix(counts: Tensor, rows: int, table: int, kept: Tensor) -> Tensor:
    """DINOv2's first rule for a table of positions: bicubic (a = -0.75) without antialias by the factor
    ``(count + 0.1) / table``, taps beyond the table moved onto its border.

    Args:
        counts: cells of each image, int64 ``[B]``.
        rows: of the matrix, the largest of them.
        table: entries of the table.
        kept: whether an image takes the table as it is, bool ``[B]``.

    Returns:
        float32 ``[B, rows, table]``; rows from ``counts`` on are finite.
    """
    cells = counts.to(torch.float32)
    # Of whole numbers, so that the ratio is rounded once, as torch's is.
    step = torch.where(kept, torch.ones_like(cells), 10 * table / (10 * cells + 1))[:, None, None]
    places = torch.arange(rows, device=counts.device).to(torch.float32)[None, :, None]
    source = step * (places + 0.5) - 0.5
    taps = torch.arange(-2, table + 2, device=counts.device).to(torch.float32)
    weights = cubic(source - taps, -0.75)
    first, last = weights[..., :3].sum(2, keepdim=True), weights[..., -3:].sum(2, keepdim=True)
    return torch.cat((first, weights[..., 3:-3], last), 2)


def cubic(x: Tensor, a: float) -> Tensor:
    """Keys' kernel (1981) of any shape; 0 from a distance of 2 on."""
    x = x.abs()
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
