"""Translators without a network, of the interface of :class:`gloam.runtime.models.translator.Translator`: the
controls that a trained generator must beat.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from gloam.data.photometric import clahe
from gloam.errors import UsageError
from gloam.files import sha256_json
from gloam.runtime.backends.facts import BackendFacts
from gloam.runtime.models.image_model import Pixels, one_by_one, to_uint8

NIGHT_MEAN = 0.22  # mean value over the channels of 140 webcam photographs by night (by day: 0.49)
LARGEST_GAMMA = 64.0  # an image with many saturated pixels cannot reach every mean
VERSION = 1  # of the formulas below; part of every fingerprint


class Classic:
    """One formula per image.

    Attributes:
        name: its name in :data:`CLASSIC`.
        fingerprint: changes with the parameters and with the formula.
    """

    name = ""

    def __init__(self, **parameters: Any) -> None:
        self.fingerprint = sha256_json({"classic": self.name, "version": VERSION, **parameters})
        self.batch_size = 1
        self.backend = BackendFacts("opencv", ("CPU",), "fp32", threads=1)

    def check(self, image: Pixels) -> None:
        """Any uint8 ``[h, w, 3]`` image will do; anything else is an ImageError."""
        one_by_one([image], lambda same: same)

    def shape_for(self, image: Pixels) -> tuple[int, int]:
        """Native sizes."""
        return image.shape[0], image.shape[1]

    def __call__(self, images: Sequence[Pixels]) -> list[Pixels]:
        """uint8 ``[h, w, 3]`` RGB each, of any sizes, to the same shapes."""
        return one_by_one(images, self.turn)

    def turn(self, image: Pixels) -> Pixels:
        """One image."""
        return image


class Identity(Classic):
    """Untouched images: the first control."""

    name = "none"


class LabInversion(Classic):
    """``L -> 100 - L`` in CIE Lab, a and b stay: the cheap augmentation of the Dark Side paper."""

    name = "lab-inversion"

    def turn(self, image: Pixels) -> Pixels:
        """One image; colours that leave the RGB cube are clipped to it."""
        lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        lab[..., 0] = 100 - lab[..., 0]
        return to_uint8(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255)


class GammaDarkening(Classic):
    """``v -> v ** gamma`` with each image's own gamma, so that its mean becomes that of the night.

    Args:
        mean: of the result over all pixels and channels, on [0, 1]. A darker image stays as it is.
    """

    name = "gamma"

    def __init__(self, mean: float = NIGHT_MEAN) -> None:
        if not 0 < mean < 1:
            raise UsageError(f"gamma:{mean:g}: the night mean must lie between 0 and 1")
        super().__init__(mean=float(mean))
        self.mean = float(mean)

    def gamma(self, image: Pixels) -> float:
        """The exponent, from 1 to 64, by bisection on the histogram; the mean falls as it grows."""
        counts: npt.NDArray[np.float64] = np.bincount(image.ravel(), minlength=256) / image.size
        values = np.arange(256) / 255
        low, high = 1.0, LARGEST_GAMMA
        if counts @ values <= self.mean:
            return low
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if counts @ values**middle > self.mean else (low, middle)
        return high

    def turn(self, image: Pixels) -> Pixels:
        """One image; one exponent for all channels."""
        table = to_uint8(255 * (np.arange(256) / 255) ** self.gamma(image))
        return table[image]


class Clahe(Classic):
    """Contrast-limited equalisation of Lab's lightness, as for the Dark Side paper's embedders.

    Args:
        clip, grid: OpenCV's clip limit and tiles per side.
    """

    name = "clahe"

    def __init__(self, clip: float = 1.0, grid: int = 8) -> None:
        super().__init__(clip=float(clip), grid=int(grid))
        self.clip, self.grid = clip, grid

    def turn(self, image: Pixels) -> Pixels:
        """One image."""
        return clahe(image, self.clip, self.grid)


CLASSIC: dict[str, type[Classic]] = {kind.name: kind for kind in (Identity, LabInversion, GammaDarkening, Clahe)}


def create_classic(spec: str) -> Classic | None:
    """A classic translator by its name, ``gamma:MEAN`` included; None where the spec names none of them.

    Raises:
        UsageError: a bad parameter, or one for a translator that takes none.
    """
    name, separator, parameter = spec.partition(":")
    if name not in CLASSIC:
        return None
    if not separator:
        return CLASSIC[name]()
    if name != GammaDarkening.name:
        raise UsageError(f"{spec}: {name} takes no parameter")
    try:
        return GammaDarkening(float(parameter))
    except ValueError as error:
        raise UsageError(f"{spec}: {parameter!r} is not a number; write e.g. gamma:{NIGHT_MEAN}") from error
