"""KID against loops over pairs of images, and against torch-fidelity's figures."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gloam.errors import DataError
from gloam.eval.translation.kernel import kernel_distance, squared_discrepancy


def features(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.RandomState(seed).normal(shift, 1, (count, 6))


def looped(first: np.ndarray, second: np.ndarray) -> float:
    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return (float(np.dot(x, y)) / len(x) + 1) ** 3

    total = 0.0
    for rows in (first, second):
        pairs = list(itertools.permutations(range(len(rows)), 2))
        total += sum(kernel(rows[i], rows[j]) for i, j in pairs) / len(pairs)
    return total - 2 * sum(kernel(x, y) for x in first for y in second) / (len(first) * len(second))


def test_equals_loops_over_pairs() -> None:
    first, second = features(11, 0), features(7, 1, 0.5)
    assert squared_discrepancy(first, second) == pytest.approx(looped(first, second), rel=1e-12)


def test_equals_torch_fidelity() -> None:
    # torch-fidelity 0.4.0: kid_features_to_metric on these rows, kid_subsets=20, kid_subset_size=15, rng_seed=4
    found = kernel_distance(features(40, 0), features(30, 1, 0.5), subsets=20, subset_size=15, seed=4)
    assert (found.mean, found.std) == pytest.approx((0.7713981838570254, 0.5654711056304794), rel=1e-12)


def test_whole_sets_are_one_subset() -> None:
    first, second = features(12, 0), features(12, 1, 1)
    found = kernel_distance(first, second)
    assert (found.std, found.subsets, found.subset_size) == (0, 1, 12)
    assert found.mean == pytest.approx(looped(first, second))
    assert kernel_distance(first, second, subset_size=12).mean == found.mean


def test_no_bias_where_the_distributions_are_equal() -> None:
    values = [kernel_distance(features(20, seed), features(20, seed + 1000)).mean for seed in range(300)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(300)
    assert min(values) < 0 < max(values)


def test_seed_decides_the_subsets() -> None:
    first, second = features(50, 0), features(50, 1)
    one, again, other = (kernel_distance(first, second, 5, 10, seed) for seed in (1, 1, 2))
    assert one == again != other


@pytest.mark.parametrize(
    ("real", "fake", "reason"),
    [
        (features(1, 0), features(5, 0), "too few"),
        (features(5, 0), features(5, 0)[:, :4], "6 and 4 dimensions"),
        (features(5, 0) * np.nan, features(5, 0), "NaN"),
        (features(5, 0)[0], features(5, 0), "table"),
    ],
)
def test_refuses_what_is_no_pair_of_tables(real: np.ndarray, fake: np.ndarray, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        kernel_distance(real, fake)


def test_refuses_subsets_larger_than_the_sets() -> None:
    with pytest.raises(DataError, match="give 30 or more"):
        kernel_distance(features(20, 0), features(40, 0), subset_size=30)
