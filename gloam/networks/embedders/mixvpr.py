"""MixVPR (Ali-bey et al. 2023): perceptrons over the cells of a map of one size, and so of images of one size."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from gloam.errors import ModelError
from gloam.model_card import InputRule
from gloam.networks.embedders.base import IMAGENET_MEAN, IMAGENET_STD, EmbedderNetwork
from gloam.networks.embedders.resnet import resnet50_minus
from gloam.networks.masks import Masks

STRIDE = 16  # of the backbone


class Mixer(nn.Module):
    """A perceptron over the cells, added to them."""

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(nn.LayerNorm(cells), nn.Linear(cells, cells), nn.ReLU(), nn.Linear(cells, cells))

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[B, C, cells]`` to the same."""
        mixed: Tensor = x + self.mix(x)
        return mixed


class Aggregator(nn.Module):
    """Mixers, then fewer channels and fewer rows.

    Args:
        channels, cells: of the map.
        out: channels of the descriptor.
        rows: values of each channel.
        mixers: in a row.
    """

    def __init__(self, channels: int, cells: int, out: int, rows: int, mixers: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(*(Mixer(cells) for _ in range(mixers)))
        self.channel_proj = nn.Linear(channels, out)
        self.row_proj = nn.Linear(cells, rows)

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[B, C, h, w]`` to unit ``[B, out * rows]``, channel by channel."""
        mixed = self.channel_proj(self.mix(x.flatten(2)).mT)
        return functional.normalize(self.row_proj(mixed.mT).flatten(1), dim=1)


class MixVPR(EmbedderNetwork):
    """ResNet-50 without its last stage, and MixVPR. 10.9 M parameters.

    Args:
        width: of the backbone.
        side: of the images, pixels; a multiple of 16.
        channels, rows: of the descriptor: 1024 and 4 give 4096 values, 256 and 2 give 512, 64 and 2 give 128.
        mixers: in a row.
        mean, std: normalisation on [0, 1] RGB, part of the exported graph.
    """

    def __init__(
        self,
        width: int = 64,
        side: int = 320,
        channels: int = 1024,
        rows: int = 4,
        mixers: int = 4,
        *,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        if side % STRIDE or min(side, channels, rows, mixers) < 1:
            raise ValueError(f"side {side}, channels {channels}, rows {rows}, mixers {mixers}")
        features = resnet50_minus(width)
        options: dict[str, Any] = {"side": side, "channels": channels, "rows": rows, "mixers": mixers}
        super().__init__("mixvpr", {**features.options, **options}, dimension=channels * rows, mean=mean, std=std)
        self.side = side
        self.features = features
        self.pool = Aggregator(features.dimension, (side // STRIDE) ** 2, channels, rows, mixers)

    @property
    def square(self) -> int:
        """The one side."""
        return self.side

    @property
    def input_rule(self) -> InputRule:
        """The authors': Pillow's bicubic in whole levels, whatever the aspect."""
        return InputRule(None, (self.side, self.side), "bicubic", True)

    @property
    def pooling(self) -> dict[str, Any]:
        """``mixvpr`` and its rows."""
        return {"name": "mixvpr", "rows": self.pool.row_proj.out_features}

    def forward(self, images: Tensor, masks: Masks | None = None) -> Tensor:
        """Normalised float images ``[B, 3, side, side]`` to unit descriptors ``[B, D]``.

        Raises:
            ModelError: images of another size.
        """
        if tuple(images.shape[2:]) != (self.side, self.side):
            raise ModelError(
                f"{self.name}: an image of {images.shape[3]}x{images.shape[2]} px, where {self.side}x{self.side} alone "
                "is possible; resize images by the network's input rule"
            )
        described: Tensor = self.pool(self.features(images)[0])
        return described
