"""MDUIT: an image's content in the appearance of an example image, through a filter that is read off the example.

The content map is convolved with 5x5 filters, one a channel, that the appearance encoder makes of
the example; a generator turns the result into an image. The paper states no layers; those of its authors' MGUIT fill
the gaps. Written from the papers. The embedding of the content map is in ``gloam.networks.embedders.mduit``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gloam.errors import ModelError
from gloam.model_card import TensorSpec
from gloam.networks.embedders.base import IMAGENET_MEAN, IMAGENET_STD
from gloam.networks.embedders.vgg import STAGES, VGG16
from gloam.networks.translators.base import TranslatorNetwork
from gloam.networks.translators.content import ContentEncoder
from gloam.networks.translators.drit import InstanceBlock, MapNorm

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

    Attributes:
        minimum: smallest side of an image, pixels.
    """

    def __init__(self, dimension: int = 256, stages: Sequence[Sequence[int]] = STAGES[:3]) -> None:
        super().__init__()
        self.vgg = VGG16(stages)
        self.minimum = 1 << len(stages) + 1
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


class MduitGenerator(TranslatorNetwork):
    """Translates into the appearance of any example; no number of domains is built in.

    Filters are ``[B, 25 dimension]``: the taps of one channel after the other, row by row. A filter of zeros changes
    nothing where ``identity`` is set, for then 1 is added to every centre tap.

    Args:
        domains: names of the domains whose filters the network keeps, for those who have no example.
        channels: of the image.
        width: channels behind the first convolution of the content encoder; see :class:`ContentEncoder`.
        blocks: residual blocks of the content encoder, and of the decoder.
        stages: of VGG16; see :class:`AppearanceEncoder`.
        identity: filters are added to the identity. Without it, as in the paper, small initial weights let hardly
            anything through.
        target: name of the domain whose filter is meant where none is given; None for a filter of zeros.

    Attributes:
        content, appearance, decoder: the paper's E_c, E_a (with VGG16) and G.
        dimension: channels of the content map.
        bank: a filter for each domain ``[domains, 25 dimension]``; of zeros where none is kept yet.

    Raises:
        ModelError: two domains of one name, or an unknown target.
    """

    name: ClassVar[str] = "mduit"

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
        names = tuple(str(name) for name in domains)
        if len(set(names)) != len(names):
            raise ModelError(f"domains {', '.join(names)}: one is named twice; name each once")
        options: dict[str, Any] = {
            "domains": list(names),
            "channels": channels,
            "width": width,
            "blocks": blocks,
            "stages": [list(stage) for stage in stages],
            "identity": identity,
            "target": target,
        }
        super().__init__(options, channels=channels, multiple=4, minimum=8)
        self.domains, self.identity, self.target = names, identity, target
        self.content = ContentEncoder(channels, width, blocks)
        self.dimension = self.content.dimension
        self.appearance = AppearanceEncoder(self.dimension, stages)
        layers: list[nn.Module] = [InstanceBlock(self.dimension) for _ in range(blocks)]
        for level in (4, 2):
            up = nn.ConvTranspose2d(level * width, level * width // 2, 3, 2, 1, output_padding=1)
            layers += [up, MapNorm(level * width // 2), nn.ReLU()]
        self.decoder = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, channels, 7), nn.Tanh())
        self.register_buffer("bank", torch.zeros(len(names), TAPS * self.dimension))
        self.register_buffer("kernel", _identity(self.dimension) * identity, persistent=False)
        self.register_load_state_dict_post_hook(_state_conditions)  # type: ignore[no-untyped-call]  # torch's
        if target is not None:
            self._row(target)
        _state_conditions(self)

    def keep(self, bank: Tensor) -> None:
        """Keep a filter for each domain, ``[domains, 25 dimension]``."""
        self.get_buffer("bank").copy_(bank)
        _state_conditions(self)

    def towards(self, domain: str) -> tuple[TensorSpec, ...]:
        """See :meth:`TranslatorNetwork.towards`.

        Raises:
            ModelError: no filter of such a domain is kept.
        """
        row = self._row(domain)
        (spec,) = self.conditions
        if spec.choices is None:
            raise ModelError(f"{self.name} keeps no filters of its domains yet; a finished run of training gives them")
        return (replace(spec, default=tuple(spec.choices[self.domains[row]])),)

    def _row(self, domain: str) -> int:
        if domain not in self.domains:
            known = f"the model knows {', '.join(self.domains)}" if self.domains else "it keeps no filter of any"
            raise ModelError(f"unknown domain {domain!r}; {known}")
        return self.domains.index(domain)

    def adapted(self, content: Tensor, filters: Tensor) -> Tensor:
        """The content map ``[B, C, h, w]`` in the appearance of filters ``[B, 25 C]``."""
        kernel = self.get_buffer("kernel") + filters
        convolve = shifted_convolution if torch.compiler.is_exporting() else folded_convolution
        return convolve(content, kernel.reshape(kernel.shape[0], -1, SIDE, SIDE))

    def decoded(self, content: Tensor, filters: Tensor) -> Tensor:
        """The image ``[B, channels, 4 h, 4 w]`` in [-1, 1] of a content map in an appearance; as :meth:`adapted`."""
        image: Tensor = self.decoder(self.adapted(content, filters))
        return image

    def forward(self, x: Tensor, appearance: Tensor | None = None) -> Tensor:
        """Translate.

        Args:
            x: float ``[B, C, H, W]`` in [-1, 1], sides multiples of 4.
            appearance: filters ``[B, 25 dimension]``; the target's, or zeros, where they are left out.

        Returns:
            the shape and range of ``x``.
        """
        if appearance is None:
            appearance = torch.tensor(self.conditions[0].filled(len(x), 0, 0), dtype=x.dtype, device=x.device)
        return self.decoded(self.content(x), appearance)

    def appearance_uint8(self, images: Tensor) -> Tensor:
        """The exported graph of the appearance encoder.

        Args:
            images: uint8 ``[B, H, W, C]`` RGB, sides of at least 16.

        Returns:
            filters, float32 ``[B, 25 dimension]``.
        """
        x = images.to(torch.float32).permute(0, 3, 1, 2) / 127.5 - 1.0
        filters: Tensor = self.appearance(x)
        return filters


def _identity(dimension: int) -> Tensor:
    kernel = torch.zeros(dimension, TAPS)
    kernel[:, CENTRE] = 1.0
    return kernel.reshape(1, -1)


def _state_conditions(network: Any, _: Any = None) -> None:
    """State what the network takes beside the images: a filter, and those of the domains that it keeps."""
    bank = network.get_buffer("bank")
    kept = None
    if not bank.is_meta and bool(bank.any()):
        rows = [[float(f"{value:.9g}") for value in row] for row in bank.float().cpu().tolist()]
        kept = dict(zip(network.domains, rows, strict=True))
    added = ", added to the identity" if network.identity else ""
    spec = TensorSpec(
        "appearance",
        "float32",
        ("batch", TAPS * network.dimension),
        f"5x5 taps of each of {network.dimension} channels{added}; what the appearance encoder gives",
        default=(0.0,) if kept is None or network.target is None else tuple(kept[network.target]),
        choices=kept,
    )
    network.conditions = (spec,)
