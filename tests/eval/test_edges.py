import itertools

import cv2
import numpy as np
import pytest

from gloam.errors import DataError, UsageError
from gloam.eval.edges import canny_edges, match, score_edges, sobel_edges, thin_edges


def line(column=20, width=1, value=1.0):
    edges = np.zeros((40, 50), np.float32)
    edges[4:36, column : column + width] = value
    return edges


def test_the_truth_scores_one_and_so_do_shifts_within_tolerance():
    for shift in (0, 1, 2):
        assert score_edges([line(20 + shift)], [line(20)], tolerance=2).f == pytest.approx(1.0)
    assert score_edges([line(23)], [line(20)], tolerance=2).f == 0


def test_counts_by_hand():
    truth = np.maximum(line(10), line(30))
    scores = score_edges([line(10)], [truth], tolerance=1)
    assert (scores.precision, scores.recall) == (1.0, pytest.approx(0.5, abs=0.02))
    assert scores.f == pytest.approx(2 / 3, abs=0.02)
    found = np.maximum(line(10), np.maximum(line(20), line(40)))
    scores = score_edges([found], [line(10)], tolerance=1)
    assert scores.precision == pytest.approx(1 / 3, abs=0.02)
    assert scores.recall == pytest.approx(1.0)


def test_one_threshold_for_the_set_and_one_for_each_image():
    """Image one needs a low threshold, image two a high one: no common threshold serves both."""
    truth = [line(20), line(20)]
    found = [line(20, value=0.3), np.maximum(line(20, value=0.9), line(40, value=0.5))]
    scores = score_edges(found, truth, tolerance=1)
    assert scores.per_image_f == pytest.approx(1.0)
    assert scores.f < 0.95


def test_thick_edges_are_thinned_and_gain_nothing():
    wide = cv2.GaussianBlur(line(20, 5), (0, 0), 1.5)
    assert score_edges([wide], [line(22)], tolerance=1).f > 0.9
    assert score_edges([line(20, 5)], [line(22)], tolerance=1, thin=False).f < 0.4
    thinned = thin_edges(wide)
    assert ((thinned > 0.2).sum(axis=1)[8:32] == 1).all()


def test_covering_the_image_with_edges_does_not_pay():
    truth = np.maximum.reduce([line(column) for column in (5, 15, 25, 35, 45)])
    assert score_edges([np.full_like(truth, 0.9)], [truth], tolerance=2, thin=False).f < 0.3


def test_weak_truth_is_neither_right_nor_wrong():
    truth = np.maximum(line(10), line(30, value=0.3))
    with_weak = score_edges([np.maximum(line(10), line(30))], [truth], tolerance=1)
    without = score_edges([line(10)], [truth], tolerance=1)
    assert with_weak.f == without.f == pytest.approx(1.0)


def test_matching_uses_each_pixel_once_and_is_nearly_as_large_as_the_best():
    rng = np.random.default_rng(0)
    found, largest = 0, 0
    for _ in range(20):
        first, second = rng.random((2, 9, 9)) < 0.2
        matched = match(first, second, 1.5)
        assert not (matched & ~first).any()
        assert matched.sum() <= second.sum()
        best = largest_matching(first, second, 1.5)
        assert matched.sum() <= best
        found, largest = found + matched.sum(), largest + best
    assert found > 0.9 * largest


def largest_matching(first, second, radius):
    """Augmenting paths, in plain loops."""
    left, right = np.argwhere(first).tolist(), np.argwhere(second).tolist()
    near = [[j for j, q in enumerate(right) if np.hypot(p[0] - q[0], p[1] - q[1]) <= radius] for p in left]
    partner = {}

    def place(i, seen):
        for j in near[i]:
            if j not in seen:
                seen.add(j)
                if j not in partner or place(partner[j], seen):
                    partner[j] = i
                    return True
        return False

    return sum(place(i, set()) for i in range(len(left)))


def test_controls_find_a_step_and_canny_is_opencvs_at_each_threshold():
    image = np.full((40, 50, 3), 60, np.uint8)
    image[:, 25:] = 190
    image[:20, 10:] += 20
    truth = line(24)
    truth[:, 24] = 1
    for found, thin in ((sobel_edges(image), True), (canny_edges(image), False)):
        assert score_edges([found], [truth], tolerance=1.5, thin=thin).f > 0.85
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), 1.4)
    high = 1200 * 0.2**2
    expected = cv2.Canny(grey, 0.4 * high, high, L2gradient=True) > 0
    assert np.array_equal(canny_edges(image) >= 0.2, expected)


def test_misuse_is_refused():
    edges = line()
    for found, truth, kind in itertools.chain(
        [([], [], UsageError), ([edges], [], UsageError), ([edges[:10]], [edges], DataError)],
        [([edges * 2], [edges], DataError), ([edges * np.nan], [edges], DataError), ([edges], [edges * 0], DataError)],
    ):
        with pytest.raises(kind):
            score_edges(found, truth)
