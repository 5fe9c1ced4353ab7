"""ToDayGAN's generator (Anoosheh et al. 2019): the encoder of one domain and the decoder of the other.

For import only, as a night-to-day translator of queries. Keys are those of its files under ``encoder`` and ``decoder``.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from gloam.networks.translators.base import TranslatorNetwork
from gloam.networks.translators.layers import InstanceNorm2d, Wrapped


class PReluBlock(nn.Module):
    """``x + conv_block(x)``: two 3x3 convolutions with instance norm and one PReLU between them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            InstanceNorm2d(channels),
            nn.PReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to the same shape."""
        branch: Tensor = self.conv_block(x)
        return x + branch


def _normed(channels: int) -> tuple[nn.Module, nn.Module]:
    return InstanceNorm2d(channels), nn.PReLU()


class TodayganGenerator(TranslatorNetwork):
    """5.10 M parameters in the encoder and 6.57 M in the decoder at the paper's width.

    Args:
        channels: of the image.
        width: channels behind the first convolution.
        encoder_blocks, decoder_blocks: residual blocks of each half.
    """

    name: ClassVar[str] = "todaygan"
    anchor = "top-left"

    def __init__(self, channels: int = 3, width: int = 64, encoder_blocks: int = 4, decoder_blocks: int = 5) -> None:
        options = {
            "channels": channels,
            "width": width,
            "encoder_blocks": encoder_blocks,
            "decoder_blocks": decoder_blocks,
        }
        super().__init__(options, channels=channels, multiple=4, minimum=8)
        down: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(channels, width, 7), *_normed(width)]
        for count in (width, 2 * width):
            down += [nn.Conv2d(count, 2 * count, 3, 2, 1), *_normed(2 * count)]
        self.encoder = Wrapped(*down, *(PReluBlock(4 * width) for _ in range(encoder_blocks)))
        up: list[nn.Module] = [PReluBlock(4 * width) for _ in range(decoder_blocks)]
        for count in (4 * width, 2 * width):
            up += [nn.ConvTranspose2d(count, count // 2, 4, 2, 1), *_normed(count // 2)]
        self.decoder = Wrapped(*up, nn.ReflectionPad2d(3), nn.Conv2d(width, channels, 7), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[B, C, H, W]`` in [-1, 1], sides multiples of 4, to the same shape and range."""
        translated: Tensor = self.decoder(self.encoder(x))
        return translated
