"""The discriminator of weakly-paired translation (BMVC 2020): input image and candidate pass streams of their own.

A joint head judges both, a marginal head and a class head the candidate alone, at two scales.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gloam.errors import ModelError
from gloam.networks.translators.layers import LayerNorm2d, norm_layer

NORMS = ("instance", "layer", "none")  # the first is SPADE's


class Verdict(NamedTuple):
    """What one scale says.

    Attributes:
        joint: scores ``[B, 1, h, w]`` of the pair.
        features: activations of the joint hidden layers, lower ones first.
        marginal: scores ``[B, 1, h, w]`` of the candidate alone; None where there is no such head.
        label: logits ``[B, K]`` of the candidate's label; None where there is no such head.
    """

    joint: Tensor
    features: list[Tensor]
    marginal: Tensor | None
    label: Tensor | None


class TwoStreamDiscriminator(nn.Module):
    """Judges pairs of an input image and a candidate. 12.12 M parameters for eleven domains.

    Args:
        codes: numbers of a label; 0 is no class head.
        channels: of an image.
        width: channels behind the first convolution; doubled per layer up to eightfold.
        scales: the second sees both images at half the size, and so on.
        stack: the images enter one joint stream side by side; a marginal head then has layers of its own.
        marginal: whether candidates are judged alone too; the class head hangs on this branch.
        norm: ``instance``, as SPADE has it; ``layer``, of all channels of an image together; or ``none``. An instance
            norm hides from the heads how bright an image is, and how strong its colours are.

    Raises:
        ModelError: an unknown norm.
    """

    name: ClassVar[str] = "two_stream"

    def __init__(
        self,
        codes: int,
        channels: int = 3,
        width: int = 64,
        scales: int = 2,
        stack: bool = False,
        marginal: bool = True,
        norm: str = "instance",
    ) -> None:
        if norm not in NORMS:
            raise ModelError(f"norm {norm!r}: choose one of {', '.join(NORMS)}")
        super().__init__()
        self.channels = channels
        self.minimum = 16 << scales - 1
        self.options: dict[str, Any] = {
            "codes": codes,
            "channels": channels,
            "width": width,
            "scales": scales,
            "stack": stack,
            "marginal": marginal,
            **({"norm": norm} if norm != NORMS[0] else {}),
        }
        self.scales = nn.ModuleList(_Scale(codes, channels, width, stack, marginal, norm) for _ in range(scales))

    def bounded(self) -> list[nn.Conv2d]:
        """The convolutions that have a spectral norm in training: those in front of a norm."""
        return [part[0] for part in self.modules() if isinstance(part, _Normed)]  # type: ignore[misc]  # it is one

    def forward(self, image: Tensor, candidate: Tensor) -> list[Verdict]:
        """Float ``[B, C, H, W]`` in [-1, 1] each, to one verdict a scale, the finest first."""
        verdicts = []
        for number, scale in enumerate(self.scales):
            if number:
                image, candidate = (
                    F.avg_pool2d(x, 3, 2, padding=1, count_include_pad=False) for x in (image, candidate)
                )
            verdicts.append(scale(image, candidate))
        return verdicts


class _Normed(nn.Sequential):
    """Convolution 4x4, a norm, leaky ReLU; the convolution has a bias where there is no norm."""

    def __init__(self, incoming: int, out: int, stride: int, norm: str) -> None:
        normed = LayerNorm2d() if norm == "layer" else norm_layer(norm, out)
        super().__init__(nn.Conv2d(incoming, out, 4, stride, 2, bias=norm == "none"), normed, nn.LeakyReLU(0.2))


class _Scale(nn.Module):
    def __init__(self, codes: int, channels: int, width: int, stack: bool, marginal: bool, norm: str) -> None:
        super().__init__()
        self.stack = stack
        self.image = None if stack else _stem(channels, width, norm)
        self.candidate = _stem(channels, width, norm) if marginal or not stack else None
        self.both = _stem(2 * channels, width, norm) if stack else None
        self.joint = nn.ModuleList(
            (_Normed((2 if stack else 4) * width, 4 * width, 2, norm), _Normed(4 * width, 8 * width, 1, norm))
        )
        self.joint_score = nn.Conv2d(8 * width, 1, 4, 1, 2)
        self.marginal = (
            nn.Sequential(_Normed(2 * width, 4 * width, 2, norm), _Normed(4 * width, 8 * width, 1, norm))
            if marginal
            else None
        )
        self.marginal_score = nn.Conv2d(8 * width, 1, 4, 1, 2) if marginal else None
        self.label = nn.Conv2d(8 * width, codes, 1) if marginal and codes else None

    def forward(self, image: Tensor, candidate: Tensor) -> Verdict:
        alone: Any = self.candidate(candidate) if self.candidate is not None else None
        features = []
        if self.both is not None:
            y = torch.cat((image, candidate), 1)
            for layer in self.both:
                y = layer(y)
                features.append(y)
        else:
            assert self.image is not None  # of two streams
            y = torch.cat((self.image(image), alone), 1)
        for layer in self.joint:
            y = layer(y)
            features.append(y)
        marginal: Any = self.marginal(alone) if self.marginal is not None else None
        return Verdict(
            self.joint_score(y),
            features,
            self.marginal_score(marginal) if self.marginal_score is not None else None,
            self.label(marginal.mean((2, 3), keepdim=True)).flatten(1) if self.label is not None else None,
        )


def _stem(channels: int, width: int, norm: str) -> nn.Sequential:
    first = nn.Sequential(nn.Conv2d(channels, width, 4, 2, 2), nn.LeakyReLU(0.2))
    return nn.Sequential(first, _Normed(width, 2 * width, 2, norm))
