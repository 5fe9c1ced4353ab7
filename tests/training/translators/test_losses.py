import math

import pytest
import torch
from torch.nn import functional as F

from gloam.training.translators.losses import GAN_LOSSES, GanLoss, l1

REAL, FAKE = torch.tensor([[2.0, 0.5]]), torch.tensor([[-1.0, 0.5]])


def test_least_squares_by_hand():
    loss = GanLoss("least_squares")
    # real: (1^2 + 0.5^2) / 2 = 0.625; fake: (1 + 0.25) / 2 = 0.625
    assert loss.discriminator(REAL, FAKE).item() == pytest.approx(0.5 * (0.625 + 0.625))
    assert loss.generator(FAKE).item() == pytest.approx((4 + 0.25) / 2)


def test_inverted_least_squares_is_mse_to_zero_for_real():
    loss = GanLoss("least_squares", inverted_labels=True)
    expected = 0.5 * (F.mse_loss(REAL, torch.zeros(1, 2)) + F.mse_loss(FAKE, torch.ones(1, 2)))
    assert loss.discriminator(REAL, FAKE).item() == pytest.approx(expected.item())
    assert loss.generator(FAKE).item() == pytest.approx(F.mse_loss(FAKE, torch.zeros(1, 2)).item())


def test_cross_entropy_equals_torchs():
    loss = GanLoss("cross_entropy")
    bce = F.binary_cross_entropy_with_logits
    expected = 0.5 * (bce(REAL, torch.ones(1, 2)) + bce(FAKE, torch.zeros(1, 2)))
    assert loss.discriminator(REAL, FAKE).item() == pytest.approx(expected.item())
    assert loss.generator(FAKE).item() == pytest.approx(bce(FAKE, torch.ones(1, 2)).item())
    assert GanLoss("cross_entropy").generator(torch.tensor([-1e4])).item() == pytest.approx(1e4)  # no overflow


def test_hinge_by_hand():
    loss = GanLoss("hinge")
    assert loss.discriminator(REAL, FAKE).item() == pytest.approx((0 + 0.5) / 2 + (0 + 1.5) / 2)
    assert loss.generator(FAKE).item() == pytest.approx(0.25)


@pytest.mark.parametrize("name", GAN_LOSSES)
@pytest.mark.parametrize("inverted", [False, True])
def test_the_generator_pulls_fakes_to_where_the_discriminator_pushes_real(name, inverted):
    loss = GanLoss(name, inverted)
    real, fake = torch.zeros(4, requires_grad=True), torch.zeros(4, requires_grad=True)
    up = -1 if inverted else 1
    if inverted and name == "least_squares":
        real, fake = torch.ones(4, requires_grad=True), torch.ones(4, requires_grad=True)
    loss.discriminator(real, torch.zeros(4)).backward()
    loss.generator(fake).backward()
    assert (real.grad * up < 0).all()  # descent moves scores of real images up where labels are upright
    assert (fake.grad * up < 0).all()


def test_losses_are_float32_whatever_the_scores():
    half = torch.full((3,), 300.0, dtype=torch.bfloat16)
    assert GanLoss().generator(half).dtype == torch.float32
    assert l1(half, torch.zeros(3)).item() == 300.0


def test_a_blind_cross_entropy_discriminator_costs_ln_2():
    zeros = torch.zeros(2, 1, 5, 5)
    assert GanLoss("cross_entropy").discriminator(zeros, zeros).item() == pytest.approx(math.log(2))
