"""Augmentation of batches: one mirror per place, crop and exposure per image."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SMALLEST_CROP = 0.8  # of a side
EXPOSURE = 0.3  # largest change of log gain and log gamma


def augment_places(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Vary the images of a batch.

    A mirrored street is another street, so all images of a place are mirrored or none. Crop and exposure differ from
    image to image: the place stays the same when the camera turns a little or the light changes.

    Args:
        batch: float ``[P, K, 3, H, W]`` in [0, 1].
        generator: source of all choices.

    Returns:
        The same shape and range.
    """
    count, members, channels, height, width = batch.shape
    total = count * members

    def uniform(rows: int, low: float, high: float) -> Tensor:
        return torch.rand(rows, generator=generator) * (high - low) + low

    mirror = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0).repeat_interleave(members)
    side = uniform(total, SMALLEST_CROP, 1.0)
    affine = torch.zeros(total, 2, 3)
    affine[:, 0, 0] = side * mirror
    affine[:, 1, 1] = side
    affine[:, 0, 2] = uniform(total, -1.0, 1.0) * (1.0 - side)
    affine[:, 1, 2] = uniform(total, -1.0, 1.0) * (1.0 - side)
    images = batch.reshape(total, channels, height, width)
    grid = functional.affine_grid(affine, [total, channels, height, width], align_corners=False)
    cropped = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    gain = uniform(total, -EXPOSURE, EXPOSURE).exp().view(total, 1, 1, 1)
    gamma = uniform(total, -EXPOSURE, EXPOSURE).exp().view(total, 1, 1, 1)
    return (cropped.clamp(min=1e-4).pow(gamma) * gain).clamp(0.0, 1.0).view_as(batch)
