"""The choice keeps to its budget, and its estimates are the sizes that FAISS really writes."""

from __future__ import annotations

import itertools

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gloam.errors import DataError, UsageError
from gloam.runtime.search.index.choice import (
    PER_CELL,
    cells_for,
    flat_bytes,
    hnsw_bytes,
    in_words,
    ivfpq_bytes,
    plan_index,
    subquantizers,
    training_size,
)
from tests.runtime.search.index.clustered import clustered


def serialized(factory: str, count: int, dimension: int) -> int:
    rows = clustered(count, dimension).rows
    index = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
    index.train(rows[:1300])
    index.add(rows)
    return int(faiss.serialize_index(index).size)


@pytest.mark.parametrize(
    ("factory", "estimate"),
    [
        ("Flat", flat_bytes(4000, 48)),
        ("HNSW32", hnsw_bytes(4000, 48)),
        ("IVF32,PQ12x4fs", ivfpq_bytes(4000, 48, 32, 12)),
        ("IVF32,PQ12x4fs,RFlat", ivfpq_bytes(4000, 48, 32, 12, 4)),
        ("IVF32,PQ12x4fs,Refine(SQfp16)", ivfpq_bytes(4000, 48, 32, 12, 2)),
    ],
)
def test_an_estimate_is_the_size_that_faiss_writes(factory: str, estimate: int) -> None:
    assert estimate == pytest.approx(serialized(factory, 4000, 48), rel=0.02)


def test_flat_below_200_000_and_re_ranked_codes_above() -> None:
    assert plan_index(199_999, 512).factory == "Flat"
    assert plan_index(200_000, 512).factory == "IVF2048,PQ128x4fs,RFlat"
    assert plan_index(1_000_000, 512).factory == "IVF4096,PQ128x4fs,RFlat"


def test_a_smaller_budget_takes_the_next_smaller_index() -> None:
    count, dimension = 300_000, 512
    chosen = [plan_index(count, dimension, memory=memory).factory for memory in (10**9, 4 * 10**8, 5 * 10**7)]
    codes = "IVF2048,PQ128x4fs"
    assert chosen == [f"{codes},RFlat", f"{codes},Refine(SQfp16)", codes]
    assert plan_index(100_000, dimension, memory=2 * 10**8).factory == "IVF1024,PQ128x4fs,Refine(SQfp16)"


def test_kinds_asked_for() -> None:
    assert plan_index(300_000, 512, kind="flat").factory == "Flat"
    assert plan_index(300_000, 512, kind="hnsw").factory == "HNSW32"
    assert plan_index(1000, 512, kind="ivfpq").factory == "IVF16,PQ128x4fs,RFlat"


@settings(deadline=None)
@given(st.integers(1, 5_000_000), st.sampled_from([48, 512, 2048]), st.integers(1, 10**10))
def test_no_plan_exceeds_its_budget(count: int, dimension: int, memory: int) -> None:
    smallest = flat_bytes(count, dimension)
    if count >= 624:
        smallest = min(smallest, ivfpq_bytes(count, dimension, cells_for(count), subquantizers(dimension)))
    if memory >= flat_bytes(count, dimension) * 2 or memory < smallest // 2:
        assert (memory >= smallest) == fits(count, dimension, memory)
    if fits(count, dimension, memory):
        assert plan_index(count, dimension, memory=memory).nbytes <= memory


def fits(count: int, dimension: int, memory: int) -> bool:
    try:
        plan_index(count, dimension, memory=memory)
    except UsageError:
        return False
    return True


def test_what_cannot_be_chosen_is_one_line() -> None:
    for ask, kind, match in (
        (lambda: plan_index(300_000, 512, memory=10**6), UsageError, "needs 27.9 MB"),
        (lambda: plan_index(100, 512, memory=1000), UsageError, "Flat.*needs 205 kB"),
        (lambda: plan_index(300_000, 512, kind="hnsw", memory=10**8), UsageError, "HNSW32.*needs"),
        (lambda: plan_index(300_000, 512, kind="annoy"), UsageError, "choose auto, flat, ivfpq, hnsw"),
        (lambda: plan_index(600, 512, kind="ivfpq"), DataError, "too few"),
        (lambda: plan_index(300_000, 509), UsageError, "divides 509"),
        (lambda: plan_index(300_000, 512, memory=0), UsageError, "at least 1 byte"),
    ):
        with pytest.raises(kind, match=match) as error:
            ask()
        assert "\n" not in str(error.value)


@given(st.integers(624, 10**8))
def test_cells_are_a_power_of_two_near_the_root_that_can_be_trained(count: int) -> None:
    cells = cells_for(count)
    assert cells & (cells - 1) == 0
    assert cells * PER_CELL[0] <= count
    assert cells <= 4 * np.sqrt(count) * np.sqrt(2) * 1.001
    if count > 50_000:
        assert cells >= 4 * np.sqrt(count) / np.sqrt(2) * 0.999


def test_subquantizers_divide() -> None:
    assert {d: subquantizers(d) for d in (512, 510, 45, 25, 77)} == {512: 128, 510: 255, 45: 15, 25: 5, 77: 11}


def test_training_takes_39_to_256_a_cell() -> None:
    for count, cells in itertools.product((624, 10_000, 10**6), (16, 1024)):
        size = training_size(count, cells)
        assert size == min(count, max(39 * cells, min(100_000, 256 * cells)))
    assert training_size(10**6, 16, 50) == 50
    assert training_size(10**6, 16, 10**5) == 256 * 16
    assert training_size(10**6, None) == 100_000


def test_bytes_in_words() -> None:
    assert [in_words(n) for n in (12, 3400, 5_000_000, 8 * 10**9)] == ["12 bytes", "3.4 kB", "5 MB", "8 GB"]
