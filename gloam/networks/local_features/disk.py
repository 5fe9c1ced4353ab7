"""DISK: a U-Net whose heat map and descriptors were learned by policy gradient (Tyszkiewicz et al. 2020)."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from gloam.networks.local_features.base import LocalFeatureNetwork
from gloam.networks.local_features.detect import at, peaks, pixels, strongest
from gloam.networks.local_features.norm import InstanceNorm

DOWN, UP = (16, 32, 64, 64, 64), (64, 64, 64)  # channels
MULTIPLE = 16  # of the sides inside
RADIUS = 2  # pixels around a maximum


def _block(inputs: int, outputs: int, first: bool = False) -> nn.Sequential:
    before: list[nn.Module] = [nn.Identity(), nn.Identity()] if first else [InstanceNorm(), nn.PReLU(inputs)]
    return nn.Sequential(*before, nn.Identity(), nn.Conv2d(inputs, outputs, 5, padding=2))


class _Up(nn.Module):
    def __init__(self, coarse: int, fine: int, outputs: int) -> None:
        super().__init__()
        self.conv = _block(coarse + fine, outputs)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        larger = functional.interpolate(coarse, fine.shape[2:], mode="bilinear", align_corners=False)
        y: Tensor = self.conv(torch.cat((larger, fine), 1))
        return y


class _UNet(nn.Module):
    def __init__(self, dimension: int) -> None:
        super().__init__()
        channels = (3, *DOWN)
        self.path_down = nn.ModuleList(
            nn.Sequential(nn.AvgPool2d(2, 2) if level else nn.Identity(), _block(*sides, first=not level))
            for level, sides in enumerate(pairwise(channels))
        )
        coarse = (DOWN[-1], *UP)
        self.path_up = nn.ModuleList(
            _Up(below, beside, above)
            for below, beside, above in zip(coarse, DOWN[-2::-1], (*UP, dimension + 1), strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        levels = []
        for down in self.path_down:
            x = down(x)
            levels.append(x)
        for up, fine in zip(self.path_up, levels[-2::-1], strict=True):
            x = up(x, fine)
        return x


class DISK(LocalFeatureNetwork):
    """1.09 M parameters in 26 tensors. Keypoints are whole pixels; images are continued by zeros to multiples of 16
    px, which count as content of the norms."""

    name: ClassVar[str] = "disk"
    licence: ClassVar[str] = "Apache-2.0"
    not_fixed: ClassVar[str] = "its norms are of the whole image, so padding would change every feature"

    def __init__(self) -> None:
        super().__init__({}, 128)
        self.unet = _UNet(self.dimension)

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images ``[B, 3, H, W]`` to heat ``[B, H, W]`` and features ``[B, 128, H, W]``."""
        height, width = images.shape[2:]
        high, wide = ((side + MULTIPLE - 1) // MULTIPLE * MULTIPLE for side in (height, width))
        x = self.unet(functional.pad(images, (0, wide - width, 0, high - height)))[:, :, :height, :width]
        return x[:, -1], x[:, :-1]

    def forward(self, images: Tensor, count: int, threshold: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See :class:`LocalFeatureNetwork`."""
        heat, features = self.maps(images)
        kept = torch.where(peaks(heat, RADIUS) & (heat > threshold), heat, torch.zeros_like(heat))
        scores, places = strongest(kept.flatten(1), count)
        return pixels(places, heat.shape[2]), scores, at(features, places), scores > 0
