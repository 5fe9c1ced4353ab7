"""FID against closed forms, a matrix square root, and torch-fidelity's figure."""

from __future__ import annotations

import numpy as np
import pytest

from gloam.errors import DataError
from gloam.eval.translation.frechet import frechet_distance


def features(count: int, dimension: int, seed: int) -> np.ndarray:
    draw = np.random.RandomState(seed)
    return draw.normal(size=(count, dimension)) @ draw.normal(size=(dimension, dimension)) + draw.normal(size=dimension)


def by_matrix_root(first: np.ndarray, second: np.ndarray) -> float:
    """The formula as printed, with the square root of C1 C2 by Denman and Beavers' iteration."""
    one, two = np.cov(first.T), np.cov(second.T)
    root, inverse = one @ two, np.eye(len(one))
    for _ in range(60):
        root, inverse = (root + np.linalg.inv(inverse)) / 2, (inverse + np.linalg.inv(root)) / 2
    between = first.mean(0) - second.mean(0)
    return float(between @ between + np.trace(one + two - 2 * root))


def test_equals_the_formula_with_a_matrix_root() -> None:
    first, second = features(60, 5, 0), features(40, 5, 1)
    assert frechet_distance(first, second) == pytest.approx(by_matrix_root(first, second), rel=1e-9)


def test_equals_torch_fidelity() -> None:
    # torch-fidelity 0.4.0: fid_features_to_statistics and fid_statistics_to_metric on these rows
    assert frechet_distance(features(60, 5, 0), features(40, 5, 1)) == pytest.approx(36.66696919467617, rel=1e-9)
    # fewer images than dimensions: its eigenvalues of a singular product are good to about 1e-7
    assert frechet_distance(features(8, 20, 2), features(30, 20, 3)) == pytest.approx(693.0950258584654, rel=1e-6)


def test_closed_form_in_one_dimension() -> None:
    first, second = features(50, 1, 0), features(90, 1, 1)
    expected = (first.mean() - second.mean()) ** 2 + (first.std(ddof=1) - second.std(ddof=1)) ** 2
    assert frechet_distance(first, second) == pytest.approx(expected)


@pytest.mark.parametrize("count", [3, 200])  # fewer and more than dimensions
def test_a_shift_costs_its_squared_length_and_a_scale_the_squared_difference(count: int) -> None:
    rows = features(count, 20, 0)
    shift = np.arange(20.0)
    assert frechet_distance(rows, rows + shift) == pytest.approx(shift @ shift)
    centred = rows - rows.mean(0)
    assert frechet_distance(centred, 3 * centred) == pytest.approx(4 * centred.var(0, ddof=1).sum())


def test_symmetric_and_zero_for_equal_sets() -> None:
    first, second = features(30, 8, 0), features(12, 8, 1)
    assert frechet_distance(first, second) == pytest.approx(frechet_distance(second, first))
    for count in (5, 30):  # fewer and more than dimensions
        rows = features(count, 8, 0)
        assert 0 <= frechet_distance(rows, rows[::-1]) < 1e-6 * np.trace(np.cov(rows.T))


def test_one_image_has_no_covariance() -> None:
    with pytest.raises(DataError, match="2 or more"):
        frechet_distance(features(1, 4, 0), features(5, 4, 1))
