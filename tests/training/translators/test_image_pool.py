import copy

import torch

from gloam.training.translators.image_pool import ImagePool


def images(*values):
    return torch.stack([torch.full((1, 2, 2), float(value)) for value in values])


def values(batch):
    return [int(image.flatten()[0]) for image in batch]


def test_fills_first_and_gives_back_what_came():
    pool = ImagePool(5)
    assert values(pool.query(images(0, 1, 2))) == [0, 1, 2]
    assert values(pool.query(images(3, 4))) == [3, 4]
    assert len(pool) == 5


def test_then_half_the_answers_are_older_and_nothing_is_lost():
    pool = ImagePool(50, seed=1)
    given, came = list(range(50)), []
    pool.query(images(*given))
    for value in range(50, 2050):
        given.append(value)
        came += values(pool.query(images(value)))
    older = sum(back != value for back, value in zip(came, range(50, 2050), strict=True))
    assert 0.45 < older / 2000 < 0.55
    kept = [int(image.flatten()[0]) for image in pool.state_dict()["images"]]
    assert sorted(came + kept) == given  # each image is given back once or still kept
    assert len(pool) == 50


def test_size_zero_is_no_pool():
    batch = images(1, 2).requires_grad_()
    back = ImagePool(0).query(batch)
    assert torch.equal(back, batch)
    assert not back.requires_grad


def test_answers_carry_no_gradient_and_later_changes_do_not_reach_the_pool():
    pool = ImagePool(1)
    batch = images(7).requires_grad_()
    assert not pool.query(batch).requires_grad
    batch.data.fill_(9)
    assert values(pool.state_dict()["images"]) == [7]


def test_state_continues_exactly():
    pool, other = ImagePool(4, seed=3), ImagePool(4, seed=99)
    pool.query(images(*range(9)))
    other.load_state_dict(copy.deepcopy(pool.state_dict()))
    assert all(torch.equal(pool.query(images(value)), other.query(images(value))) for value in range(20))
