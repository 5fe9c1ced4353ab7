"""AdaIN (Huang & Belongie 2017): the statistics of a photograph's features become those of an example, then an image.

A fixed VGG19 up to relu4_1 with reflected borders, and a mirrored decoder without norms. Keys of both are those of the
public PyTorch files behind ``encoder.`` and ``decoder.``. Written from the paper and the files' layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gloam.networks.translators.examples import ExampleTranslator

STAGES = ((64, 2), (128, 2), (256, 4), (512, 1))  # width and convolutions of VGG19 up to relu4_1
EPSILON = 1e-5  # of a variance


class AdainGenerator(ExampleTranslator):
    """An appearance is the mean of each channel of relu4_1, then the deviation of each.

    The encoder is frozen whatever trains the decoder; 3.506 M parameters, and 3.505 M of the decoder.

    Args:
        domains, target: see :class:`ExampleTranslator`.
        channels: of the image.
        stages: width and number of convolutions of the encoder's stages; those of VGG19.
        alpha: how much of the example's statistics are taken, 0 to 1; the rest are the image's own.
    """

    name: ClassVar[str] = "adain"
    anchor = "top-left"

    def __init__(
        self,
        domains: Sequence[str] = (),
        channels: int = 3,
        stages: Sequence[Sequence[int]] = STAGES,
        alpha: float = 1.0,
        target: str | None = None,
    ) -> None:
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha {alpha}: must be 0 to 1")
        shape = [[int(value) for value in stage] for stage in stages]
        options: dict[str, Any] = {"channels": channels, "stages": shape, "alpha": alpha}
        size = shape[-1][0]
        multiple = 1 << len(shape) - 1
        super().__init__(
            options,
            domains,
            target,
            channels=channels,
            multiple=multiple,
            minimum=2 * multiple,
            size=2 * size,
            meaning=f"mean of each of {size} channels of relu4_1, then the deviation of each",
            default=1.0,
        )
        self.least_example = self.minimum
        self.alpha = alpha
        self.encoder = nn.Sequential(*_encoder(channels, shape)).requires_grad_(False)
        self.decoder = nn.Sequential(*_decoder(channels, shape))
        pools = [at for at, layer in enumerate(self.encoder) if isinstance(layer, nn.MaxPool2d)]
        # The first rectified convolution of each stage: the third layer behind the colours' or a pooling.
        self.taps = tuple(at + 3 for at in (0, *pools))

    def features(self, x: Tensor) -> list[Tensor]:
        """Activations at the first rectified convolution of each stage, of images ``[B, C, H, W]`` in [-1, 1]."""
        y, found = x * 0.5 + 0.5, []
        for at, layer in enumerate(self.encoder):
            y = layer(y)
            if at in self.taps:
                found.append(y)
        return found

    def restyled(self, content: Tensor, appearance: Tensor) -> Tensor:
        """Features ``[B, size, h, w]`` of relu4_1 with the statistics ``[B, 2 size]`` of an appearance."""
        mean, deviation = statistics(content)
        own = (content - mean[:, :, None, None]) / deviation[:, :, None, None]
        wanted_mean, wanted = (part[:, :, None, None] for part in appearance.chunk(2, 1))
        return self.alpha * (own * wanted + wanted_mean) + (1.0 - self.alpha) * content

    def decoded(self, features: Tensor) -> Tensor:
        """The image of features of relu4_1, in [-1, 1] but for what is beyond; training does not clip it."""
        image: Tensor = self.decoder(features)
        return image * 2.0 - 1.0

    def dressed(self, x: Tensor, appearance: Tensor) -> Tensor:
        """See :meth:`ExampleTranslator.dressed`."""
        return self.decoded(self.restyled(self.features(x)[-1], appearance)).clamp(-1.0, 1.0)

    def worn(self, x: Tensor) -> Tensor:
        """See :meth:`ExampleTranslator.worn`."""
        return torch.cat(statistics(self.features(x)[-1]), 1)


def statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel over the cells, ``[B, C]`` each; the deviation of a sample, never 0."""
    mean = features.mean((2, 3), keepdim=True)
    cells = features.shape[2] * features.shape[3]
    variance = (features - mean).square().mean((2, 3)) * cells / (cells - 1)
    return mean.flatten(1), (variance + EPSILON).sqrt()


def _convolutions(stages: Sequence[Sequence[int]]) -> list[tuple[int, int, bool]]:
    """Of the encoder: channels in and out, and whether a pooling stands before it."""
    found, incoming = [], 3
    for stage, (width, count) in enumerate(stages):
        for at in range(count):
            found.append((incoming, width, stage > 0 and at == 0))
            incoming = width
    return found


def _encoder(channels: int, stages: Sequence[Sequence[int]]) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(channels, 3, 1)]
    for incoming, out, pooled in _convolutions(stages):
        layers += [nn.MaxPool2d(2, 2, ceil_mode=True)] if pooled else []
        layers += [nn.ReflectionPad2d(1), nn.Conv2d(incoming, out, 3), nn.ReLU()]
    return layers


def _decoder(channels: int, stages: Sequence[Sequence[int]]) -> list[nn.Module]:
    """The encoder backwards, without a ReLU behind the image."""
    first, *others = _convolutions(stages)
    layers: list[nn.Module] = []
    for out, incoming, pooled in reversed(others):
        layers += [nn.ReflectionPad2d(1), nn.Conv2d(incoming, out, 3), nn.ReLU()]
        layers += [nn.Upsample(scale_factor=2, mode="nearest")] if pooled else []
    return [*layers, nn.ReflectionPad2d(1), nn.Conv2d(first[1], channels, 3)]
