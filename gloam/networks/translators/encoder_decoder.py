"""The encoder-decoder generator of the CycleGAN study: residual blocks of a single convolution between two strided and
two transposed ones. Its text gives no widths; those here are CycleGAN's.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from gloam.networks.translators.base import TranslatorNetwork
from gloam.networks.translators.layers import norm_layer


class SingleBlock(nn.Module):
    """``x + ReLU(norm(conv3x3(x)))``: one convolution per block, unlike CycleGAN's two."""

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=norm != "batch"), norm_layer(norm, channels), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to the same shape."""
        branch: Tensor = self.conv_block(x)
        return x + branch


class EncoderDecoder(TranslatorNetwork):
    """Convolution 3x3, two 4x4 of stride 2, residual blocks, two transposed 4x4, convolution 3x3, tanh.

    Args:
        channels: of the image; 1 for digits.
        width: channels behind the first convolution.
        blocks: residual blocks.
        norm: ``batch`` as in the study, also at batch size 1; ``instance`` is the safer choice there.
    """

    name: ClassVar[str] = "encoder_decoder"
    anchor = "top-left"

    def __init__(self, channels: int = 3, width: int = 64, blocks: int = 6, norm: str = "batch") -> None:
        options = {"channels": channels, "width": width, "blocks": blocks, "norm": norm}
        super().__init__(options, channels=channels, multiple=4, minimum=8)
        bias = norm != "batch"

        def normed(count: int) -> list[nn.Module]:
            return [norm_layer(norm, count), nn.ReLU()]

        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1, bias=bias), *normed(width)]
        for count in (width, 2 * width):
            layers += [nn.Conv2d(count, 2 * count, 4, 2, 1, bias=bias), *normed(2 * count)]
        layers += [SingleBlock(4 * width, norm) for _ in range(blocks)]
        for count in (4 * width, 2 * width):
            layers += [nn.ConvTranspose2d(count, count // 2, 4, 2, 1, bias=bias), *normed(count // 2)]
        layers += [nn.Conv2d(width, channels, 3, padding=1), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[B, C, H, W]`` in [-1, 1], sides multiples of 4, to the same shape and range."""
        translated: Tensor = self.model(x)
        return translated
