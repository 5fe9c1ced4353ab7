"""ALIKED: deformable features and descriptors of sparse, deformable samples (Zhao et al. 2023)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from gloam.networks.local_features.alike import CELL, Block, ResidualBlock, pyramid
from gloam.networks.local_features.base import LocalFeatureNetwork
from gloam.networks.local_features.detect import differentiable_keypoints, sample

# Channels of the four levels, and positions that a descriptor samples.
VARIANTS = {
    "t16": ((8, 16, 32, 64), 16),
    "n16": ((16, 32, 64, 128), 16),
    "n32": ((16, 32, 64, 128), 32),
}
VARIANTS["n16rot"] = VARIANTS["n16"]  # trained on turned images; the same layout
PATCH = 3  # pixels a side from which a descriptor's positions are computed


class DeformableConv(nn.Module):
    """3x3 convolution whose nine taps are moved by what another one says, written as a sampling and a 1x1."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.offset_conv = nn.Conv2d(inputs, 18, 3, padding=1)
        self.regular_conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to ``[B, outputs, H, W]``."""
        batch, channels, height, width = x.shape
        limit = max(height, width) / 4
        offsets = self.offset_conv(x).clamp(-limit, limit).unflatten(1, (9, 2))  # dy, dx of each tap
        rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
        tap = torch.arange(9, device=x.device)
        down = offsets[:, :, 0] + rows[:, None] + (tap // 3 - 1)[:, None, None]
        across = offsets[:, :, 1] + columns + (tap % 3 - 1)[:, None, None]
        sampled = sample(x, torch.stack((across, down), -1).reshape(batch, -1, 2))
        stacked = sampled.reshape(batch, channels * 9, height, width)
        return functional.conv2d(stacked, self.regular_conv.weight.flatten(1)[:, :, None, None])


class DescriptorHead(nn.Module):
    """SDDH: a descriptor of features at positions that the patch around the keypoint says."""

    def __init__(self, dimension: int, positions: int) -> None:
        super().__init__()
        self.positions = positions
        self.agg_weights = nn.Parameter(torch.randn(positions, dimension, dimension) / dimension)
        self.offset_conv = nn.Sequential(
            nn.Conv2d(dimension, 2 * positions, PATCH), nn.SELU(), nn.Conv2d(2 * positions, 2 * positions, 1)
        )
        self.sf_conv = nn.Conv2d(dimension, dimension, 1, bias=False)

    def forward(self, features: Tensor, points: Tensor) -> Tensor:
        """Features ``[B, D, H, W]`` and points ``[B, N, 2]`` in pixels to descriptors ``[B, N, D]``."""
        batch, dimension, height, width = features.shape
        count = points.shape[1]
        corner = points.to(torch.int64) - PATCH // 2
        left = corner[..., 0].clamp(0, width - 1 - PATCH)  # as published: the last patch begins one pixel early
        top = corner[..., 1].clamp(0, height - 1 - PATCH)
        tap = torch.arange(PATCH**2, device=points.device)
        places = (top[..., None] + tap // PATCH) * width + left[..., None] + tap % PATCH
        index = places.reshape(batch, 1, -1).expand(-1, dimension, -1)
        patches = features.flatten(2).gather(2, index).reshape(batch, dimension, count, PATCH**2).transpose(1, 2)
        limit = max(height, width) / 4
        moves = self.offset_conv(patches.reshape(batch * count, dimension, PATCH, PATCH)).clamp(-limit, limit)
        moves = moves.reshape(batch, count, 2, self.positions).transpose(2, 3)  # all x, then all y
        sampled = sample(features, (points[:, :, None] + moves).reshape(batch, -1, 2))
        sampled = functional.selu(self.sf_conv(sampled[..., None])[..., 0])
        rows = sampled.reshape(batch, dimension, count, self.positions).permute(0, 2, 3, 1)
        return rows.reshape(batch, count, -1) @ self.agg_weights.flatten(0, 1)


def to_multiple(images: Tensor) -> tuple[Tensor, int, int]:
    """Images ``[B, C, H, W]`` whose border pixels are repeated to multiples of 32, half on each side; and how many rows
    and columns that are on top and left."""
    height, width = images.shape[2:]
    # Not -(-height // CELL): an exported division rounds towards zero.
    high, wide = (height + CELL - 1) // CELL * CELL, (width + CELL - 1) // CELL * CELL
    top, left = (high - height) // 2, (wide - width) // 2
    rows = (torch.arange(high, device=images.device) - top).clamp(0, height - 1)
    columns = (torch.arange(wide, device=images.device) - left).clamp(0, width - 1)
    return images.index_select(2, rows).index_select(3, columns), top, left


class ALIKED(LocalFeatureNetwork):
    """0.19 M (t16), 0.68 M (n16) or 0.98 M (n32) parameters, 76 tensors.

    Args:
        variant: ``t16``, ``n16``, ``n16rot`` or ``n32``.
    """

    name: ClassVar[str] = "aliked"
    licence: ClassVar[str] = "BSD-3-Clause"
    not_fixed: ClassVar[str] = (
        "its levels are enlarged between the corners of the whole image, so padding would move every feature"
    )

    def __init__(self, variant: str = "n16") -> None:
        if variant not in VARIANTS:
            raise ValueError(f"variant {variant!r} is not one of {', '.join(sorted(VARIANTS))}")
        channels, positions = VARIANTS[variant]
        super().__init__({"variant": variant}, channels[3])
        quarter = self.dimension // 4
        self.block1 = Block(3, channels[0], nn.SELU())
        self.block2 = ResidualBlock(channels[0], channels[1], nn.SELU())
        self.block3 = ResidualBlock(channels[1], channels[2], nn.SELU(), DeformableConv)
        self.block4 = ResidualBlock(channels[2], channels[3], nn.SELU(), DeformableConv)
        for level, inputs in enumerate(channels, 1):
            self.add_module(f"conv{level}", nn.Conv2d(inputs, quarter, 1, bias=False))
        self.score_head = nn.Sequential(
            nn.Conv2d(self.dimension, 8, 1, bias=False),
            nn.SELU(),
            nn.Conv2d(8, 4, 3, padding=1, bias=False),
            nn.SELU(),
            nn.Conv2d(4, 4, 3, padding=1, bias=False),
            nn.SELU(),
            nn.Conv2d(4, 1, 3, padding=1, bias=False),
        )
        self.desc_head = DescriptorHead(self.dimension, positions)

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images ``[B, 3, H, W]`` to scores ``[B, H, W]`` and unit features ``[B, D, H, W]``."""
        height, width = images.shape[2:]
        x, top, left = to_multiple(images)
        features = pyramid(self, x, functional.avg_pool2d, functional.selu)
        scores = self.score_head(features).sigmoid()[:, 0, top : top + height, left : left + width]
        features = features[:, :, top : top + height, left : left + width]
        return scores, functional.normalize(features, dim=1)

    def forward(self, images: Tensor, count: int, threshold: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See :class:`LocalFeatureNetwork`."""
        scores, features = self.maps(images)
        points, values, found = differentiable_keypoints(scores, count, threshold)
        return points, values, self.desc_head(features, points), found
