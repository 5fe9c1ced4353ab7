"""SSIM and MS-SSIM: how much of an image's structure another keeps (Wang et al. 2003 and 2004).

On luma (BT.601) in 0 to 255, with a Gaussian window of 11 px and sigma 1.5 and only windows that lie inside the image.
MS-SSIM has 5 scales, each the 2x2 mean of the one before, so it needs images of 176 px a side or more.

Between a day image and its translation a high value says that the scene is kept. Within one set a high mean MS-SSIM
says that the images are all alike (Odena et al. 2017), which is how a collapsed generator shows.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from gloam.errors import DataError

Pixels = npt.NDArray[np.uint8]
WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003; they sum to 1 but for rounding
SMALLEST = WINDOW * 2 ** (len(SCALE_WEIGHTS) - 1)  # 176 px: one window at the coarsest scale


def ssim(first: Pixels, second: Pixels) -> float:
    """Structural similarity of two images.

    Args:
        first, second: uint8 ``[H, W, 3]`` RGB or ``[H, W]``, of one shape, 11 px a side at least.

    Returns:
        -1 to 1; 1 for equal images.

    Raises:
        DataError: other shapes.
    """
    luminance, structure = _maps(*_lumas(first, second, WINDOW))
    return float((luminance * structure).mean())


def multi_scale_ssim(first: Pixels, second: Pixels) -> float:
    """Structural similarity over 5 scales.

    Args:
        first, second: uint8 ``[H, W, 3]`` RGB or ``[H, W]``, of one shape, 176 px a side at least.

    Returns:
        0 to 1; 1 for equal images. A negative mean at any scale counts as 0.

    Raises:
        DataError: other shapes.
    """
    one, two = _lumas(first, second, SMALLEST)
    product = 1.0
    for scale, weight in enumerate(SCALE_WEIGHTS):
        luminance, structure = _maps(one, two)
        last = scale == len(SCALE_WEIGHTS) - 1
        mean = float((luminance * structure if last else structure).mean())
        product *= max(mean, 0.0) ** weight
        one, two = _halve(one), _halve(two)
    return product


def set_similarity(load: Callable[[int], Pixels], images: int, pairs: int = 100, seed: int = 0) -> float:
    """Mean MS-SSIM of random pairs within a set: the lower, the more diverse.

    Args:
        load: the i-th image, all of one shape.
        images: how many there are, at least 2.
        pairs: drawn without repetition; all of them where there are no more.
        seed: of the draw.

    Raises:
        DataError: a single image, or shapes that :func:`multi_scale_ssim` refuses.
    """
    if images < 2:
        raise DataError("diversity needs 2 images or more")
    every = images * (images - 1) // 2
    picked = np.random.default_rng(seed).choice(every, min(pairs, every), replace=False)
    return float(np.mean([multi_scale_ssim(*map(load, _pair(int(index)))) for index in picked]))


def _pair(index: int) -> tuple[int, int]:
    """The index-th of (0, 1), (0, 2), (1, 2), (0, 3), ...: each unordered pair once."""
    second = int((1 + np.sqrt(1 + 8 * index)) // 2)
    while second * (second - 1) // 2 > index:  # the square root may round up
        second -= 1
    return index - second * (second - 1) // 2, second


def _lumas(first: Pixels, second: Pixels, smallest: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if first.shape != second.shape:
        raise DataError(
            f"similarity needs two images of one size, not {_size(first)} and {_size(second)}; resize them with --size"
        )
    if min(first.shape[:2]) < smallest:
        raise DataError(f"{_size(first)} is too small; this similarity needs {smallest} px a side or more")
    return _luma(first), _luma(second)


def _luma(image: Pixels) -> npt.NDArray[np.float64]:
    values = image.astype(np.float64)
    luma: npt.NDArray[np.float64] = values @ (0.299, 0.587, 0.114) if values.ndim == 3 else values
    return luma


def _maps(
    one: npt.NDArray[np.float64], two: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Luminance term, and contrast times structure, of every whole window: ``[H - 10, W - 10]``."""
    mean_one, mean_two = _blur(one), _blur(two)
    variance_one = _blur(one * one) - mean_one**2
    variance_two = _blur(two * two) - mean_two**2
    covariance = _blur(one * two) - mean_one * mean_two
    luminance = (2 * mean_one * mean_two + C1) / (mean_one**2 + mean_two**2 + C1)
    return luminance, (2 * covariance + C2) / (variance_one + variance_two + C2)


def _blur(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    edge = WINDOW // 2
    blurred: npt.NDArray[np.float64] = cv2.GaussianBlur(values, (WINDOW, WINDOW), SIGMA)
    return blurred[edge:-edge, edge:-edge]


def _halve(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    height, width = (side - side % 2 for side in values.shape)
    even = values[:height, :width]
    return (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4


def _size(image: Pixels) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
