"""How a day image and a night image become the two float arrays of a translator's batch.

A transform takes two uint8 ``[H, W, C]`` images (C 1 or 3) and a random generator and returns two float32
``[C, h, w]`` arrays in [-1, 1]. Where the papers' code crops both domains at the same place, so do these.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from gloam.errors import DataError, UsageError

Pixels = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Rng = np.random.Generator

CYCLEGAN_LOAD = 286 / 256  # CycleGAN, pix2pix and CUT load at 286 pixels and crop 256
STUDY_LOAD = 1.2  # the CycleGAN study enlarges by a fifth


class Transform(Protocol):
    """What all transforms of this module are."""

    @property
    def least_side(self) -> int:
        """Images with a shorter side than this cannot be used, pixels."""

    def __call__(self, day: Pixels, night: Pixels, rng: Rng) -> tuple[Float32, Float32]:
        """Both images as float32 ``[C, h, w]`` in [-1, 1]."""


def to_planes(image: npt.NDArray[np.uint8] | Float32) -> Float32:
    """``[H, W, C]`` in 0..255 to float32 ``[C, H, W]`` in [-1, 1]."""
    return np.ascontiguousarray(np.asarray(image, np.float32).transpose(2, 0, 1) / np.float32(127.5) - np.float32(1))


def resized(image: Pixels, width: int, height: int) -> Pixels:
    """Bicubic, averaging over what it reduces, as the papers' code (Pillow) does; uint8 ``[height, width, C]``."""
    if image.shape[:2] == (height, width):
        return image
    grey = image.shape[2] == 1
    picture = Image.fromarray(image[..., 0] if grey else image).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(picture)[..., None] if grey else np.asarray(picture)


@dataclass(frozen=True)
class ScaleCrop:
    """Dark Side Augmentation: one crop window for both images, of side ``size / scale``, brought to ``size``.

    The window lies in the top-left area that both images have, and is where it is in both. ``low`` 0.8 is that
    paper's, 0.6 the thesis's.
    """

    size: int = 256
    low: float = 0.8
    high: float = 1.0
    flip: bool = False

    @property
    def least_side(self) -> int:
        """Images are never enlarged."""
        return self.size

    def __call__(self, day: Pixels, night: Pixels, rng: Rng) -> tuple[Float32, Float32]:
        """Crop both."""
        height, width = min(day.shape[0], night.shape[0]), min(day.shape[1], night.shape[1])
        if min(height, width) < self.size:
            raise DataError(f"a crop of {self.size} px does not fit into the common {width}x{height} px of a pair")
        scale = rng.uniform(min(max(self.size / height, self.size / width, self.low), self.high), self.high)
        side = min(math.ceil(self.size / scale), height, width)
        top, left = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
        mirror = self.flip and bool(rng.random() < 0.5)
        window = (slice(top, top + side), slice(left, left + side))
        first, second = (to_planes(_linear(image[window], self.size)) for image in (day, night))
        return _mirrored(first, mirror), _mirrored(second, mirror)


@dataclass(frozen=True)
class ResizeCrop:
    """CycleGAN, pix2pix, CUT: stretch to ``load`` x ``load``, crop ``size`` at random, mirror every second image.

    Attributes:
        shared: one window and one mirror for both images, as pix2pix needs; else each image has its own.
        crop_share: share of the images that are cropped; the others are stretched to ``size`` straight away.
    """

    size: int = 256
    load: int = 286
    flip: bool = True
    shared: bool = False
    crop_share: float = 1.0

    @property
    def least_side(self) -> int:
        """Any size is stretched."""
        return 1

    def __call__(self, day: Pixels, night: Pixels, rng: Rng) -> tuple[Float32, Float32]:
        """Stretch, crop and mirror both."""
        choice = self._draw(rng)
        return self._apply(day, choice), self._apply(night, choice if self.shared else self._draw(rng))

    def _draw(self, rng: Rng) -> tuple[bool, int, int, bool]:
        cropped = bool(rng.random() < self.crop_share)
        top, left = (int(value) for value in rng.integers(0, self.load - self.size + 1, 2))
        return cropped, top, left, self.flip and bool(rng.random() < 0.5)

    def _apply(self, image: Pixels, choice: tuple[bool, int, int, bool]) -> Float32:
        cropped, top, left, mirror = choice
        if cropped:
            image = resized(image, self.load, self.load)[top : top + self.size, left : left + self.size]
        return _mirrored(to_planes(resized(image, self.size, self.size)), mirror)


@dataclass(frozen=True)
class Square:
    """The thesis's rule for RobotCar: stretched to a square, nothing cut."""

    size: int = 256
    flip: bool = False
    shared: bool = True

    @property
    def least_side(self) -> int:
        """Any size is stretched."""
        return 1

    def __call__(self, day: Pixels, night: Pixels, rng: Rng) -> tuple[Float32, Float32]:
        """Stretch both."""
        first = self.flip and bool(rng.random() < 0.5)
        second = first if self.shared else self.flip and bool(rng.random() < 0.5)
        one, other = (to_planes(resized(image, self.size, self.size)) for image in (day, night))
        return _mirrored(one, first), _mirrored(other, second)


@dataclass(frozen=True)
class ShorterSide:
    """CyEDA: the shorter side becomes ``size``, the whole image is kept; a batch needs images of one shape."""

    size: int = 256

    @property
    def least_side(self) -> int:
        """Any size is resized."""
        return 1

    def __call__(self, day: Pixels, night: Pixels, rng: Rng) -> tuple[Float32, Float32]:
        """Resize both."""
        return to_planes(shorter_side(day, self.size)), to_planes(shorter_side(night, self.size))


@dataclass(frozen=True)
class Pad:
    """The CycleGAN study's digits and clothes: black around the image, 28 to 32 pixels.

    Attributes:
        size: of the padded image.
        then: what is done to the padded images; nothing where it is None.
    """

    size: int = 32
    then: Transform | None = None

    @property
    def least_side(self) -> int:
        """Padding enlarges."""
        return 1

    def __call__(self, day: Pixels, night: Pixels, rng: Rng) -> tuple[Float32, Float32]:
        """Pad both."""
        day, night = self._padded(day), self._padded(night)
        return (to_planes(day), to_planes(night)) if self.then is None else self.then(day, night, rng)

    def _padded(self, image: Pixels) -> Pixels:
        down, across = self.size - image.shape[0], self.size - image.shape[1]
        if min(down, across) < 0:
            raise DataError(f"an image of {image.shape[1]}x{image.shape[0]} px does not fit into {self.size} px")
        return np.pad(image, ((down // 2, down - down // 2), (across // 2, across - across // 2), (0, 0)))


@dataclass(frozen=True)
class CentreSquare:
    """The largest square in the middle, brought to ``size``: what held-out images are judged on."""

    size: int = 256

    @property
    def least_side(self) -> int:
        """Any size is resized."""
        return 1

    def __call__(self, day: Pixels, night: Pixels, rng: Rng) -> tuple[Float32, Float32]:
        """Crop and resize both; nothing is random."""
        return to_planes(centre_square(day, self.size)), to_planes(centre_square(night, self.size))


def shorter_side(image: Pixels, size: int) -> Pixels:
    """``image`` with its shorter side at ``size`` pixels, aspect kept."""
    height, width = image.shape[:2]
    factor = size / min(height, width)
    return resized(image, max(round(width * factor), size), max(round(height * factor), size))


def centre_square(image: Pixels, size: int) -> Pixels:
    """The middle ``size`` x ``size`` of the image with its shorter side at ``size``."""
    image = shorter_side(image, size)
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


def _scalecrop(size: int, scale: tuple[float, float], flip: bool | None, shared: bool) -> Transform:
    return ScaleCrop(size, *scale, flip=bool(flip))


def _cyclegan(size: int, scale: tuple[float, float], flip: bool | None, shared: bool) -> Transform:
    return ResizeCrop(size, round(size * CYCLEGAN_LOAD), flip is not False, shared)


def _cyclegan_study(size: int, scale: tuple[float, float], flip: bool | None, shared: bool) -> Transform:
    return ResizeCrop(size, round(size * STUDY_LOAD), flip is not False, shared, crop_share=0.5)


TRANSFORMS: dict[str, Callable[[int, tuple[float, float], bool | None, bool], Transform]] = {
    "scalecrop": _scalecrop,
    "cyclegan": _cyclegan,
    "cyclegan_study": _cyclegan_study,
    "square": lambda size, scale, flip, shared: Square(size, bool(flip), shared),
    "shorter": lambda size, scale, flip, shared: ShorterSide(size),
    "pad": lambda size, scale, flip, shared: Pad(size),
    "padded_study": lambda size, scale, flip, shared: Pad(size, _cyclegan_study(size, scale, flip, shared)),
    "centre": lambda size, scale, flip, shared: CentreSquare(size),
}


def create_transform(
    name: str, size: int, scale: tuple[float, float] = (0.8, 1.0), flip: bool | None = None, shared: bool = False
) -> Transform:
    """A transform by name.

    Args:
        name: one of :data:`TRANSFORMS`.
        size: side of the result, pixels.
        scale: range of ``scalecrop``.
        flip: mirror every second image; None is what the transform's paper does.
        shared: the same random choices for both images of a pair; ``scalecrop`` always shares them.

    Raises:
        UsageError: no such transform, or an impossible size or range.
    """
    if name not in TRANSFORMS:
        raise UsageError(f"unknown transform {name!r}; choose one of {', '.join(TRANSFORMS)}")
    if size < 1:
        raise UsageError(f"size {size}: must be at least 1 pixel")
    if not 0 < scale[0] <= scale[1] <= 1:
        raise UsageError(f"scale {list(scale)}: must be two rising numbers above 0 and up to 1")
    return TRANSFORMS[name](size, scale, flip, shared)


def _linear(window: Pixels, size: int) -> Float32:
    """Bilinear in floating point, as the paper's code; float32 ``[size, size, C]`` in 0..255."""
    values = window.astype(np.float32)
    if values.shape[:2] != (size, size):
        values = cv2.resize(values, (size, size), interpolation=cv2.INTER_LINEAR).reshape(size, size, -1)
    return values


def _mirrored(planes: Float32, mirror: bool) -> Float32:
    return np.ascontiguousarray(planes[..., ::-1]) if mirror else planes
