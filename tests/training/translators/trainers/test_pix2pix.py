import pytest
import torch
from torch.nn import functional as F

from tests.training.translators.trainers.tiny import counting, pair, tiny_trainer, totals_of


def test_the_discriminator_sees_source_and_translation_together():
    trainer = tiny_trainer("pix2pix")
    day, night = pair()
    seen = []
    trainer.networks["discriminator"].register_forward_hook(lambda _, given, __: seen.append(given[0]))
    with counting(trainer.networks["generator"]) as counts:
        trainer.step(day, night)
    assert counts == [1]
    assert [images.shape[1] for images in seen] == [6, 6, 6]
    assert all(torch.equal(images[:, :3], day) for images in seen)
    assert torch.equal(seen[0][:, 3:], night)
    assert [images.requires_grad for images in seen] == [False, False, True]


@pytest.mark.parametrize("normalised", [False, True])
def test_l1_is_to_the_paired_night_and_weighs_a_hundredfold(normalised):
    trainer = tiny_trainer("pix2pix", normalise_weights=normalised)
    day, night = pair()
    totals = totals_of(trainer)
    expected = F.l1_loss(tiny_trainer("pix2pix").networks["generator"](day), night)
    losses = trainer.step(day, night)
    torch.testing.assert_close(losses["l1"], expected.detach())
    scale = 101 if normalised else 1
    torch.testing.assert_close(totals["generator"], (losses["adversarial"] + 100 * losses["l1"]) / scale)


def test_learns_a_simple_pairing():
    trainer = tiny_trainer("pix2pix", learning_rate=5e-3)
    day, _ = pair(batch=4)
    day = F.interpolate(day[..., ::8, ::8], scale_factor=8.0, mode="bilinear")
    found = [trainer.step(day, 0.5 * day - 0.5)["l1"].item() for _ in range(60)]
    assert found[-1] < 0.4 * found[0]
