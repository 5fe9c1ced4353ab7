"""The formulas of self-tests: the same in any language, blind to order, moved by what is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from gloam.export.keypoints import TOLERANCE
from gloam.runtime.backends.selftest_formulas import block_means, keypoint_summary, selftest_images


def test_selftest_images_follow_the_formula_in_plain_integers() -> None:
    images = selftest_images((2, 9, 11), [(9, 11), (5, 7)])
    for b, y, x, c in [(0, 0, 0, 0), (0, 8, 10, 2), (1, 4, 6, 1)]:
        assert images[b, y, x, c] == (x * x * 3 + y * y * 5 + x * y * 7 + 37 * b + 59 * c) // 97 % 256
    assert (images[1, 5:] == 255).all()
    assert (images[1, :, 7:] == 255).all()
    assert images.dtype == np.uint8


def test_block_means_are_means_of_blocks() -> None:
    maps = np.random.default_rng(0).normal(size=(2, 19, 33, 3))
    means = block_means(maps)
    assert means.shape == (2, 8, 8, 3)
    np.testing.assert_allclose(means[1, 2, 7], maps[1, 2 * 19 // 8 : 3 * 19 // 8, 7 * 33 // 8 :].mean((0, 1)))
    np.testing.assert_allclose(block_means(maps[..., 0]), means[..., 0])


def keypoints_of(count: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    points = draw.uniform(0, 200, (1, count, 2)).astype(np.float32)
    scores = -np.sort(-draw.uniform(0.1, 1, (1, count)).astype(np.float32))
    descriptors = draw.normal(size=(1, count, 16)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=2, keepdims=True)
    return points, scores, descriptors, np.array([count], np.int64)


def test_a_summary_of_keypoints_knows_no_order_and_nothing_of_who_just_gets_in() -> None:
    points, scores, descriptors, count = keypoints_of()
    summary = keypoint_summary(points, scores, descriptors, count)
    order = np.random.default_rng(1).permutation(300)
    swapped = keypoint_summary(points[:, order], scores[:, order], descriptors[:, order], count)
    assert summary == pytest.approx(swapped, abs=1e-12)
    other = [item.copy() for item in (points, scores, descriptors)]
    other[0][0, -1], other[2][0, -1] = (3, 190), -other[2][0, -1]  # another one of the same, least score
    assert keypoint_summary(*other, count) == pytest.approx(summary, abs=1e-12)
    padded = [np.concatenate((item, np.zeros_like(item)), 1) for item in (points, scores, descriptors)]
    roomy = keypoint_summary(*padded, count, threshold=0.1)
    assert roomy[0, 2:] == pytest.approx(summary[0, 2:], abs=2e-3)  # the weakest weighs its score above the threshold
    assert not keypoint_summary(points, scores, descriptors, np.array([0])).any()


@pytest.mark.parametrize(
    "wrong", ["one", "half a pixel", "a quarter", "turned", "another's", "descriptor", "fewer", "scores"]
)
def test_a_wrong_keypoint_moves_the_summary_by_more_than_the_tolerance(wrong: str) -> None:
    points, scores, descriptors, count = (item.copy() for item in keypoints_of())
    summary = keypoint_summary(points, scores, descriptors, count)
    if wrong == "one":
        points[0, 20] = 200 - points[0, 20]
    elif wrong == "half a pixel":
        points += 0.5
    elif wrong == "a quarter":
        points += 0.25
    elif wrong == "turned":
        points = points[..., ::-1]
    elif wrong == "another's":
        descriptors[0, [3, 30]] = descriptors[0, [30, 3]]
    elif wrong == "descriptor":
        descriptors[0, 10] = -descriptors[0, 10]
    elif wrong == "fewer":
        count -= 10
    else:
        scores = scores**2
    assert np.abs(keypoint_summary(points, scores, descriptors, count) - summary).max() > TOLERANCE["fp32"]


def test_one_of_many_that_is_there_in_one_backend_alone_is_no_fault() -> None:
    """Of neighbours whose saturated scores are equal to a rounding one suppresses the other, or neither does."""
    points, scores, descriptors, count = keypoints_of(600)
    summary = keypoint_summary(points, scores, descriptors, count)
    kept = np.delete(np.arange(600), 20)
    fewer = keypoint_summary(points[:, kept], scores[:, kept], descriptors[:, kept], count - 1)
    assert 1e-3 < np.abs(fewer - summary).max() < TOLERANCE["fp32"]
