"""What every image-to-image network of gloam promises."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn


class TranslatorNetwork(nn.Module):
    """An image-to-image network: float32 ``[B, C, H, W]`` RGB in [-1, 1] to the same shape and range.

    Attributes:
        name: its name in ``GENERATORS``.
        options: all options of the constructor, defaults included, JSON-ready; stored in checkpoints and cards.
        multiple: input sides must be multiples of it; others come out larger or fail, so callers pad and crop.
        minimum: smallest input side, itself a multiple; below it a layer would see a map of one cell.
        channels: C of the input and of the output; 3 (RGB) or 1 (grey digits).
    """

    name: ClassVar[str] = ""

    def __init__(self, options: dict[str, Any], *, channels: int, multiple: int, minimum: int) -> None:
        super().__init__()
        self.options = options
        self.channels = channels
        self.multiple = multiple
        self.minimum = minimum

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[B, C, H, W]`` in [-1, 1] to the same shape and range, for sides that are multiples."""
        raise TypeError(f"{type(self).__name__} defines no forward")

    def translate_uint8(self, images: Tensor) -> Tensor:
        """The exported graph.

        Args:
            images: uint8 ``[B, H, W, C]`` RGB, sides multiples of :attr:`multiple`.

        Returns:
            float32 ``[B, H, W, C]`` in [-1, 1].
        """
        x = images.to(torch.float32).permute(0, 3, 1, 2) / 127.5 - 1.0
        translated: Tensor = self(x)
        return translated.permute(0, 2, 3, 1)
