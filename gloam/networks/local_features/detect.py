"""What detectors of keypoints share: local maxima, the strongest of them, places between pixels.

Pixels are counted from the centre of the first one, x to the right and y down. Nothing here needs an operator that a
backend lacks: no scatter, no list whose length depends on the image.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

TEMPERATURE = 0.1  # of the soft maximum around a keypoint (DKD)


def local_maxima(scores: Tensor, radius: int) -> Tensor:
    """Scores at local maxima, 0 elsewhere: twice, what is not near a maximum may be one itself.

    Args:
        scores: ``[B, H, W]``, not negative.
        radius: of the neighbourhood, pixels; it has ``2 radius + 1`` a side.
    """

    nothing = torch.zeros_like(scores)
    kept = peaks(scores, radius)
    for _ in range(2):
        near = functional.max_pool2d(kept[:, None].to(scores.dtype), 2 * radius + 1, 1, radius)[:, 0] > 0
        rest = torch.where(near, nothing, scores)
        kept = kept | (peaks(rest, radius) & ~near)
    return torch.where(kept, scores, nothing)


def without_border(scores: Tensor, border: int) -> Tensor:
    """``[B, H, W]`` with 0 in the outer ``border`` rows and columns."""
    height, width = scores.shape[1:]
    rows, columns = torch.arange(height, device=scores.device), torch.arange(width, device=scores.device)
    inside = ((rows >= border) & (rows < height - border))[:, None] & ((columns >= border) & (columns < width - border))
    return torch.where(inside, scores, torch.zeros_like(scores))


def peaks(scores: Tensor, radius: int) -> Tensor:
    """Whether each of ``[B, H, W]`` is the largest of ``2 radius + 1`` a side around it, bool; equal ones all are."""
    return scores == functional.max_pool2d(scores[:, None], 2 * radius + 1, 1, radius)[:, 0]


def cells_to_map(logits: Tensor) -> Tensor:
    """Logits ``[B, 65, h, w]`` of the 64 pixels of each cell, row by row, and of none of them, to shares
    ``[B, 8 h, 8 w]``."""
    return functional.pixel_shuffle(logits.softmax(1)[:, :-1], 8)[:, 0]


def at(maps: Tensor, places: Tensor) -> Tensor:
    """Values ``[B, N, C]`` of maps ``[B, C, H, W]`` at flat places, int64 ``[B, N]``."""
    channels = maps.shape[1]
    return maps.flatten(2).gather(2, places[:, None].expand(-1, channels, -1)).transpose(1, 2)


def strongest(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` largest, falling; of equal ones the first.

    Args:
        scores: ``[B, N]``, 0 where there is nothing; N may be less than ``count``.
        count: to find.

    Returns:
        scores ``[B, count]``, 0 where there are no more, and the places ``[B, count]`` in 0..N - 1, int64.
    """
    filled = functional.pad(scores, (0, count))  # a constant count for every size: TensorRT judges the largest
    if torch.compiler.is_compiling():
        found, order = filled.topk(count)  # ONNX's TopK has the smaller index first; torch's own promises nothing
    else:
        found, order = (item[:, :count] for item in filled.sort(dim=1, descending=True, stable=True))
    return found, torch.where(found > 0, order, torch.zeros_like(order))


def pixels(places: Tensor, width: int) -> Tensor:
    """Places in a flattened map to x, y: int64 ``[B, N]`` to float32 ``[B, N, 2]``."""
    rows = places // width
    return torch.stack((places - rows * width, rows), -1).to(torch.float32)  # the exporter has no % of a free size


def sample(maps: Tensor, points: Tensor, mode: str = "bilinear") -> Tensor:
    """Values between pixels; 0 beyond the map.

    Args:
        maps: ``[B, C, H, W]``.
        points: ``[B, N, 2]``, x and y in pixels of the map.
        mode: ``bilinear``, ``bicubic`` or ``nearest``.

    Returns:
        ``[B, C, N]``.
    """
    height, width = maps.shape[2:]
    # Corners not aligned: a map of one row or column has no distance between its corners to divide by.
    grid = torch.stack(((2 * points[..., 0] + 1) / width - 1, (2 * points[..., 1] + 1) / height - 1), -1)
    return functional.grid_sample(maps, grid[:, None], mode=mode, padding_mode="zeros", align_corners=False)[:, :, 0]


def differentiable_keypoints(scores: Tensor, count: int, threshold: float, radius: int = 2) -> tuple[Tensor, ...]:
    """DKD (Zhao et al. 2022): local maxima, moved by a soft maximum of the scores around each.

    Args:
        scores: ``[B, H, W]`` in [0, 1].
        count: of keypoints.
        threshold: of a maximum's score; where none of an image reaches it, the mean of its scores. 0: the strongest.
        radius: of the neighbourhood, pixels; as many rows and columns at the border hold no maximum.

    Returns:
        keypoints ``[B, count, 2]``, the strongest maximum first; scores ``[B, count]`` at the places they moved to,
        bilinear; and whether each is one, bool.
    """
    width = scores.shape[2]
    maxima = without_border(local_maxima(scores, radius), radius)
    if threshold > 0:
        limit = torch.where(
            maxima.amax((1, 2), keepdim=True) > threshold,
            torch.full_like(maxima[:, :1, :1], threshold),
            scores.mean((1, 2), keepdim=True),
        )
        maxima = torch.where(maxima > limit, maxima, torch.zeros_like(maxima))
    values, places = strongest(maxima.flatten(1), count)
    step = torch.arange(-radius, radius + 1, device=scores.device)
    offsets = torch.stack((step.repeat(len(step)), step.repeat_interleave(len(step))), -1)  # x, y of the neighbours
    flat = scores.flatten(1)
    around = (places[..., None] + (offsets[:, 0] + offsets[:, 1] * width)).clamp(min=0)
    around = around.minimum(torch.ones_like(flat, dtype=torch.int64).sum(1)[:, None, None] - 1)
    near = flat.gather(1, around.flatten(1)).reshape(-1, count, len(offsets))
    weights = ((near - near.amax(2, keepdim=True)) / TEMPERATURE).exp()
    moved = (weights @ offsets.to(scores.dtype)) / weights.sum(2, keepdim=True)
    points = pixels(places, width) + moved
    return points, sample(scores[:, None], points)[:, 0], values > 0


def only_found(found: Tensor, *outputs: Tensor) -> tuple[Tensor, ...]:
    """Outputs ``[B, N, ...]`` with zeros where ``found`` ``[B, N]`` is False."""
    return tuple(
        torch.where(found.reshape(*found.shape, *(1,) * (item.dim() - 2)), item, torch.zeros_like(item))
        for item in outputs
    )
