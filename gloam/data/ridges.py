"""Thinning: the pixels that are highest along a direction."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]


def ridges(strength: Float32, across: Float32, down: Float32) -> npt.NDArray[np.bool_]:
    """Pixels that are no weaker than what lies one pixel to both sides along a direction; bool ``[h, w]``.

    Args:
        strength: float32 ``[h, w]``, what is thinned.
        across, down: the direction at each pixel ``[h, w]``, of any length; that of the gradient for the gradient's
            own magnitude, that across the ridge for a ridge.
    """
    height, width = strength.shape
    length = np.maximum(np.hypot(across, down), 1e-12)
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    before, after = (
        cv2.remap(
            strength,
            (x + sign * across / length).astype(np.float32),
            (y + sign * down / length).astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        for sign in (-1, 1)
    )
    return np.asarray((strength >= before) & (strength > after) & (strength > 0), np.bool_)
