"""The generator of CyEDA (Beh et al. 2022): a U-Net that blends K proposals into the input by K masks."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gloam.networks.translators.base import TranslatorNetwork


class CyedaGenerator(TranslatorNetwork):
    """``mean over k of m_k l_k + (1 - m_k) x`` with proposals l (tanh) and masks m (sigmoid): a mask of 0 keeps the
    input pixel. 8.64 M parameters at the paper's width.

    Every 3x3 convolution is followed by LeakyReLU and then batch norm, in this order. The layout is that of the public
    checkpoints: ``conv1_1``, ``bn1_1`` ... ``deconv5`` ... ``conv10`` (K consecutive proposals), ``conv11`` (masks).

    Args:
        n_mask: K.
        channels: of the image.
        width: channels of the first level; doubled per level.
    """

    name: ClassVar[str] = "cyeda"

    def __init__(self, n_mask: int = 3, channels: int = 3, width: int = 32) -> None:
        options = {"n_mask": n_mask, "channels": channels, "width": width}
        super().__init__(options, channels=channels, multiple=16, minimum=16)
        self.n_mask = n_mask
        widths = [width * 2**level for level in range(5)]
        incoming = channels
        for level, out in enumerate(widths, 1):
            self._add_pair(level, incoming, out)
            incoming = out
        for level in range(6, 10):
            out = widths[9 - level]
            self.add_module(f"deconv{level - 1}", nn.Conv2d(2 * out, out, 3, padding=1))
            self._add_pair(level, 2 * out, out, last=level == 9)
        self.conv10 = nn.Conv2d(width, channels * n_mask, 1)
        self.conv11 = nn.Conv2d(width, n_mask, 1)

    def _add_pair(self, level: int, incoming: int, out: int, last: bool = False) -> None:
        for index, count in ((1, incoming), (2, out)):
            self.add_module(f"conv{level}_{index}", nn.Conv2d(count, out, 3, padding=1))
            if not (last and index == 2):
                self.add_module(f"bn{level}_{index}", nn.BatchNorm2d(out))

    def _pair(self, level: int, x: Tensor) -> Tensor:
        for index in (1, 2):
            x = F.leaky_relu(self.get_submodule(f"conv{level}_{index}")(x), 0.2)
            if (level, index) != (9, 2):
                x = self.get_submodule(f"bn{level}_{index}")(x)
        return x

    def proposals(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Proposals ``[B, K, C, H, W]`` in [-1, 1] and masks ``[B, K, 1, H, W]`` in [0, 1] for images ``x``."""
        skips: list[Tensor] = []
        y = x
        for level in range(1, 6):
            y = self._pair(level, y if level == 1 else F.max_pool2d(y, 2))
            skips.append(y)
        for level in range(6, 10):
            y = F.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False)
            y = torch.cat((self.get_submodule(f"deconv{level - 1}")(y), skips[9 - level]), 1)
            y = self._pair(level, y)
        latent = torch.unflatten(torch.tanh(self.conv10(y)), 1, (self.n_mask, self.channels))
        return latent, torch.sigmoid(self.conv11(y)).unsqueeze(2)

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[B, C, H, W]`` in [-1, 1], sides multiples of 16, to the same shape and range."""
        latent, mask = self.proposals(x)
        return (mask * latent + (1.0 - mask) * x.unsqueeze(1)).mean(1)
