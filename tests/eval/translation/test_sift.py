"""SIFT distance: zero for equal images, against brute-force matching, undefined where nothing matches."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from gloam.eval.translation.sift import SiftDistance, pair_distance


def scene(seed: int) -> np.ndarray:
    """Blobs of many sizes, which SIFT finds."""
    draw = np.random.default_rng(seed)
    image = np.full((240, 320), 128, np.uint8)
    for _ in range(150):
        x, y, radius, shade = (int(v) for v in draw.integers([0, 0, 3, 0], [320, 240, 22, 256]))
        cv2.circle(image, (x, y), radius, shade, -1)
    return np.repeat(image[..., None], 3, axis=2)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (240, 320, 3), dtype=np.uint8)


def darker(image: np.ndarray) -> np.ndarray:
    draw = np.random.default_rng(9)
    return np.clip((image / 255.0) ** 1.6 * 200 + draw.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def by_brute_force(first: np.ndarray, second: np.ndarray) -> float:
    """Every descriptor against every other, distances by numpy."""
    finder = cv2.SIFT.create()
    (p1, d1), (p2, d2) = (finder.detectAndCompute(cv2.cvtColor(i, cv2.COLOR_RGB2GRAY), None) for i in (first, second))
    distances = np.sqrt(((d1[:, None].astype(float) - d2[None]) ** 2).sum(2))
    order = np.argsort(distances, axis=1)
    near, far = (distances[np.arange(len(d1)), order[:, k]] for k in (0, 1))
    rows = np.flatnonzero(near < 0.8 * far)
    columns = order[rows, 0]
    places = [np.float32([points[i].pt for i in index]) for points, index in ((p1, rows), (p2, columns))]
    _, inlier = cv2.findFundamentalMat(*places, cv2.FM_RANSAC, 3.0, 0.99)
    found = [
        sum(abs(a - b) for a, b in zip(d1[i].tolist(), d2[j].tolist(), strict=True)) / 128
        for i, j, ok in zip(rows, columns, inlier.ravel(), strict=True)
        if ok
    ]
    return sum(found) / len(found)


def test_equal_images_are_at_distance_zero() -> None:
    assert pair_distance(scene(0), scene(0)) == 0


def test_close_to_exhaustive_matching() -> None:
    first, second = scene(0), darker(scene(0))
    found = pair_distance(first, second)
    assert found == pytest.approx(by_brute_force(first, second), rel=0.05)  # FLANN and RANSAC are approximate
    assert found == pair_distance(first, second)  # and seeded


def test_what_does_not_match_is_undefined_and_counted() -> None:
    flat = np.full((240, 320, 3), 90, np.uint8)
    assert pair_distance(flat, scene(0)) is None
    assert pair_distance(noise(0), noise(1)) is None
    pairs = [(scene(0), scene(0)), (flat, flat), (noise(0), noise(1)), (scene(1), scene(1)[..., 0])]
    found = SiftDistance.of([pair_distance(*pair) for pair in pairs])
    assert (found.mean, found.undefined, found.pairs) == (0, 0.5, 4)
    assert math.isnan(SiftDistance.of([None]).mean)
