import numpy as np
import pytest

from gloam.errors import DataError
from gloam.training.embedders.tuples.hard_negatives import hard_negatives, mine_negatives


def plain_mining(anchors, descriptors, places, count, pool):
    """Walk down the full ranking, skipping the anchor's place and places already taken."""
    rows = []
    for anchor in anchors:
        order = sorted(pool, key=lambda index: -float(descriptors[anchor] @ descriptors[index]))
        chosen, taken = [], {places[anchor]}
        for index in order:
            if places[index] not in taken:
                chosen.append(index)
                taken.add(places[index])
        rows.append(chosen[:count])
    return np.array(rows)


@pytest.mark.parametrize("block_values", [1, 1 << 23])
@pytest.mark.parametrize("restricted", [False, True])
def test_mining_equals_walking_down_the_ranking(monkeypatch, block_values, restricted):
    monkeypatch.setattr("gloam.training.embedders.tuples.hard_negatives.BLOCK_VALUES", block_values)
    random = np.random.default_rng(0)
    places = random.permutation(np.repeat(np.arange(12) * 7, 5))
    descriptors = random.normal(size=(60, 8)).astype(np.float32)
    pool = np.sort(random.permutation(60)[:45]) if restricted else np.arange(60)
    anchors = np.arange(0, 60, 3)
    found = mine_negatives(anchors, descriptors, places, 5, pool if restricted else None)
    assert np.array_equal(found, plain_mining(anchors, descriptors, places, 5, pool))
    assert (places[found] != places[anchors][:, None]).all()
    assert all(len(set(places[row])) == 5 for row in found)


def test_never_the_same_place_even_where_everything_is_equal():
    places = np.repeat(np.arange(4), 3)
    found = mine_negatives(np.arange(12), np.ones((12, 4), np.float32), places, 3)
    assert all(set(places[row]) == set(range(4)) - {places[anchor]} for anchor, row in enumerate(found))


def test_too_few_places_are_refused():
    with pytest.raises(ValueError, match="more than 4 places"):
        mine_negatives(np.arange(4), np.ones((4, 2), np.float32), np.arange(4), 4)


def plain_hard_negatives(anchors, anchor_places, pool, pool_places, count):
    """One anchor at a time, down its full ranking."""
    rows = []
    for anchor, place in zip(anchors, anchor_places, strict=True):
        chosen, taken = [], {place}
        for index in np.argsort(-(pool @ anchor), kind="stable"):
            if pool_places[index] not in taken:
                chosen.append(index)
                taken.add(pool_places[index])
        rows.append(chosen[:count])
    return np.array(rows)


@pytest.mark.parametrize("places", [8, 60, 300])
@pytest.mark.parametrize("block_values", [1, 1 << 23])
def test_hard_negatives_of_translated_anchors_equal_the_plain_walk(monkeypatch, places, block_values):
    monkeypatch.setattr("gloam.training.embedders.tuples.hard_negatives.BLOCK_VALUES", block_values)
    random = np.random.default_rng(1)
    anchors, pool = (random.normal(size=(count, 16)).astype(np.float32) for count in (20, 400))
    labels = random.integers(places, size=400) * 3 - 5
    own = random.integers(-2, places + 2, size=20) * 3 - 5  # some anchors' places are not in the pool
    found = hard_negatives(anchors, own, pool, labels, 5)
    assert np.array_equal(found, plain_hard_negatives(anchors, own, pool, labels, 5))


def test_too_few_other_places_are_one_line():
    x = np.ones((4, 2), np.float32)
    with pytest.raises(DataError, match="there are 1 in a pool of 4") as raised:
        hard_negatives(x, np.array([0, 0, 1, 1]), x, np.array([0, 0, 1, 1]), 2)
    assert "\n" not in str(raised.value)
    assert hard_negatives(x, np.array([7, 7, 8, 9]), x, np.array([0, 0, 1, 1]), 2).shape == (4, 2)
