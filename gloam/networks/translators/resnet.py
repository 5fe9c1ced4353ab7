"""The residual generator of CycleGAN (Zhu et al. 2017, appendix), plain and with CUT's blur-pooling.

One Sequential called ``model``, so that keys are those of the public checkpoints: ``model.1.weight`` is the first
convolution; nine blocks stand at 10..18 (at 12..20 with blur-pooling), the last convolution at 26 (at 30).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from gloam.errors import ModelError
from gloam.networks.translators.base import TranslatorNetwork
from gloam.networks.translators.layers import (
    BlurDownsample,
    BlurUpsample,
    norm_layer,
    pad_layer,
    reference_bias,
)


class ResidualBlock(nn.Module):
    """``x + conv_block(x)`` with two 3x3 convolutions and no ReLU behind the sum."""

    def __init__(self, channels: int, norm: str, dropout: bool, track_running_stats: bool, padding: str) -> None:
        super().__init__()
        bias = reference_bias(norm)
        layers: list[nn.Module] = []
        for half in range(2):
            if padding == "zero":
                layers.append(nn.Conv2d(channels, channels, 3, padding=1, bias=bias))
            else:
                layers += [pad_layer(padding, 1), nn.Conv2d(channels, channels, 3, bias=bias)]
            layers.append(norm_layer(norm, channels, track_running_stats))
            if half == 0:
                layers += [nn.ReLU(), *([nn.Dropout(0.5)] if dropout else [])]
        self.conv_block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to the same shape."""
        branch: Tensor = self.conv_block(x)
        return x + branch


class ResnetGenerator(TranslatorNetwork):
    """Two strided convolutions, residual blocks at a quarter of the size, two upsamplings, tanh.

    Args:
        channels: of the image.
        width: channels behind the first convolution; 64 in the papers (11 378 179 parameters with instance norm).
        blocks: residual blocks; 9 for 256 px, 6 for 128 px.
        norm: ``instance``, ``batch`` or ``none``.
        dropout: 0.5 between the convolutions of a block.
        antialias: blur-pooling instead of strides, as CUT; ``antialias_up`` likewise for the upsampling, None = the
            same.
        track_running_stats: of the batch norm.
        padding: of the residual blocks: ``reflect``, ``replicate`` or ``zero``.
    """

    name: ClassVar[str] = "resnet"
    anchor = "top-left"

    def __init__(
        self,
        channels: int = 3,
        width: int = 64,
        blocks: int = 9,
        norm: str = "instance",
        dropout: bool = False,
        antialias: bool = False,
        antialias_up: bool | None = None,
        track_running_stats: bool = True,
        padding: str = "reflect",
    ) -> None:
        up = antialias if antialias_up is None else antialias_up
        options = {
            "channels": channels,
            "width": width,
            "blocks": blocks,
            "norm": norm,
            "dropout": dropout,
            "antialias": antialias,
            "antialias_up": up,
            "track_running_stats": track_running_stats,
            "padding": padding,
        }
        super().__init__(options, channels=channels, multiple=4, minimum=8)
        bias = reference_bias(norm)

        def normed(count: int) -> list[nn.Module]:
            return [norm_layer(norm, count, track_running_stats), nn.ReLU()]

        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(channels, width, 7, bias=bias), *normed(width)]
        for count in (width, 2 * width):
            stride = 1 if antialias else 2
            layers += [nn.Conv2d(count, 2 * count, 3, stride, 1, bias=bias), *normed(2 * count)]
            if antialias:
                layers.append(BlurDownsample(2 * count))
        for _ in range(blocks):
            layers.append(ResidualBlock(4 * width, norm, dropout, track_running_stats, padding))
        for count in (4 * width, 2 * width):
            if up:
                layers += [BlurUpsample(count), nn.Conv2d(count, count // 2, 3, 1, 1, bias=bias)]
            else:
                layers.append(nn.ConvTranspose2d(count, count // 2, 3, 2, 1, output_padding=1, bias=bias))
            layers += normed(count // 2)
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, channels, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)
        self.feature_layers = len(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[B, C, H, W]`` in [-1, 1] to ``[B, C, 4 ceil(H / 4), 4 ceil(W / 4)]`` in [-1, 1]."""
        translated: Tensor = self.model(x)
        return translated

    def features(self, x: Tensor, layers: Sequence[int], encode_only: bool = False) -> list[Tensor]:
        """Activations inside the generator, for contrastive losses (CUT, section 3).

        Args:
            x: float ``[B, C, H, W]`` in [-1, 1].
            layers: indices into ``model``, rising; the activation behind each is returned. -1 is the output image.
            encode_only: stop behind the last of ``layers``. Otherwise the whole generator runs and its image is
                appended, so that one forward gives both the taps and the translation.

        Returns:
            one ``[B, C_i, H_i, W_i]`` per layer, then the image unless ``encode_only``.
        """
        last = len(self.model) - 1
        wanted = [last if index == -1 else index for index in layers]
        if not wanted or wanted != sorted(set(wanted)) or wanted[0] < 0 or wanted[-1] > last:
            raise ModelError(f"feature layers {list(layers)} must be rising indices of 0..{last}")
        taps: list[Tensor] = []
        for index, layer in enumerate(self.model):
            x = layer(x)
            if index in wanted:
                taps.append(x)
            if encode_only and index == wanted[-1]:
                return taps
        return [*taps, x]

    def feature_channels(self, layers: Sequence[int]) -> list[int]:
        """C_i of :meth:`features` for each of ``layers``: what ``PatchSampler`` needs at construction."""
        counts: list[int] = []
        count = self.channels
        for layer in self.model:
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                count = layer.out_channels
            counts.append(count)
        return [counts[index] for index in layers]
