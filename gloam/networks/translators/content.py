"""MDUIT's content encoder; its layers are those of its authors' MGUIT, for the paper states none."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from gloam.networks.translators.drit import InstanceBlock
from gloam.networks.translators.layers import InstanceNorm2d


class ContentEncoder(nn.Module):
    """What an image shows, whatever its light: a map at a quarter of the size whose cells are unit vectors.

    Args:
        channels: of the image.
        width: channels behind the first convolution; the map has four times as many. 64 in MGUIT, 5.10 M parameters.
        blocks: residual blocks.

    Attributes:
        dimension: channels of the map.
    """

    def __init__(self, channels: int = 3, width: int = 64, blocks: int = 4) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(channels, width, 7), nn.LeakyReLU(0.01)]
        for level in range(2):
            layers += [
                nn.ReflectionPad2d(1),
                nn.Conv2d(width << level, width << level + 1, 3, 2),
                InstanceNorm2d(width << level + 1),
                nn.ReLU(),
            ]
        self.dimension = 4 * width
        self.model = nn.Sequential(*layers, *(InstanceBlock(self.dimension) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[B, C, H, W]`` in [-1, 1] to ``[B, 4 width, ceil(H / 4), ceil(W / 4)]``."""
        return F.normalize(self.model(x), dim=1, eps=1e-6)
