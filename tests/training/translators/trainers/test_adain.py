"""AdaIN's trainer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gloam.errors import ModelError, UsageError
from tests.training.translators.trainers.tiny import pair, tiny_trainer, totals_of, write_narrow_vgg19

BETWEEN = torch.tensor([[0, 1], [1, 0]])
NARROW = {"stages": [[2, 2], [2, 2]]}  # of the narrow VGG19


def test_the_decoder_alone_learns_and_the_total_is_weighted() -> None:
    trainer = tiny_trainer("adain")
    totals = totals_of(trainer)
    losses = trainer.step_between(*pair(), BETWEEN)
    assert float(totals["generator"]) == pytest.approx(float(losses["content"]) + 10 * float(losses["style"]), rel=1e-5)
    learned = {p for group in trainer.optimizers["generator"].param_groups for p in group["params"]}
    assert learned == set(trainer.generator.decoder.parameters())


def test_the_rate_falls_with_every_step() -> None:
    trainer = tiny_trainer("adain", rate_decay=0.5, decay_epochs=2)
    rates = []
    for epoch in (0, 0, 2):
        trainer.set_progress(epoch)
        trainer.step_between(*pair(), BETWEEN)
        rates.append(trainer.optimizers["generator"].param_groups[0]["lr"])
    assert rates == pytest.approx([1e-4, 1e-4 / 1.5, 1e-4 * 2 / 3 / 2])
    with pytest.raises(UsageError, match="rate_decay -1"):
        tiny_trainer("adain", rate_decay=-1.0)


def test_it_learns() -> None:
    trainer = tiny_trainer("adain", learning_rate=1e-2)
    found = [float(sum(trainer.step_between(*pair(), BETWEEN).values())) for _ in range(40)]
    assert sum(found[-5:]) < 0.7 * sum(found[:5])


def test_both_public_encoders_give_the_same_features(tmp_path: Path) -> None:
    """Torchvision's file and one of the other layout, whose first convolution normalises images."""
    path = write_narrow_vgg19(tmp_path / "vgg19.pth")
    trainer = tiny_trainer("adain", generator_options=NARROW, encoder_random=False, encoder_weights=str(path))
    encoder = trainer.generator.encoder
    colours = encoder[0](torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
    assert colours.abs().max() <= 1e-6
    theirs = torch.load(path, weights_only=True)
    assert torch.equal(encoder[5].weight, theirs["features.2.weight"])
    torch.save(encoder.state_dict(), tmp_path / "vgg_normalised.pth")
    normalised = str(tmp_path / "vgg_normalised.pth")
    other = tiny_trainer("adain", generator_options=NARROW, encoder_random=False, encoder_weights=normalised)
    assert torch.equal(other.generator.worn(pair()[0]), trainer.generator.worn(pair()[0]))


def test_what_cannot_be_trained_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"encoder_weights is not set; name vgg_normalised\.pth"):
        tiny_trainer("adain", encoder_random=False)
    path = write_narrow_vgg19(tmp_path / "vgg19.pth")
    with pytest.raises(ModelError, match=r"vgg19\.pth: no weights of VGG19, 2.weight does not fit"):
        tiny_trainer("adain", encoder_random=False, encoder_weights=str(path))
    with pytest.raises(UsageError, match="must be 'adain'"):
        tiny_trainer("adain", generator="resnet")
