"""A U-Net that normalises the light in front of an embedder, both trained together (Jenicek & Chum 2019)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gloam.errors import ModelError
from gloam.model_card import InputRule
from gloam.networks.embedders.base import EmbedderNetwork
from gloam.networks.embedders.ensemble import description
from gloam.networks.masks import Masks
from gloam.networks.translators.unet import UnetGenerator

HALF = (0.5, 0.5, 0.5)  # of the U-Net, whose images lie in [-1, 1]


class NormalizedEmbedder(EmbedderNetwork):
    """An image to an image of another light, then to its descriptor. ``dynamic`` only: a U-Net sees its padding.

    Sides that are no multiples of ``2 ** levels`` are continued by their border on both ends, and cropped back.
    Keys: ``unet.*`` and ``embedder.*``.

    Args:
        embedder: of any family.
        levels, width, norm: of the U-Net.
        mean, std: 0.5; other values are refused.
    """

    def __init__(
        self,
        embedder: EmbedderNetwork,
        *,
        levels: int = 8,
        width: int = 64,
        norm: str = "batch",
        mean: tuple[float, ...] = HALF,
        std: tuple[float, ...] = HALF,
    ) -> None:
        if tuple(mean) != HALF or tuple(std) != HALF:
            raise ModelError("photometric_unet: its U-Net takes images of mean and std 0.5; drop --mean and --std")
        if embedder.core is not embedder:
            raise ModelError(f"{embedder.name}: scales and whitening belong around the normalising U-Net")
        options: dict[str, Any] = {
            "embedder": description(embedder),
            "levels": levels,
            "width": width,
            "norm": norm,
        }
        super().__init__("photometric_unet", options, dimension=embedder.dimension, mean=mean, std=std)
        self.unet = UnetGenerator(levels, width=width, norm=norm)
        self.embedder = embedder

    @property
    def square(self) -> int | None:
        """The embedder's."""
        return self.embedder.square

    @property
    def input_rule(self) -> InputRule:
        """The embedder's."""
        return self.embedder.input_rule

    @property
    def cell(self) -> int:
        """The embedder's."""
        return self.embedder.cell

    @property
    def pooling(self) -> dict[str, Any]:
        """The embedder's."""
        return self.embedder.pooling

    def scale_power(self) -> Tensor | None:
        """The embedder's."""
        return self.embedder.scale_power()

    def forward(self, images: Tensor, masks: Masks | None = None) -> Tensor:
        """Float RGB images ``[B, 3, H, W]`` in [-1, 1] to unit descriptors ``[B, D]``."""
        lit = (self.relight(images) * 0.5 + 0.5) * 255.0
        described: Tensor = self.embedder(self.embedder.normalize(lit.permute(0, 2, 3, 1)), masks)
        return described

    def relight(self, images: Tensor) -> Tensor:
        """Float RGB ``[B, 3, H, W]`` in [-1, 1] of any size to the normalised image, same shape and range."""
        height, width = images.shape[2], images.shape[3]
        rows, top = _border(height, self.unet.multiple, images.device)
        columns, left = _border(width, self.unet.multiple, images.device)
        # Indexed, not padded: an exporter keeps the arithmetic of the sides for every size.
        padded = images.index_select(2, rows).index_select(3, columns)
        lit: Tensor = self.unet(padded)
        return lit[:, :, top : top + height, left : left + width]


def _border(side: int, multiple: int, device: torch.device) -> tuple[Tensor, int]:
    """Indices that continue a side to the next multiple by its border, and how many stand before it."""
    # Of positive numbers alone: an exported graph divides whole numbers by truncation, where Python rounds down.
    whole = (side + multiple - 1) // multiple * multiple
    before = (whole - side) // 2
    return (torch.arange(whole, device=device) - before).clamp(0, side - 1), before
