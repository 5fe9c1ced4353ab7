"""Distance of SIFT descriptors between a translated image and a photograph of the same place (weakly paired
translation, BMVC 2020): whether local features of the translation look like the real ones.

SIFT in both images, two nearest neighbours of each descriptor, Lowe's ratio test, RANSAC for a fundamental matrix; over
the inliers the mean L1 distance of descriptors, by their 128 dimensions. Lower is better. Descriptors are OpenCV's, 0
to 255, not normalised. A pair of fewer than 8 matches, or without a model, has no distance: the mean is over the pairs
that have one, and **the share of those that have none belongs beside it**, because a translation that matches rarely
and well would win by the mean alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
RATIO = 0.8  # unstated in the paper; 0.7 shifts values by 1 to 2, so never mix
FEWEST_MATCHES = 8
RANSAC_PIXELS, RANSAC_CONFIDENCE = 3.0, 0.99
KD_TREES, CHECKS = 5, 50
KD_TREE = 1  # FLANN's number of that index


@dataclass(frozen=True)
class SiftDistance:
    """Over a list of pairs.

    Attributes:
        mean: over the pairs that have a distance; NaN where none has.
        undefined: share of the pairs without one, 0 to 1.
        pairs: how many pairs in all.
    """

    mean: float
    undefined: float
    pairs: int

    @classmethod
    def of(cls, values: Sequence[float | None]) -> SiftDistance:
        """The summary of at least one pair's distances, None where a pair has none."""
        defined = [value for value in values if value is not None]
        mean = float(np.mean(defined)) if defined else float("nan")
        return cls(mean, 1 - len(defined) / len(values), len(values))


def pair_distance(first: Pixels, second: Pixels) -> float | None:
    """The distance of one pair, about 6 to 14 for photographs of one place; None where it is undefined."""
    places, descriptors = zip(*(_describe(image) for image in (first, second)), strict=True)
    if min(map(len, descriptors)) < FEWEST_MATCHES:
        return None
    cv2.setRNGSeed(0)  # FLANN's trees and RANSAC draw from it
    matcher = cv2.FlannBasedMatcher({"algorithm": KD_TREE, "trees": KD_TREES}, {"checks": CHECKS})
    neighbours = matcher.knnMatch(descriptors[0], descriptors[1], k=2)
    kept = [near for near, far in neighbours if near.distance < RATIO * far.distance]
    if len(kept) < FEWEST_MATCHES:
        return None
    rows, columns = np.array([[match.queryIdx, match.trainIdx] for match in kept]).T
    matrix, inlier = cv2.findFundamentalMat(
        places[0][rows], places[1][columns], cv2.FM_RANSAC, RANSAC_PIXELS, RANSAC_CONFIDENCE
    )
    if matrix is None or inlier is None or not inlier.any():
        return None
    found = inlier.ravel().astype(bool)
    return float(np.abs(descriptors[0][rows[found]] - descriptors[1][columns[found]]).mean())


def _describe(image: Pixels) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Key points float32 ``[n, 2]`` and descriptors float32 ``[n, 128]``."""
    grey: Any = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    points, descriptors = cv2.SIFT.create().detectAndCompute(grey, None)
    places = np.array([point.pt for point in points], np.float32).reshape(-1, 2)
    return places, np.zeros((0, 128), np.float32) if descriptors is None else descriptors
