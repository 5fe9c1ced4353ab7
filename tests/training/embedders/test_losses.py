import math

import pytest
import torch

from gloam.training.embedders.losses import contrastive_loss, triplet_loss


@pytest.mark.parametrize(("negative", "expected"), [((0.6, 0.8), 0.2), ((0.96, 0.28), 0.309118)])
def test_golden_values(negative, expected):
    columns = torch.tensor([(1.0, 0.0), (0.8, 0.6), negative])
    loss = contrastive_loss(columns[:1], columns[None, 1:], torch.tensor([[1, 0]]), margin=0.75)
    assert loss.item() == pytest.approx(expected, abs=2e-6)


def test_equals_a_plain_loop_and_is_a_sum():
    torch.manual_seed(0)
    anchors, others = torch.randn(4, 8).double(), torch.randn(4, 6, 8).double()
    anchors, others = anchors / anchors.norm(dim=-1, keepdim=True), others / others.norm(dim=-1, keepdim=True)
    same = torch.zeros(4, 6)
    same[:, 0] = 1
    expected = 0.0
    for anchor, members, labels in zip(anchors, others, same, strict=True):
        for other, label in zip(members, labels, strict=True):
            d = math.sqrt(sum((float(a) - float(x) + 1e-6) ** 2 for a, x in zip(anchor, other, strict=True)))
            expected += 0.5 * d * d if label else 0.5 * max(0.0, 1.2 - d) ** 2
    assert contrastive_loss(anchors, others, same, 1.2).item() == pytest.approx(expected, abs=1e-9)


def test_equal_descriptors_have_a_finite_gradient():
    anchors = torch.tensor([[1.0, 0.0]], requires_grad=True)
    contrastive_loss(anchors, anchors.detach()[None], torch.tensor([[0]])).backward()
    assert torch.isfinite(anchors.grad).all()
    assert anchors.grad.abs().sum() > 0


def test_triplets_are_pairs_of_a_positive_and_a_negative():
    """A known value, and the plain double loop with two positives."""
    anchors = torch.tensor([[1.0, 0.0]])
    others = torch.tensor([[[0.8, 0.6], [0.6, 0.8], [0.96, 0.28]]])
    same = torch.tensor([[1.0, 0.0, 0.0]])
    # |a - p|^2 = 0.4; |a - n|^2 = 0.8 and 0.08
    assert triplet_loss(anchors, others, same, 0.1).item() == pytest.approx(0.42, abs=1e-6)
    assert triplet_loss(anchors, others, same, 0.5).item() == pytest.approx(0.1 + 0.82, abs=1e-6)
    torch.manual_seed(1)
    anchors, others = torch.randn(3, 4).double(), torch.randn(3, 5, 4).double()
    same = torch.tensor([[1, 1, 0, 0, 0]]).expand(3, -1)
    total = sum(
        max(0.0, float((a - p).square().sum() - (a - n).square().sum()) + 0.3)
        for a, row in zip(anchors, others, strict=True)
        for p in row[:2]
        for n in row[2:]
    )
    found = triplet_loss(anchors, others, same, 0.3)
    assert (found.item(), found.dtype) == (pytest.approx(total), torch.float64)
