"""What a photograph's brightness says of the camera and the hour: darkness, clipping, noise and its correlation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from gloam.errors import DataError

Pixels = npt.NDArray[np.uint8]
Float64 = npt.NDArray[np.float64]

SIDE = 512  # pixels of the longer side that photographs are reduced to; smaller ones stay
DARK, BRIGHT = 20, 250  # levels below which a pixel is dark, and above which it is clipped
CELL = 16  # side of the cells of which the flatter half tells how noise is correlated, pixels
LUMA = (0.299, 0.587, 0.114)
LAPLACIAN = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float64)  # Immerkaer 1996; of white noise 6 times sigma
NORMAL = 0.6745  # median of the absolute value of a standard normal variable


@dataclass(frozen=True)
class Photometry:
    """Statistics of one photograph's luminance, or their medians over several.

    Attributes:
        mean: level, 0 to 255.
        dark, bright: percentages of pixels under 20 and over 250.
        noise: standard deviation in levels, by the median of Immerkaer's second difference.
        correlation: of what a blur takes away, between neighbours, in the flatter half of the picture; 0 if white.
        gradient: 99th percentile of the gradient (Sobel), levels per pixel.
        slope: of the power spectrum against frequency, both as logarithms; about -2 for natural pictures.
    """

    mean: float
    dark: float
    bright: float
    noise: float
    correlation: float
    gradient: float
    slope: float


def photometry(image: Pixels) -> Photometry:
    """Statistics of one photograph.

    Args:
        image: uint8 RGB ``[h, w, 3]``, at least 64 pixels a side; reduced by area to 512 pixels of the longer side.

    Raises:
        DataError: the image is of another kind, or too small.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < 64:
        raise DataError(f"photometry needs uint8 RGB of at least 64 pixels a side, not {image.dtype} {image.shape}")
    scale = SIDE / max(image.shape[:2])
    if scale < 1:
        size = round(image.shape[1] * scale), round(image.shape[0] * scale)
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    grey = image.astype(np.float64) @ np.array(LUMA)
    second = cv2.filter2D(grey, -1, LAPLACIAN)[1:-1, 1:-1]
    across, down = (cv2.Sobel(grey, -1, x, y, scale=1 / 8) for x, y in ((1, 0), (0, 1)))
    return Photometry(
        mean=float(grey.mean()),
        dark=float((grey < DARK).mean() * 100),
        bright=float((grey > BRIGHT).mean() * 100),
        noise=float(np.median(np.abs(second)) / NORMAL / 6),
        correlation=_correlation(grey),
        gradient=float(np.quantile(np.hypot(across, down), 0.99)),
        slope=_slope(grey),
    )


def median_photometry(images: Iterable[Pixels]) -> Photometry:
    """The median of each statistic over photographs.

    Raises:
        DataError: no photographs, or one that :func:`photometry` refuses.
    """
    rows = [dataclasses.astuple(photometry(image)) for image in images]
    if not rows:
        raise DataError("photometry needs at least one photograph")
    return Photometry(*(float(value) for value in np.median(rows, axis=0)))


def _correlation(grey: Float64) -> float:
    """Correlation between neighbours of what a blur by 3 pixels takes away; 0 where nothing is left."""
    rest = grey - cv2.GaussianBlur(grey, (0, 0), 3)
    rows, columns = (extent // CELL for extent in rest.shape)
    cells = rest[: rows * CELL, : columns * CELL].reshape(rows, CELL, columns, CELL).swapaxes(1, 2)
    cells = cells.reshape(-1, CELL, CELL)
    cells = cells - cells.mean(axis=(1, 2), keepdims=True)
    power = np.square(cells).mean(axis=(1, 2))
    cells = cells[(power <= np.median(power)) & (power > 0)]
    if not len(cells):
        return 0.0
    beside = (cells[:, :, 1:] * cells[:, :, :-1]).mean() + (cells[:, 1:] * cells[:, :-1]).mean()
    return float(beside / 2 / np.square(cells).mean())


def _slope(grey: Float64) -> float:
    """Slope of the power spectrum of the middle square, averaged over directions."""
    n = min(grey.shape)
    top, left = (grey.shape[0] - n) // 2, (grey.shape[1] - n) // 2
    square = grey[top : top + n, left : left + n]
    window = np.hanning(n)
    power = np.abs(np.fft.fftshift(np.fft.fft2((square - square.mean()) * window[:, None] * window))) ** 2
    y, x = np.indices(power.shape) - n // 2
    radius = np.hypot(x, y).astype(int).ravel()
    mean = np.bincount(radius, power.ravel()) / np.bincount(radius)
    frequency = np.arange(3, int(n * 0.45))
    return float(np.polyfit(np.log(frequency), np.log(mean[frequency] + 1e-9), 1)[0])
