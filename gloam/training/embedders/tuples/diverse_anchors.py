"""Diverse anchors: tuples that neither repeat what is already chosen nor are far from everything (ICCV 2023, 3.2)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from gloam.errors import UsageError

WINDOW = (0.2, 0.8)  # the paper's 20 % closest and 20 % farthest are not chosen
PROPOSALS = 64  # similarities computed in one product
LEAST_ACCEPTANCE = 0.2  # below this share, the rank is drawn instead of the item
Ranks = Callable[[int, int], int]  # (first, last) to a rank of [first, last)
MOST_PROPOSALS = 300  # 0.8 to this power is nothing: so many fail only where equal items fill the window


def diverse_anchors(
    descriptors: npt.NDArray[np.float32],  # [n, D]
    count: int,
    random: np.random.Generator | Ranks,
    window: tuple[float, float] = WINDOW,
) -> npt.NDArray[np.int64]:
    """Choose items one by one, each of middling similarity to those chosen before.

    The first is item 0. With k chosen, s_i the largest similarity of item i to a chosen one and ``m = n - k``, the next
    is uniform among the ranks ``[int(m (1 - high)), int(m (1 - low)))`` of s ascending, at least rank 1. Chosen items
    stay in the ranking: their s is 1, and the window, which counts m, ends below them.

    A uniform choice within the window equals choosing uniformly among all items until one lies in it. Those proposals
    do not depend on what is chosen, so their similarities come from matrix products of many at a time, a running
    maximum keeps s, and a rank is one comparison with all of s: nothing is sorted.

    Args:
        descriptors: unit descriptors, float32 ``[n, D]``, in random order; an image may be there several times.
        count: k in the end, at most n.
        random: source of all choices; or what gives each choice's rank, called with the window's first rank and the one
            after its last, to repeat choices that were made elsewhere.
        window: shares low and high of the remaining items, counted from the most similar.

    Returns:
        int64 ``[count]``, different, in the order of their choice.

    Raises:
        UsageError: a count outside 1..n, or no window of 0 <= low < high <= 1.
    """
    items, (low, high) = len(descriptors), window
    if not 1 <= count <= items:
        raise UsageError(f"diverse anchors: {count} of {items} candidates; choose 1 to {items}")
    if not 0 <= low < high <= 1:
        raise UsageError(f"diverse anchors: window {low} to {high}; shares of 0 <= low < high <= 1 are needed")
    columns = np.ascontiguousarray(descriptors, np.float32)
    chosen = np.zeros(count, np.int64)
    taken = np.zeros(items, bool)
    taken[0] = True
    nearest = columns @ columns[0]
    proposals = None if callable(random) else _Proposals(columns, random)
    ranks = random if callable(random) else random.integers
    for step in range(1, count):
        first, last = rank_window(items - step, (low, high), items)
        drawn = None
        if proposals is not None and last - first >= LEAST_ACCEPTANCE * items:
            drawn = proposals.within(nearest, taken, first, last)
        if drawn is None:
            item = _item_of_rank(nearest, taken, int(ranks(first, last)))
            drawn = item, columns @ columns[item]
        item, row = drawn
        chosen[step], taken[item] = item, True
        np.maximum(nearest, row, out=nearest)
    return chosen


def rank_window(remaining: int, window: tuple[float, float], items: int) -> tuple[int, int]:
    """First rank and the one after the last, of similarities ascending; never empty."""
    first = max(1, int(remaining * (1 - window[1])))
    last = max(first + 1, int(remaining * (1 - window[0])))
    return (first, last) if last <= items else (items - 1, items)


class _Proposals:
    """Uniform items with their similarities to all others, computed a block at a time."""

    def __init__(self, columns: npt.NDArray[np.float32], random: np.random.Generator) -> None:
        self._columns, self._random = columns, random
        self._items = np.empty(0, np.int64)
        self._rows = np.empty((0, 0), np.float32)
        self._next = 0

    def within(
        self, nearest: npt.NDArray[np.float32], taken: npt.NDArray[np.bool_], first: int, last: int
    ) -> tuple[int, npt.NDArray[np.float32]] | None:
        """The first drawn item in the window that is not taken, with its similarities; None where none comes."""
        for _ in range(MOST_PROPOSALS):
            item, row = self.draw()
            if not taken[item] and first <= _rank(nearest, item) < last:
                return item, row
        return None

    def draw(self) -> tuple[int, npt.NDArray[np.float32]]:
        if self._next == len(self._items):
            self._items = self._random.integers(len(self._columns), size=PROPOSALS)
            self._rows = self._columns[self._items] @ self._columns.T
            self._next = 0
        self._next += 1
        return int(self._items[self._next - 1]), self._rows[self._next - 1]


def _rank(values: npt.NDArray[np.float32], item: int) -> int:
    """Rank of an item in ascending order, equal values in the order of items."""
    value = values[item]
    return int(np.count_nonzero(values < value)) + int(np.count_nonzero(values[:item] == value))


def _item_of_rank(values: npt.NDArray[np.float32], taken: npt.NDArray[np.bool_], rank: int) -> int:
    """The item of a rank; the nearest rank's that is not taken, where rounding put one there."""
    order = np.argsort(values, kind="stable")
    free = np.flatnonzero(~taken[order])
    return int(order[free[int(np.argmin(np.abs(free - rank)))]])
