"""Photometric normalisation of a decoded image: CLAHE on the lightness of Lab, as the Dark Side paper's embedders."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from gloam.model_card import Photometric


def clahe(image: npt.NDArray[np.uint8], clip: float = 1.0, grid: int = 8) -> npt.NDArray[np.uint8]:
    """Contrast-limited adaptive histogram equalisation of L; a and b stay.

    Float Lab by OpenCV, L truncated to 8 bits, equalised on ``grid`` x ``grid`` tiles, and back.

    Args:
        image: uint8 ``[H, W, 3]`` RGB.
        clip: OpenCV's clip limit.
        grid: tiles per side.

    Returns:
        uint8 ``[H, W, 3]`` RGB.
    """
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    lightness = (lab[..., 0] * np.float32(255 / 100)).clip(0, 255).astype(np.uint8)
    lab[..., 0] = cv2.createCLAHE(clip, (grid, grid)).apply(lightness) * np.float32(100 / 255)
    result: npt.NDArray[np.uint8] = (cv2.cvtColor(lab, cv2.COLOR_LAB2RGB).clip(0, 1) * 255).round().astype(np.uint8)
    return result


def apply_photometric(image: npt.NDArray[np.uint8], photometric: Photometric) -> npt.NDArray[np.uint8]:
    """What a caller must do to a decoded image before the graph: nothing where the graph does it itself."""
    if photometric.name == "none" or photometric.baked:
        return image
    return clahe(image, photometric.clip, photometric.grid)
