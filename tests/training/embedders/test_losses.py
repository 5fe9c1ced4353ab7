import math

import pytest
import torch

from gloam.training.embedders.losses import contrastive_loss, multi_similarity_loss, similarity_loss, triplet_loss


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


def test_multi_similarity_mines_and_weighs_as_published():
    """A plain loop over rows, written from the paper's equations 11, 13 and 16 with alpha 1, beta 50 and lambda 0."""
    torch.manual_seed(2)
    found = torch.nn.functional.normalize(torch.randn(12, 3).double(), dim=1)
    place = torch.arange(12) // 3
    similar = found @ found.T
    total = 0.0
    for row in range(12):
        alike = [float(similar[row, i]) for i in range(12) if place[i] == place[row] and i != row]
        unlike = [float(similar[row, i]) for i in range(12) if place[i] != place[row]]
        near = [s for s in alike if s < max(unlike) + 0.1]
        far = [s for s in unlike if s > min(alike) - 0.1]
        total += math.log(1 + sum(math.exp(-s) for s in near))
        total += math.log(1 + sum(math.exp(50 * s) for s in far)) / 50
    itself = torch.eye(12, dtype=torch.bool)
    alike = place[:, None] == place
    loss = similarity_loss(similar, alike & ~itself, ~alike, 0.1)
    assert loss.item() == pytest.approx(total, rel=1e-12)
    others = torch.stack([found[torch.arange(12) != row] for row in range(12)])
    same = torch.stack([alike[row][torch.arange(12) != row] for row in range(12)])
    assert multi_similarity_loss(found, others, same.float(), 0.1).item() == pytest.approx(total, rel=1e-12)


def test_multi_similarity_leaves_easy_and_lonely_rows_alone():
    similar = torch.tensor([[0.9, 0.1, 0.2], [0.9, 0.1, 0.2], [0.3, 0.4, 0.1]], requires_grad=True)
    positive = torch.tensor([[True, False, False], [False, False, False], [True, True, True]])
    negative = torch.tensor([[False, True, True], [True, True, True], [False, False, False]])
    loss = similarity_loss(similar, positive, negative, 0.1)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(similar.grad, torch.zeros(3, 3))
    hard = torch.tensor([[0.1, 0.9, 0.2]], requires_grad=True)
    similarity_loss(hard, positive[:1], negative[:1], 0.1).backward()
    assert hard.grad[0, 0] < 0 < hard.grad[0, 1]
    assert torch.isfinite(hard.grad).all()
