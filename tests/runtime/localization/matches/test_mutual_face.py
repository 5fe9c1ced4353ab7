"""Mutual neighbours with the face of every matcher."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gloam.errors import IncompatibleError, UsageError
from gloam.runtime.localization.matches.mutual import MutualMatcher, match_mutual


def described(rows: int, dimension: int = 8, seed: int = 0) -> Any:
    values = np.random.default_rng(seed).normal(size=(rows, dimension)).astype(np.float32)
    return SimpleNamespace(descriptors=values / np.linalg.norm(values, axis=1, keepdims=True))


@pytest.mark.parametrize("ratio", [None, 0.9, 1.0])
def test_matches_come_with_their_cosines(ratio: float | None) -> None:
    first, second = described(30), described(20, seed=1)
    matches, cosines = MutualMatcher(ratio)(first, second)
    np.testing.assert_array_equal(matches, match_mutual(first.descriptors, second.descriptors, ratio=ratio))
    products = [float(first.descriptors[a] @ second.descriptors[b]) for a, b in matches]
    assert len(products) > 2
    assert cosines.tolist() == pytest.approx(products, abs=1e-6)
    assert (matches.dtype, cosines.dtype) == (np.uint32, np.float32)
    pairs = MutualMatcher(ratio).match_pairs([(first, second), (second, first), (described(0), second)])
    np.testing.assert_array_equal(pairs[0][0], matches)
    np.testing.assert_array_equal(pairs[0][1], cosines)
    expected = match_mutual(second.descriptors, first.descriptors, ratio=ratio)
    np.testing.assert_array_equal(pairs[1][0], expected)
    assert [len(scores) for _, scores in pairs] == [len(matches), len(expected), 0]


def test_a_ratio_is_above_0_and_at_most_1_and_in_the_key() -> None:
    for ratio in (0.0, -0.5, 1.01, float("nan")):
        with pytest.raises(UsageError, match=rf"^a ratio of {ratio:g}; Lowe's test takes one above 0 and at most 1$"):
            MutualMatcher(ratio)
    ratios = (None, 1e-9, 0.8, 1.0)
    assert len({MutualMatcher(ratio).key for ratio in ratios}) == len(ratios)
    assert MutualMatcher(0.8).key == MutualMatcher(0.8).key == "mutual neighbours, ratio 0.8"


def test_descriptors_of_two_lengths_are_refused_where_there_are_any() -> None:
    message = r"^descriptors of 8 values cannot be matched with those of 4; extract both images' features alike$"
    with pytest.raises(IncompatibleError, match=message):
        MutualMatcher()(described(5), described(5, 4))
    for first, second in ((described(0), described(5, 4)), (described(5), described(0, 4))):
        assert match_mutual(first.descriptors, second.descriptors).shape == (0, 2)
