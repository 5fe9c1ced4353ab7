"""Cycle error: how far an image is from itself after there and back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gloam.errors import DataError

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class CycleError:
    """Mean absolute difference over pixels, then over images.

    Attributes:
        l1: in units of the networks' ``[-1, 1]``, 0 to 2; what training minimises.
        l1_unit: the same in units of ``[0, 1]``: half.
        images: how many.
    """

    l1: float
    l1_unit: float
    images: int


def cycle_error(pairs: Iterable[tuple[Pixels, Pixels]]) -> CycleError:
    """L1 of one direction; call it once for day→night→day and once for night→day→night.

    Args:
        pairs: image and the same image after the cycle, uint8 ``[H, W, C]`` both.

    Raises:
        DataError: no pairs, or a pair of different shapes.
    """
    errors = []
    for source, cycled in pairs:
        if source.shape != cycled.shape:
            raise DataError(f"a cycle returns the image's own shape {list(source.shape)}, not {list(cycled.shape)}")
        errors.append(float(np.abs(source.astype(np.int16) - cycled.astype(np.int16)).mean()) / 255)
    if not errors:
        raise DataError("no image pairs to take a cycle error of")
    mean = float(np.mean(errors))
    return CycleError(2 * mean, mean, len(errors))
