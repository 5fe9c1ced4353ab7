"""ALIKE: keypoints that a soft maximum places, descriptors sampled from a dense map (Zhao et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from gloam.networks.local_features.base import LocalFeatureNetwork
from gloam.networks.local_features.detect import differentiable_keypoints, sample

CELL = 32  # pixels of the coarsest level
VARIANTS = {  # channels of the four levels, and dimension
    "t": ((8, 16, 32, 64), 64),
    "s": ((8, 16, 48, 96), 96),
    "n": ((16, 32, 64, 128), 128),
}


def _plain(inputs: int, outputs: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


class Block(nn.Module):
    """Two 3x3 convolutions, each with its norm and activation."""

    def __init__(
        self, inputs: int, outputs: int, gate: nn.Module, conv: Callable[[int, int], nn.Module] = _plain
    ) -> None:
        super().__init__()
        self.gate = gate
        self.conv1 = conv(inputs, outputs)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = conv(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, inputs, H, W]`` to ``[B, outputs, H, W]``."""
        x = self.gate(self.bn1(self.conv1(x)))
        y: Tensor = self.gate(self.bn2(self.conv2(x)))
        return y


class ResidualBlock(Block):
    """As :class:`Block`, with a 1x1 of the input added before the last activation."""

    def __init__(
        self, inputs: int, outputs: int, gate: nn.Module, conv: Callable[[int, int], nn.Module] = _plain
    ) -> None:
        super().__init__(inputs, outputs, gate, conv)
        self.downsample = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, inputs, H, W]`` to ``[B, outputs, H, W]``."""
        y = self.bn2(self.conv2(self.gate(self.bn1(self.conv1(x)))))
        z: Tensor = self.gate(y + self.downsample(x))
        return z


def pyramid(
    model: nn.Module, x: Tensor, pool: Callable[[Tensor, int, int], Tensor], gate: Callable[[Tensor], Tensor]
) -> Tensor:
    """The four levels of a network, each a quarter of the channels, side by side at full size ``[B, D, H, W]``."""
    size = x.shape[2:]
    levels = []
    for level, step in enumerate((1, 2, 4, 4), 1):
        x = x if step == 1 else pool(x, step, step)
        x = model.get_submodule(f"block{level}")(x)
        part = gate(model.get_submodule(f"conv{level}")(x))
        levels.append(part if level == 1 else functional.interpolate(part, size, mode="bilinear", align_corners=True))
    return torch.cat(levels, 1)


class ALIKE(LocalFeatureNetwork):
    """0.08 M (t), 0.18 M (s) or 0.33 M (n) parameters. Images are continued by zeros to multiples of 32 px.

    Args:
        variant: ``t``, ``s`` or ``n``; the authors' l has another head.
    """

    name: ClassVar[str] = "alike"
    licence: ClassVar[str] = "BSD-3-Clause"
    not_fixed: ClassVar[str] = (
        "its levels are enlarged between the corners of the whole image, so padding would move every feature"
    )

    def __init__(self, variant: str = "n") -> None:
        if variant not in VARIANTS:
            raise ValueError(f"variant {variant!r} is not one of {', '.join(sorted(VARIANTS))}")
        channels, dimension = VARIANTS[variant]
        super().__init__({"variant": variant}, dimension)
        self.block1 = Block(3, channels[0], nn.ReLU())
        for level in (2, 3, 4):
            self.add_module(f"block{level}", ResidualBlock(channels[level - 2], channels[level - 1], nn.ReLU()))
        for level, inputs in enumerate(channels, 1):
            self.add_module(f"conv{level}", nn.Conv2d(inputs, dimension // 4, 1, bias=False))
        self.convhead2 = nn.Conv2d(dimension, dimension + 1, 1, bias=False)

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images ``[B, 3, H, W]`` to scores ``[B, H, W]`` and unit features ``[B, D, H, W]``."""
        height, width = images.shape[2:]
        high, wide = ((side + CELL - 1) // CELL * CELL for side in (height, width))
        x = functional.pad(images, (0, wide - width, 0, high - height))
        heads = self.convhead2(pyramid(self, x, functional.max_pool2d, functional.relu))[:, :, :height, :width]
        return heads[:, -1].sigmoid(), functional.normalize(heads[:, :-1], dim=1)

    def forward(self, images: Tensor, count: int, threshold: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See :class:`LocalFeatureNetwork`."""
        scores, features = self.maps(images)
        points, values, found = differentiable_keypoints(scores, count, threshold)
        return points, values, sample(features, points).transpose(1, 2), found
