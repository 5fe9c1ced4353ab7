"""Mutual nearest neighbours equal a plain loop over rows, whatever the blocks, ties and limits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from gloam.runtime.localization.matches.mutual import match_mutual

Descriptors = npt.NDArray[np.float32]


def plain_matches(first: Descriptors, second: Descriptors, ratio: float | None) -> list[tuple[int, int]]:
    found = []
    for i, row in enumerate(first):
        similarity = second @ row
        j = int(similarity.argmax())
        if int((first @ second[j]).argmax()) != i:
            continue
        if ratio is not None and len(second) > 1:
            distances = np.sort(np.sqrt(np.maximum(2 - 2 * similarity, 0)))
            if distances[0] > ratio * distances[1]:
                continue
        found.append((i, j))
    return found


def noisy(rows: int, others: int) -> tuple[Descriptors, Descriptors]:
    """Two lists of which the first half are neighbours, the rest nobody's."""
    rng = np.random.default_rng(0)
    first = rng.normal(size=(rows, 16)).astype(np.float32)
    near = first[: rows // 2] + rng.normal(0, 0.4, (rows // 2, 16))
    second = np.concatenate([near, rng.normal(size=(others, 16))]).astype(np.float32)
    first, second = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (first, second))
    return first, second


def coarse(rows: int) -> Descriptors:
    """Descriptors of few values, so that many products are equal and exact."""
    return np.random.default_rng(rows).integers(-1, 2, (rows, 4)).astype(np.float32) / 2


@pytest.mark.parametrize("ratio", [None, 0.9, 1.0])
@pytest.mark.parametrize("block", [1, 7, 1000])
def test_blocked_matching_equals_the_plain_loop(ratio: float | None, block: int) -> None:
    for first, second in (noisy(60, 25), noisy(9, 70), noisy(60, 0), noisy(2, 1), (coarse(40), coarse(33))):
        for one, other in ((first, second), (second, first)):
            found = match_mutual(one, other, ratio=ratio, block=block)
            assert [tuple(row) for row in found.tolist()] == plain_matches(one, other, ratio)
            assert (found.dtype, found.ndim) == (np.dtype(np.uint32), 2)
    assert len(plain_matches(*noisy(60, 25), None)) > len(plain_matches(*noisy(60, 25), 0.9)) > 20


@pytest.mark.parametrize(("rows", "others"), [(0, 3), (3, 0), (0, 0)])
@pytest.mark.parametrize("ratio", [None, 0.8])
def test_nothing_matches_nothing(rows: int, others: int, ratio: float | None) -> None:
    found = match_mutual(coarse(9)[:rows], coarse(9)[:others], ratio=ratio)
    assert (found.shape, found.dtype) == ((0, 2), np.dtype(np.uint32))


def test_ties_go_to_the_lower_row_and_a_single_candidate_passes() -> None:
    axes = np.eye(3, dtype=np.float32)
    twice = np.concatenate([axes[:1], axes[:1]])
    for block in (1, 10):
        assert match_mutual(twice, axes[:1], block=block).tolist() == [[0, 0]]  # the lower of two equal rows
        assert match_mutual(axes[:1], twice, block=block).tolist() == [[0, 0]]
    assert match_mutual(axes, axes[:1], ratio=0.5).tolist() == [[0, 0]]  # no second neighbour to compare with
    assert match_mutual(-axes[:1], axes[:1], ratio=0.5).tolist() == [[0, 0]]  # however far it is
    assert match_mutual(axes[:1], axes[:2], ratio=0.5).tolist() == [[0, 0]]


def test_the_ratio_is_of_distances() -> None:
    axes = np.eye(3, dtype=np.float32)
    between = np.array([[0.6, 0.8, 0.0]], np.float32)
    assert match_mutual(between, axes[:2], ratio=0.7).tolist() == []  # distances .63 and .89
    assert match_mutual(between, axes[:2], ratio=0.72).tolist() == [[0, 1]]
    assert match_mutual(axes[:1], np.concatenate([axes[:1]] * 2), ratio=1.0).tolist() == [[0, 0]]  # as near: within 1
    longer = np.array([[1.0 + 1e-3, 0.0, 0.0]], np.float32)  # rounding may give products beyond 1
    assert match_mutual(longer, axes[:2], ratio=0.7).tolist() == [[0, 0]]


def test_no_more_rows_than_a_block_are_compared_at_once() -> None:
    class Rows:
        def __init__(self, rows: Descriptors) -> None:
            self.rows, self.shape, self.taken = rows, rows.shape, list[int]()

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, key: slice) -> Descriptors:
            self.taken.append(len(self.rows[key]))
            return self.rows[key]

    first, second = noisy(17, 5)
    counted = Rows(first)
    np.testing.assert_array_equal(match_mutual(counted, second, block=5), match_mutual(first, second))  # type: ignore[arg-type]  # as much as is needed of one
    assert counted.taken == [5, 5, 5, 2]
