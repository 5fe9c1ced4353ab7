"""The generator and discriminator of the GANimation baseline (Pumarola et al. 2018), on StarGAN's encoder and decoder
(Choi et al. 2018): clean-room, from the papers and their published shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gloam.networks.translators.base import DomainTranslator
from gloam.networks.translators.layers import InstanceNorm2d
from gloam.networks.translators.spade import blended


class GanimationGenerator(DomainTranslator):
    """Image and maps of the label through a residual encoder-decoder; colours are blended in by an attention mask.

    Padding is with zeros: reflected label maps would be constant, and instance norm removes a constant.

    Args:
        domains, codes, target: see :class:`DomainTranslator`.
        channels: of the image.
        width: channels behind the first convolution.
        blocks: residual blocks.
    """

    name: ClassVar[str] = "ganimation"
    anchor = "top-left"

    def __init__(
        self,
        domains: Sequence[str] = ("day", "night"),
        channels: int = 3,
        width: int = 64,
        blocks: int = 6,
        codes: Sequence[Sequence[float]] | None = None,
        target: str | None = None,
    ) -> None:
        options: dict[str, Any] = {"channels": channels, "width": width, "blocks": blocks}
        super().__init__(options, domains, codes, target, channels=channels, multiple=4, minimum=8)
        layers: list[nn.Module] = []

        def normed(layer: nn.Module, count: int) -> None:
            layers.extend((layer, InstanceNorm2d(count, affine=True), nn.ReLU()))

        normed(nn.Conv2d(channels + len(self.codes[0]), width, 7, padding=3, bias=False), width)
        for count in (width, 2 * width):
            normed(nn.Conv2d(count, 2 * count, 4, 2, 1, bias=False), 2 * count)
        layers.extend(_Residual(4 * width) for _ in range(blocks))
        for count in (4 * width, 2 * width):
            normed(nn.ConvTranspose2d(count, count // 2, 4, 2, 1, bias=False), count // 2)
        self.main = nn.Sequential(*layers)
        self.head_color = nn.Conv2d(width, channels, 7, padding=3, bias=False)
        self.head_mask = nn.Conv2d(width, 1, 7, padding=3, bias=False)

    def parts(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Colours ``[B, C, H, W]`` in [-1, 1] and the mask ``[B, 1, H, W]`` in [0, 1], 1 where the image stays."""
        code = self._default("label", x) if label is None else label
        maps = code[:, :, None, None].expand(-1, -1, x.shape[2], x.shape[3])
        y = self.main(torch.cat((x, maps), 1))
        return torch.tanh(self.head_color(y)), torch.sigmoid(self.head_mask(y))

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Float ``[B, C, H, W]`` in [-1, 1], sides multiples of 4, and codes ``[B, K]`` (the target's where they are
        left out) to the same shape and range."""
        return blended(x, *self.parts(x, label))


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            InstanceNorm2d(channels, affine=True),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            InstanceNorm2d(channels, affine=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = self.main(x)
        return x + inner


class StarDiscriminator(nn.Module):
    """Patch scores and the label of the whole image: convolutions of stride 2 without norms, two heads.

    The published head for the label is a convolution as large as the last map of a square image; here that map is
    averaged first, so that images of any shape can be judged.

    Args:
        codes: numbers of a label.
        channels: of the image.
        width: channels behind the first convolution; doubled per layer.
        layers: convolutions of stride 2.
    """

    name: ClassVar[str] = "star"

    def __init__(self, codes: int, channels: int = 3, width: int = 64, layers: int = 6) -> None:
        super().__init__()
        self.channels = channels
        self.multiple, self.minimum = 2, 2**layers
        self.options: dict[str, Any] = {"codes": codes, "channels": channels, "width": width, "layers": layers}
        modules: list[nn.Module] = []
        count = channels
        for layer in range(layers):
            modules += [nn.Conv2d(count, width << layer, 4, 2, 1), nn.LeakyReLU(0.01)]
            count = width << layer
        self.main = nn.Sequential(*modules)
        self.score = nn.Conv2d(count, 1, 3, padding=1, bias=False)
        self.label = nn.Conv2d(count, codes, 1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Float ``[B, C, H, W]`` in [-1, 1] to scores ``[B, 1, h, w]`` and label logits ``[B, K]``."""
        y = self.main(x)
        return self.score(y), self.label(y.mean((2, 3), keepdim=True)).flatten(1)
