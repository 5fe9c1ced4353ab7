"""What every matcher is given: sides of a batch, and the flat inputs of the exported graph."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from gloam.networks.matchers import MatcherNetwork, Side, create_matcher


def side(seed: int, oriented: bool = True) -> Side:
    torch.manual_seed(seed)
    more = (torch.rand(2, 4), torch.rand(2, 4)) if oriented else ()
    return Side(torch.rand(2, 4, 2), torch.rand(2, 4, 3), torch.tensor([[30, 40], [6, 10]], dtype=torch.int32), *more)


def test_the_first_rows_are_keypoints() -> None:
    valid = side(0).valid(torch.tensor([3, 0], dtype=torch.int32))
    assert valid.tolist() == [[True, True, True, False], [False] * 4]
    assert side(0).valid(torch.tensor([4, 9])).all()


@pytest.mark.parametrize("oriented", [True, False])
def test_what_is_behind_the_keypoints_lies_in_the_middle_of_the_image_and_is_zero(oriented: bool) -> None:
    given = side(1, oriented)
    valid = torch.tensor([[True, True, False, False], [True, False, False, False]])
    found = given.cleared(valid)
    for name in ("keypoints", "descriptors", "scales", "orientations"):
        one, other = getattr(found, name), getattr(given, name)
        assert (one is None) == (other is None) == (name in ("scales", "orientations") and not oriented)
        if one is not None:
            assert torch.equal(one[valid], other[valid])
    assert found.keypoints[~valid].tolist() == [[20, 15], [20, 15], [5, 3], [5, 3], [5, 3]]  # x and y
    assert not found.descriptors[~valid].any()
    if found.scales is not None and found.orientations is not None:
        assert not found.scales[~valid].any()
        assert not found.orientations[~valid].any()
    assert torch.equal(found.size, given.size)


@pytest.mark.parametrize("oriented", [True, False])
def test_the_graphs_inputs_are_the_two_sides(oriented: bool) -> None:
    class Noted(MatcherNetwork):
        def match_batch(self, *given: Any) -> tuple[Tensor, Tensor]:
            self.given = given
            return torch.ones(1), torch.zeros(1)

    first, second, counts = side(2, oriented), side(3, oriented), torch.tensor([[4, 3], [2, 1]])
    model = Noted("noted", create_matcher("lightglue_aliked", layers=1, width=16, heads=2).takes, {}, 0.1)
    pairs = [(getattr(first, name), getattr(second, name)) for name in ("keypoints", "descriptors", "size")]
    more = [(getattr(first, name), getattr(second, name)) for name in ("scales", "orientations")] if oriented else []
    found = model(*pairs[0], *pairs[1], *pairs[2], counts, *(value for pair in more for value in pair))
    assert [value.tolist() for value in found] == [[1], [0]]
    assert model.given == (first, second, counts)


def test_a_matcher_says_what_it_does_not_define() -> None:
    model = MatcherNetwork("bare", create_matcher("lightglue_aliked", layers=1, width=16, heads=2).takes, {}, 0.1)
    with pytest.raises(TypeError, match="MatcherNetwork defines no match_batch"):
        model.match_batch(side(0), side(1), torch.ones(2, 2))
    with pytest.raises(TypeError, match="MatcherNetwork defines no match_pair"):
        model.match_pair(side(0), side(1))
