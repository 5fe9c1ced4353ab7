"""MDUIT: an image's content in the appearance of an example image, through a filter that is read off the example.

The content map is convolved with 5x5 filters, one a channel, that the appearance encoder makes of
the example; a generator turns the result into an image. The paper states no layers; those of its authors' MGUIT fill
the gaps. Written from the papers. The embedding of the content map is in ``gloam.networks.embedders.mduit``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gloam.networks.embedders.base import IMAGENET_MEAN, IMAGENET_STD
from gloam.networks.embedders.vgg import STAGES, VGG16
from gloam.networks.translators.content import ContentEncoder
from gloam.networks.translators.drit import InstanceBlock, MapNorm
from gloam.networks.translators.examples import ExampleTranslator

SIDE = 5  # of a filter, cells
TAPS = SIDE * SIDE
CENTRE = TAPS // 2


def folded_convolution(x: Tensor, filters: Tensor) -> Tensor:
    """Each image convolved with its own filters, one a channel: the batch is folded into the channels. For training.

    Args:
        x: ``[B, C, H, W]``.
        filters: ``[B, C, 5, 5]``.

    Returns:
        the shape of ``x``; beyond its border there are zeros.
    """
    images, channels = x.shape[:2]
    whole = x.reshape(1, images * channels, *x.shape[2:])
    kernel = filters.reshape(images * channels, 1, SIDE, SIDE)
    return F.conv2d(whole, kernel, padding=SIDE // 2, groups=images * channels).view_as(x)


def shifted_convolution(x: Tensor, filters: Tensor) -> Tensor:
    """:func:`folded_convolution` as a sum of 25 shifted maps, for graphs: ONNX's number of groups is not free."""
    height, width = x.shape[2:]
    padded = F.pad(x, (SIDE // 2,) * 4)
    total = torch.zeros_like(x)
    for row in range(SIDE):
        for column in range(SIDE):
            shifted = padded[:, :, row : row + height, column : column + width]
            total = total + shifted * filters[:, :, row, column, None, None]
    return total


class AppearanceEncoder(nn.Module):
    """An image's appearance as a filter: VGG16 up to relu3_3, two strided convolutions, the mean over all cells, and a
    linear layer. 2.82 M parameters beside VGG16's 1.74 M.

    Args:
        dimension: channels of the content map.
        stages: width and number of convolutions of VGG16's stages.
    """

    def __init__(self, dimension: int = 256, stages: Sequence[Sequence[int]] = STAGES[:3]) -> None:
        super().__init__()
        self.vgg = VGG16(stages)
        self.head = nn.Sequential(
            nn.Conv2d(self.vgg.dimension, dimension, 3, 2, 1),
            nn.LeakyReLU(0.01),
            nn.Conv2d(dimension, dimension, 3, 2, 1),
            nn.LeakyReLU(0.01),
        )
        self.linear = nn.Linear(dimension, TAPS * dimension)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[B, 1 or 3, H, W]`` in [-1, 1], sides of at least 16, to ``[B, 25 dimension]``."""
        normalised = (x * 0.5 + 0.5 - self.get_buffer("mean")) / self.get_buffer("deviation")
        features, _ = self.vgg(normalised)
        filters: Tensor = self.linear(self.head(features).mean((2, 3)))
        return filters


class MduitGenerator(ExampleTranslator):
    """Translates into the appearance of any example; no number of domains is built in.

    Filters are ``[B, 25 dimension]``: the taps of one channel after the other, row by row. A filter of zeros changes
    nothing where ``identity`` is set, for then 1 is added to every centre tap.

    Args:
        domains, target: see :class:`ExampleTranslator`.
        channels: of the image.
        width: channels behind the first convolution of the content encoder; see :class:`ContentEncoder`.
        blocks: residual blocks of the content encoder, and of the decoder.
        stages: of VGG16; see :class:`AppearanceEncoder`.
        identity: filters are added to the identity. Without it, as in the paper, small initial weights let hardly
            anything through.

    Attributes:
        content, appearance, decoder: the paper's E_c, E_a (with VGG16) and G.
        dimension: channels of the content map.
    """

    name: ClassVar[str] = "mduit"
    anchor = "top-left"

    def __init__(
        self,
        domains: Sequence[str] = (),
        channels: int = 3,
        width: int = 64,
        blocks: int = 4,
        stages: Sequence[Sequence[int]] = STAGES[:3],
        identity: bool = True,
        target: str | None = None,
    ) -> None:
        options: dict[str, Any] = {
            "channels": channels,
            "width": width,
            "blocks": blocks,
            "stages": [list(stage) for stage in stages],
            "identity": identity,
        }
        dimension = 4 * width
        added = ", added to the identity" if identity else ""
        super().__init__(
            options,
            domains,
            target,
            channels=channels,
            multiple=4,
            minimum=8,
            size=TAPS * dimension,
            meaning=f"5x5 taps of each of {dimension} channels{added}; what the appearance encoder gives",
            default=0.0,
        )
        self.identity, self.dimension = identity, dimension
        self.content = ContentEncoder(channels, width, blocks)
        self.appearance = AppearanceEncoder(dimension, stages)
        layers: list[nn.Module] = [InstanceBlock(self.dimension) for _ in range(blocks)]
        for level in (4, 2):
            up = nn.ConvTranspose2d(level * width, level * width // 2, 3, 2, 1, output_padding=1)
            layers += [up, MapNorm(level * width // 2), nn.ReLU()]
        self.decoder = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, channels, 7), nn.Tanh())
        self.register_buffer("kernel", _identity(dimension) * identity, persistent=False)

    def adapted(self, content: Tensor, filters: Tensor) -> Tensor:
        """The content map ``[B, C, h, w]`` in the appearance of filters ``[B, 25 C]``."""
        kernel = self.get_buffer("kernel") + filters
        convolve = shifted_convolution if torch.compiler.is_exporting() else folded_convolution
        return convolve(content, kernel.reshape(kernel.shape[0], -1, SIDE, SIDE))

    def decoded(self, content: Tensor, filters: Tensor) -> Tensor:
        """The image ``[B, channels, 4 h, 4 w]`` in [-1, 1] of a content map in an appearance; as :meth:`adapted`."""
        image: Tensor = self.decoder(self.adapted(content, filters))
        return image

    def dressed(self, x: Tensor, appearance: Tensor) -> Tensor:
        """See :meth:`ExampleTranslator.dressed`."""
        return self.decoded(self.content(x), appearance)

    def worn(self, x: Tensor) -> Tensor:
        """See :meth:`ExampleTranslator.worn`."""
        filters: Tensor = self.appearance(x)
        return filters


def _identity(dimension: int) -> Tensor:
    kernel = torch.zeros(dimension, TAPS)
    kernel[:, CENTRE] = 1.0
    return kernel.reshape(1, -1)
