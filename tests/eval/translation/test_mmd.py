"""MMD by CMMD's rule against loops over pairs of images, a case by hand, and what any distance of sets must do."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gloam.errors import DataError
from gloam.eval.translation import mmd
from gloam.eval.translation.mmd import gaussian_discrepancy


def features(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(0, 1, (count, 6))
    rows[:, 0] += shift
    return rows


def looped(first: np.ndarray, second: np.ndarray) -> float:
    """The paper's rule, a pair at a time."""

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        x, y = x / math.sqrt(sum(x * x)), y / math.sqrt(sum(y * y))
        return math.exp(-sum((x - y) ** 2) / (2 * 10**2))

    def mean(one: np.ndarray, other: np.ndarray) -> float:
        return math.fsum(kernel(x, y) for x in one for y in other) / (len(one) * len(other))

    return 1000 * (mean(first, first) + mean(second, second) - 2 * mean(first, second))


def test_equals_loops_over_pairs() -> None:
    first, second = features(11, 0), features(7, 1, 0.5)
    assert gaussian_discrepancy(first, second) == pytest.approx(looped(first, second), rel=1e-10)
    assert gaussian_discrepancy(first.astype(np.float32), second) == pytest.approx(looped(first, second), rel=1e-5)


def test_blocks_of_the_kernel_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = features(11, 0), features(7, 1, 0.5)
    whole = gaussian_discrepancy(first, second)
    for block in (1, 3, 4, 7, 10):
        monkeypatch.setattr(mmd, "BLOCK", block)
        assert gaussian_discrepancy(first, second) == pytest.approx(whole, rel=1e-12)


def test_by_hand() -> None:
    # East and north against two wests: squared distances 2 within the first, 0 within the second, 4, 4, 2, 2 between.
    first, second = np.array([[3.0, 0.0], [0.0, 0.5]]), np.array([[-1.0, 0.0], [-7.0, 0.0]])
    within, between = (2 + 2 * math.exp(-0.01)) / 4, (2 * math.exp(-0.02) + 2 * math.exp(-0.01)) / 4
    assert gaussian_discrepancy(first, second) == pytest.approx(1000 * (within + 1 - 2 * between))
    opposite = gaussian_discrepancy(np.ones((4, 3)), -np.ones((9, 3)))
    assert opposite == pytest.approx(2000 * (1 - math.exp(-0.02)))


def test_the_same_set_is_0_and_a_shift_grows() -> None:
    rows = features(40, 0)
    assert gaussian_discrepancy(rows, rows[::-1]) == pytest.approx(0, abs=1e-10)
    assert gaussian_discrepancy(rows, rows) >= 0
    shifted = [gaussian_discrepancy(rows, features(40, 0, shift)) for shift in (0.1, 0.3, 1.0, 3.0)]
    assert shifted[0] > 0
    assert shifted == sorted(shifted)
    assert shifted[-1] > 10 * shifted[0]


def test_symmetric_and_of_directions_alone() -> None:
    first, second = features(11, 0), features(7, 1, 0.5)
    found = gaussian_discrepancy(first, second)
    assert gaussian_discrepancy(second, first) == pytest.approx(found, rel=1e-10)
    assert gaussian_discrepancy(5 * first, second * np.arange(1, 8)[:, None]) == pytest.approx(found, rel=1e-10)


@pytest.mark.parametrize(
    ("real", "fake", "reason"),
    [
        (features(1, 0), features(5, 0), "real: 1 image.* give 2 or more"),
        (features(5, 0), features(5, 0)[:, :4], "6 and 4 dimensions"),
        (features(5, 0) * np.nan, features(5, 0), "NaN"),
        (features(5, 0), features(5, 0) * 0, "fake features hold a row of zeros"),
    ],
)
def test_refuses_what_is_no_pair_of_tables(real: np.ndarray, fake: np.ndarray, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        gaussian_discrepancy(real, fake)
