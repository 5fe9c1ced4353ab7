import numpy as np
import pytest

from gloam.errors import UsageError
from gloam.training.embedders.tuples.diverse_anchors import diverse_anchors, rank_window


def unit(seed, items, columns=8):
    x = np.random.default_rng(seed).normal(size=(items, columns)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def plain_window(x, chosen, window=(0.2, 0.8)):
    """Items among which the next may lie, by a full sort of every similarity."""
    nearest = (x @ x[chosen].T).max(axis=1)
    order = np.argsort(nearest, kind="stable")
    first, last = rank_window(len(x) - len(chosen), window, len(x))
    return order[first:last]


@pytest.mark.parametrize("window", [(0.2, 0.8), (0.0, 1.0), (0.45, 0.5)])
def test_every_choice_lies_in_the_window_of_a_full_sort(window):
    x = unit(0, 90)
    chosen = diverse_anchors(x, 60, np.random.default_rng(1), window)
    assert chosen[0] == 0
    assert len(set(chosen.tolist())) == 60
    for step in range(1, 60):
        # Rounding of a product of many rows may exchange neighbours in the order, so one rank of slack.
        first, last = rank_window(90 - step, window, 90)
        nearest = (x @ x[chosen[:step]].T).max(axis=1)
        rank = int(np.flatnonzero(np.argsort(nearest, kind="stable") == chosen[step])[0])
        assert first - 1 <= rank <= last


def test_choices_are_uniform_in_the_window():
    x = unit(2, 40)
    window = plain_window(x, [0])
    counts = np.zeros(40)
    for seed in range(4000):
        counts[diverse_anchors(x, 2, np.random.default_rng(seed))[1]] += 1
    assert counts[np.setdiff1d(np.arange(40), window)].sum() == 0
    expected = 4000 / len(window)
    chi2 = float(((counts[window] - expected) ** 2 / expected).sum())
    assert chi2 < 60  # 22 degrees of freedom; p < 2e-5


def test_the_window_of_the_code_and_its_rounding():
    assert rank_window(9999, (0.2, 0.8), 10000) == (1999, 7999)
    assert rank_window(10, (0.2, 0.8), 11) == (1, 8)  # 1 - 0.8 is a little less than 0.2
    assert rank_window(1, (0.2, 0.8), 5) == (1, 2)


def test_near_copies_of_a_chosen_anchor_are_left_out():
    copies, others = np.repeat(unit(4, 1, 64), 40, axis=0), unit(9, 360, 64)
    x = copies + 0.001 * unit(3, 40, 64)
    x = np.concatenate([x / np.linalg.norm(x, axis=1, keepdims=True), others]).astype(np.float32)
    counts = [int((diverse_anchors(x, 60, np.random.default_rng(seed)) < 40).sum()) for seed in range(5)]
    assert counts == [1] * 5  # the first item; at random there would be six


def test_all_items_can_be_chosen_and_equal_ones_do_no_harm():
    assert sorted(diverse_anchors(unit(5, 30), 30, np.random.default_rng(0)).tolist()) == list(range(30))
    assert len(set(diverse_anchors(np.ones((20, 2), np.float32), 15, np.random.default_rng(0)).tolist())) == 15
    assert diverse_anchors(unit(6, 1), 1, np.random.default_rng(0)).tolist() == [0]


def test_the_same_source_of_chance_gives_the_same_anchors():
    x = unit(7, 200)
    first, second = (diverse_anchors(x, 50, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize(("count", "window"), [(0, (0.2, 0.8)), (5, (0.2, 0.8)), (2, (0.8, 0.2)), (2, (-0.1, 1))])
def test_what_cannot_be_chosen_is_refused(count, window):
    with pytest.raises(UsageError, match="diverse anchors"):
        diverse_anchors(unit(8, 4), count, np.random.default_rng(0), window)


def test_ranks_may_be_given_in_place_of_drawn_ones():
    """Choices made elsewhere are repeated, item by item, against a full sort of float64 similarities."""
    x = unit(10, 80)
    draws = np.random.default_rng(4)
    asked = []

    def rank(first, last):
        asked.append((first, last, int(draws.integers(first, last))))
        return asked[-1][2]

    found = diverse_anchors(x, 40, rank)
    chosen = [0]
    for first, last, place in asked:
        assert (first, last) == rank_window(80 - len(chosen), (0.2, 0.8), 80)
        nearest = (x.astype(np.float64) @ x[chosen].T.astype(np.float64)).max(axis=1)
        chosen.append(int(np.argsort(nearest, kind="stable")[place]))
    assert found.tolist() == chosen
