"""How well edge maps agree with true edges: the F-score at the set's best threshold (ODS), and its controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from gloam.data.ridges import ridges
from gloam.errors import DataError, UsageError

Float32 = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

TOLERANCE = 0.0075  # of the image's diagonal, as BSDS500 allows
THRESHOLDS = 49  # evenly spaced between 0 and 1, both excluded
TRUE = 0.5  # truth from here on is an edge; between 0 and this it is neither edge nor background
CANNY_SIGMA = 1.4


@dataclass(frozen=True)
class EdgeScores:
    """Agreement of a set of edge maps with the truth.

    Attributes:
        f: F-score at the threshold that is best for the whole set (ODS).
        threshold, precision, recall: of that threshold.
        per_image_f: mean F-score at each image's own best threshold (OIS).
        thresholds, precisions, recalls: the curve.
        images: how many.
        tolerance: pixels.
    """

    f: float
    threshold: float
    precision: float
    recall: float
    per_image_f: float
    thresholds: tuple[float, ...]
    precisions: tuple[float, ...]
    recalls: tuple[float, ...]
    images: int
    tolerance: float


def score_edges(
    predicted: Sequence[Float32],
    truth: Sequence[Float32],
    *,
    tolerance: float | None = None,
    thresholds: int = THRESHOLDS,
    thin: bool = True,
) -> EdgeScores:
    """Precision, recall and F-score of edge maps at every threshold.

    As BSDS500: both sides are thinned, then predicted and true pixels within ``tolerance`` are matched one to one
    (greedily, nearest first; BSDS500 solves the assignment exactly). Predicted pixels without a partner are wrong, but
    for those near weak truth (between 0 and 0.5), which do not count.

    Args:
        predicted: float ``[h, w]`` in [0, 1] each.
        truth: float ``[h, w]`` in [0, 1] each; an edge from 0.5 on.
        tolerance: pixels; 0.0075 of the diagonal where None, at least 1.
        thresholds: how many.
        thin: reduce predicted edges to their ridges; False for maps that are thin already.

    Raises:
        UsageError: no images, or no thresholds.
        DataError: shapes that differ, values outside [0, 1], or no true edge at all.
    """
    if not predicted or len(predicted) != len(truth) or thresholds < 1:
        raise UsageError(f"{len(predicted)} edge maps cannot be compared with {len(truth)} true ones")
    levels = (np.arange(thresholds) + 1) / (thresholds + 1)
    counts = []
    for index, (found, true) in enumerate(zip(predicted, truth, strict=True)):
        if found.shape != true.shape or found.ndim != 2:
            raise DataError(f"edge map {index} is {list(found.shape)}, its truth {list(true.shape)}")
        if not (np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1):
            raise DataError(f"edge map {index}: values must be finite and in 0..1")
        radius = max(TOLERANCE * float(np.hypot(*found.shape)), 1.0) if tolerance is None else tolerance
        counts.append(_count(thin_edges(found) if thin else found, true, radius, levels))
    table = np.array(counts, np.float64)  # [image, (right, claimed, found, true), threshold]
    if table[:, 3].sum() == 0:
        raise DataError("the truth holds no edges")
    precision, recall, f = _scores(table.sum(axis=0))
    best = int(f.argmax())
    per_image = float(np.mean([_scores(row)[2].max() for row in table if row[3].any()]))
    return EdgeScores(
        float(f[best]),
        float(levels[best]),
        float(precision[best]),
        float(recall[best]),
        per_image,
        tuple(levels.tolist()),
        tuple(precision.tolist()),
        tuple(recall.tolist()),
        len(predicted),
        float(radius),
    )


def thin_edges(edges: Float32) -> Float32:
    """``edges`` on the ridges of the lightly blurred map, 0 elsewhere; float32 ``[h, w]``."""
    smooth = cv2.GaussianBlur(np.asarray(edges, np.float32), (0, 0), 1.0)
    xx, yy, xy = (cv2.Sobel(smooth, cv2.CV_32F, *order, ksize=3) for order in ((2, 0), (0, 2), (1, 1)))
    # The Hessian's most negative direction is across the ridge: a right angle from its most positive one.
    angle = 0.5 * np.arctan2(2 * xy, xx - yy) + np.pi / 2
    kept = ridges(smooth, np.cos(angle), np.sin(angle))
    return np.asarray(np.where(kept, edges, 0), np.float32)


def sobel_edges(image: Pixels) -> Float32:
    """Control: the Sobel magnitude of the blurred grey image, 1 at the image's strongest, float32 ``[h, w]``."""
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 1.0)
    strength = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    return np.asarray(strength / max(float(strength.max()), 1e-6), np.float32)


def canny_edges(image: Pixels, levels: int = THRESHOLDS) -> Float32:
    """Control: at every pixel the highest of Canny's thresholds that still marks it, float32 ``[h, w]`` in [0, 1].

    Cut at any threshold it is Canny's binary map for that threshold (the lower one is 0.4 of it), so scoring it finds
    Canny's best. It is thin already.
    """
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), CANNY_SIGMA)
    result = np.zeros(grey.shape, np.float32)
    for level in range(1, levels + 1):
        # The square spends more of the levels on weak edges, of which a night has many.
        high = 1200.0 * (level / (levels + 1)) ** 2
        marked = cv2.Canny(grey, 0.4 * high, high, L2gradient=True) > 0
        result[marked] = (level + 0.5) / (levels + 1)
    return result


def match(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_], radius: float) -> npt.NDArray[np.bool_]:
    """Which pixels of ``first`` find a partner of their own in ``second`` within ``radius`` pixels; bool ``[h, w]``.

    Greedy, nearest partners first, so that no pixel of either is used twice.
    """
    reach = int(radius)
    offsets = sorted((y * y + x * x, y, x) for y in range(-reach, reach + 1) for x in range(-reach, reach + 1))
    height, width = first.shape
    left, right = first.copy(), np.pad(second, reach)
    for square, y, x in offsets:
        if square <= radius * radius:
            there = right[reach + y : reach + y + height, reach + x : reach + x + width]
            pairs = left & there
            left ^= pairs
            there ^= pairs
    return first & ~left


def _count(found: Float32, true: Float32, radius: float, levels: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Right and claimed predicted pixels, matched and all true pixels, at each threshold: int64 ``[4, thresholds]``."""
    edge = thin_edges((true >= TRUE).astype(np.float32)) > 0
    # Neither right nor wrong: what lies near weak truth, and what thinning took from the strong.
    spared = (_distance((true > 0) & (true < TRUE)) <= radius) | (true >= TRUE)
    counts = np.zeros((4, len(levels)), np.int64)
    for index, level in enumerate(levels):
        claimed = found >= level
        right = match(claimed, edge, radius)
        counts[0, index] = counts[2, index] = right.sum()
        counts[1, index] = (right | (claimed & ~spared)).sum()
    counts[3] = edge.sum()
    return counts


def _distance(mask: npt.NDArray[np.bool_]) -> Float32:
    """Pixels to the nearest True."""
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    return np.asarray(cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)


def _scores(
    counts: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Precision, recall and F of counts ``[4, thresholds]``; an empty claim has precision 1 and F 0."""
    right, claimed, found, true = counts
    precision = np.where(claimed > 0, right / np.maximum(claimed, 1), 1.0)
    recall = found / np.maximum(true, 1)
    return precision, recall, 2 * precision * recall / np.maximum(precision + recall, 1e-12)
