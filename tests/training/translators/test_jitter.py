"""Copies in other colours."""

from __future__ import annotations

import torch

from gloam.training.translators.jitter import LUMA, _turn, jittered


def images(batch: int = 3) -> torch.Tensor:
    return torch.rand(batch, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8


def drawing(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_no_strength_changes_nothing_and_a_seed_gives_the_same_copy() -> None:
    torch.testing.assert_close(jittered(images(), 0.0, drawing()), images())
    copies = jittered(images(), 0.4, drawing())
    assert torch.equal(copies, jittered(images(), 0.4, drawing()))
    assert not torch.equal(copies, jittered(images(), 0.4, drawing(2)))
    assert copies.shape == (3, 3, 8, 8)
    assert copies.abs().max() <= 1
    changes = (copies - images()).abs().mean((1, 2, 3))
    assert changes.min() > 0.01
    assert len(set(changes.tolist())) == 3  # each image has colours of its own


def test_hues_turn_and_greys_stay_grey() -> None:
    grey = torch.full((4, 3, 2, 2), 0.2)
    copies = jittered(grey, 0.4, drawing())
    assert (copies - copies.mean(1, keepdim=True)).abs().max() <= 0.02  # but for the rounding of YIQ
    turns = _turn(torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(turns[0], torch.eye(3, dtype=torch.float64))
    luma = torch.tensor(LUMA, dtype=torch.float64)
    colour = torch.tensor([0.9, 0.2, 0.1], dtype=torch.float64)
    torch.testing.assert_close(luma @ (turns[1] @ colour), luma @ colour)
    assert (turns[1] @ colour - colour).abs().max() > 0.1
