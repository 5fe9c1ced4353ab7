"""What a foreign graph's input is fed: from 8-bit RGB to its layout, channels, range and normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Layout = Literal["nchw", "nhwc"]
Channels = Literal["rgb", "bgr"]
Triple = tuple[float, float, float]

ZERO: Triple = (0.0, 0.0, 0.0)
ONE: Triple = (1.0, 1.0, 1.0)
BYTE: Triple = (1 / 255, 1 / 255, 1 / 255)
IMAGENET: tuple[Triple, Triple] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP: tuple[Triple, Triple] = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
CAFFE: tuple[Triple, Triple] = ((123.68 / 255, 116.779 / 255, 103.939 / 255), BYTE)
# What programs feed: the mean and deviation on [0, 1], of red, green and blue; the commonest first.
NORMALISATIONS: dict[str, tuple[Triple, Triple]] = {
    "ImageNet's": IMAGENET,
    "none, [0, 1]": (ZERO, ONE),
    "none, 0-255": (ZERO, BYTE),
    "[-1, 1]": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "CLIP's": CLIP,
    "Caffe's": CAFFE,
    "ImageNet's times 255": (IMAGENET[0], tuple(value / 255 for value in IMAGENET[1])),  # type: ignore[dict-item]  # of three
}
NEAR = 5e-3  # relative: two normalisations that people write with so few digits are one


@dataclass(frozen=True)
class Feeding:
    """How 8-bit RGB becomes the graph's input: ``(pixels / 255 - mean) / std``, then its channels and its layout.

    Attributes:
        layout: ``nchw`` or ``nhwc``.
        channels: order of the graph's channels.
        mean, std: of red, green and blue, on [0, 1]; a graph of 0..255 has 0 and 1 / 255.
    """

    layout: Layout
    channels: Channels
    mean: Triple
    std: Triple

    @property
    def scale(self) -> npt.NDArray[np.float32]:
        """What a pixel is multiplied by, of red, green and blue."""
        return np.asarray([1 / (255 * std) for std in self.std], np.float32)

    @property
    def shift(self) -> npt.NDArray[np.float32]:
        """What is added then."""
        return np.asarray([-mean / std for mean, std in zip(self.mean, self.std, strict=True)], np.float32)

    def fed(self, images: npt.NDArray[np.uint8], dtype: str = "float32") -> npt.NDArray[np.generic]:
        """The graph's input: the plain twin of the nodes that :mod:`gloam.export.adopt.written_graph` puts in front.

        Args:
            images: uint8 RGB ``[B, H, W, 3]``.
            dtype: of the input; whole levels for ``uint8``.

        Returns:
            ``[B, 3, H, W]`` or ``[B, H, W, 3]``.
        """
        values = images.astype(np.float32) * self.scale + self.shift
        if self.channels == "bgr":
            values = values[..., ::-1]
        if self.layout == "nchw":
            values = values.transpose(0, 3, 1, 2)
        if dtype == "uint8":
            values = np.rint(values)
        return np.ascontiguousarray(values.astype(dtype))

    def normalises_as(self, other: Feeding) -> bool:
        """Whether both have one mean and deviation, as far as people write them."""
        return alike(self.mean, other.mean, other.std) and alike(self.std, other.std, other.std)

    def options(self) -> str:
        """As a user states it on the command line."""
        whole = max(self.std) < 0.05  # of a graph whose values are those of bytes
        times = 255 if whole else 1
        mean, std = (",".join(f"{value * times:.6g}" for value in values) for values in (self.mean, self.std))
        return f"--range {times} --mean {mean} --std {std} --channels {self.channels}"


def alike(a: Triple, b: Triple, unit: Triple) -> bool:
    """Whether two triples differ by no more than :data:`NEAR` of a unit each."""
    return all(abs(x - y) <= NEAR * abs(u) for x, y, u in zip(a, b, unit, strict=True))


def known_order(mean: Triple, std: Triple) -> Channels | None:
    """The order in which known means and deviations stand here; None where they are none that is known, or the same
    both ways."""
    for known in (IMAGENET, CLIP, CAFFE):
        if alike(mean, known[0], known[1]) and alike(std, known[1], known[1]):
            return "rgb"
        if alike(mean, known[0][::-1], known[1]) and alike(std, known[1][::-1], known[1]):
            return "bgr"
    return None
