"""Streamed retrieval equals its plain twin, the dense argsort."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gloam.data.pairs import Pair
from gloam.errors import DataError, IncompatibleError, UsageError
from gloam.runtime.search.pair_masks import DistanceMask, GroupMask
from gloam.runtime.search.pairs import retrieve_pairs
from tests.runtime.sources import MemorySource, random_source


def dense_pairs(query: MemorySource, mapping: MemorySource, k: int, exclude_self: bool = False) -> list[Pair]:
    """The plain twin: every score, sorted by (-score, name)."""
    scores = query.rows @ mapping.rows.T
    pairs = []
    for row in sorted(range(len(query.names)), key=query.names.__getitem__):
        ranked = sorted(zip((-scores[row]).tolist(), mapping.names, strict=True))
        kept = [(score, name) for score, name in ranked if not (exclude_self and name == query.names[row])]
        pairs += [Pair(query.names[row], name, -score) for score, name in kept[:k]]
    return pairs


def ternary(count: int, seed: int, prefix: str) -> MemorySource:
    """Descriptors of -1, 0 and 1: inner products are exact and mostly tied."""
    source = random_source(count, 5, seed, prefix)
    source.rows = np.random.default_rng(seed).integers(-1, 2, source.rows.shape).astype(np.float32)
    return source


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 40), st.integers(1, 12), st.integers(1, 50), st.integers(0, 10_000))
def test_equals_dense_argsort_with_ties_by_name(queries: int, images: int, k: int, block: int, seed: int) -> None:
    query, mapping = ternary(queries, seed, "query"), ternary(images, seed + 1, "map")
    assert list(retrieve_pairs(query, mapping, k, block=block)) == dense_pairs(query, mapping, k)


def test_equals_dense_argsort_on_unit_vectors() -> None:
    query, mapping = random_source(70, 32, 1, "query"), random_source(300, 32, 2)
    found = list(retrieve_pairs(query, mapping, 20, block=64))
    expected = dense_pairs(query, mapping, 20)
    assert [(pair.query, pair.mapping) for pair in found] == [(pair.query, pair.mapping) for pair in expected]
    assert np.allclose([pair.score or 0 for pair in found], [pair.score or 0 for pair in expected], atol=1e-6)


def test_exclude_self_leaves_out_the_own_name_alone() -> None:
    source = ternary(25, 3, "map")
    assert list(retrieve_pairs(source, source, 4, block=6, exclude_self=True)) == dense_pairs(source, source, 4, True)


def test_min_score_cuts_the_tail() -> None:
    query, mapping = random_source(10, 8, 1, "query"), random_source(50, 8, 2)
    every = list(retrieve_pairs(query, mapping, 50))
    cut = list(retrieve_pairs(query, mapping, 50, min_score=0.3))
    assert 0 < len(cut) < len(every)
    assert cut == [pair for pair in every if pair.score is not None and pair.score >= 0.3]


def test_what_cannot_be_compared_is_refused() -> None:
    query, mapping = random_source(3, 8), random_source(3, 8)
    mapping.space = "c" * 64
    with pytest.raises(IncompatibleError, match="space"):
        retrieve_pairs(query, mapping, 1)
    with pytest.raises(IncompatibleError, match="dimension"):
        retrieve_pairs(random_source(3, 8), random_source(3, 9), 1)
    with pytest.raises(UsageError):
        retrieve_pairs(query, query, 0)


def test_a_descriptor_that_is_not_finite_is_named() -> None:
    mapping = random_source(9, 8)
    mapping.rows[8, 2] = np.nan
    with pytest.raises(DataError, match=mapping.names[8]):
        list(retrieve_pairs(random_source(3, 8), mapping, 1))


def masked_pairs(query: MemorySource, mapping: MemorySource, k: int, hidden: npt.NDArray[np.bool_]) -> list[Pair]:
    """The plain twin with a dense mask ``[q, m]``."""
    scores = query.rows @ mapping.rows.T
    pairs = []
    for row in sorted(range(len(query.names)), key=query.names.__getitem__):
        kept = [column for column in range(len(mapping.names)) if not hidden[row, column]]
        ranked = sorted((-float(scores[row, column]), mapping.names[column]) for column in kept)
        pairs += [Pair(query.names[row], name, -score) for score, name in ranked[:k]]
    return pairs


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 30),
    st.integers(1, 40),
    st.integers(1, 12),
    st.integers(1, 50),
    st.sampled_from([(True,), (False,), (False, True), (True, False, False)]),
    st.integers(0, 10_000),
)
def test_groups_hide_what_a_dense_mask_hides(
    queries: int, images: int, k: int, block: int, rules: tuple[bool, ...], seed: int
) -> None:
    query, mapping = ternary(queries, seed, "query"), ternary(images, seed + 1, "map")
    random = np.random.default_rng(seed)
    hidden = np.zeros((queries, images), bool)
    masks = []
    for only in rules:
        first, second = random.integers(-1, 3, queries), random.integers(-1, 3, images)
        masks.append(GroupMask(first, second, only))
        for row, column in np.ndindex(queries, images):
            same = first[row] == second[column] != -1
            hidden[row, column] |= same != only
    found = list(retrieve_pairs(query, mapping, k, block=block, masks=masks))
    assert found == masked_pairs(query, mapping, k, hidden)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 30), st.integers(1, 50), st.integers(0, 10_000))
def test_near_images_are_hidden_as_by_a_dense_mask(queries: int, images: int, block: int, seed: int) -> None:
    query, mapping = ternary(queries, seed, "query"), ternary(images, seed + 1, "map")
    random = np.random.default_rng(seed)
    first, second = (random.integers(0, 4, (rows, 3)).astype(np.float64) for rows in (queries, images))
    first[random.random(queries) < 0.2] = np.nan
    second[random.random(images) < 0.2] = np.nan
    hidden = np.linalg.norm(first[:, None] - second[None], axis=2) < 2.0
    found = list(retrieve_pairs(query, mapping, 5, block=block, masks=[DistanceMask(first, second, 2.0)]))
    assert found == masked_pairs(query, mapping, 5, hidden)


def test_a_mask_of_other_images_is_refused() -> None:
    source = random_source(5, 8)
    numbers = np.zeros(5, np.int64)
    for mask in (GroupMask(numbers, numbers[:4]), DistanceMask(np.zeros((6, 3)), np.zeros((5, 3)), 1.0)):
        with pytest.raises(UsageError, match="5 and 5"):
            retrieve_pairs(source, source, 1, masks=[mask])
    with pytest.raises(UsageError, match="above 0"):
        DistanceMask(np.zeros((5, 3)), np.zeros((5, 3)), 0.0)
