import numpy as np
import pytest

from gloam.errors import DataError
from gloam.training.embedders.street_sampling import draw_batch


def test_a_batch_has_different_images_of_different_places():
    places = np.array([0, 0, 0, 1, 1, 2, 5, 5])  # place 2 is seen once
    random = np.random.default_rng(0)
    for _ in range(20):
        rows = draw_batch(places, 3, 2, random)
        assert (places[rows] == places[rows][:, :1]).all()
        assert sorted(places[rows][:, 0]) == [0, 1, 5]
        assert len(set(rows.ravel())) == 6


def test_the_same_seed_draws_the_same_batch():
    places = np.repeat(np.arange(9), 3)
    first = draw_batch(places, 4, 2, np.random.default_rng(4))
    assert np.array_equal(first, draw_batch(places, 4, 2, np.random.default_rng(4)))
    assert not np.array_equal(first, draw_batch(places, 4, 2, np.random.default_rng(5)))


def test_too_few_places_are_refused():
    with pytest.raises(DataError, match="needs 3 places of 2 images each, but only 1 of 4"):
        draw_batch(np.array([0, 1, 2, 3, 3]), 3, 2, np.random.default_rng(0))
