"""MDUIT's trainer, and its ablation without translation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gloam.errors import ModelError, UsageError
from gloam.training.translators.company import Company, company_of
from tests.training.translators.trainers.tiny import counting, pair, tiny_trainer, totals_of

BETWEEN = torch.tensor([[0, 1], [1, 0]])
OF_GENERATOR = {"image": 1, "match": 1, "self": 100, "cycle": 100, "content": 10, "appearance": 1, "contrast": 1}


def write_narrow_vgg16(path: Path) -> Path:
    """A state dict of VGG16's layout, of the tests' narrow stages, with a classifier behind it."""
    generator = torch.Generator().manual_seed(0)
    state, channels = {"classifier.0.weight": torch.zeros(2, 2)}, 3
    for index in (0, 3, 6):
        state[f"features.{index}.weight"] = torch.randn(4, channels, 3, 3, generator=generator)
        state[f"features.{index}.bias"] = torch.randn(4, generator=generator)
        channels = 4
    torch.save(state, path)
    return path


def test_each_total_is_the_weighted_sum_of_its_losses() -> None:
    trainer = tiny_trainer("mduit")
    totals = totals_of(trainer)
    losses = trainer.step_between(*pair(), BETWEEN)
    assert set(losses) == {*OF_GENERATOR, "discriminator_image", "discriminator_match"}
    expected = sum(weight * float(losses[name]) for name, weight in OF_GENERATOR.items())
    assert float(totals["generator"]) == pytest.approx(expected, rel=1e-5)
    judged = float(losses["discriminator_image"]) + float(losses["discriminator_match"])
    assert float(totals["discriminator"]) == pytest.approx(judged, rel=1e-5)


def test_losses_are_those_of_the_paper_s_images() -> None:
    """Each role's image changes the losses that compare with it, and no other."""
    source, target = pair()
    full = company_of(source, target)
    other = torch.rand(source.shape, generator=torch.Generator().manual_seed(9)) * 2 - 1
    assert full.negatives is not None
    changed = {
        "same_domain": {"discriminator_match"},
        "other_domain": {"appearance"},
        "other_content": {"content"},
        "negatives": {"contrast"},
    }
    plain = tiny_trainer("mduit").step_among(source, target, BETWEEN, full)
    for role, names in changed.items():
        value = torch.stack((other, other), 1) if role == "negatives" else other
        found = tiny_trainer("mduit").step_among(source, target, BETWEEN, Company(**{**vars(full), role: value}))
        assert {name for name, loss in found.items() if not torch.equal(loss, plain[name])} == names, role


def test_ablations_of_the_contrast() -> None:
    losses = tiny_trainer("mduit", contrast="distance").step_between(*pair(), BETWEEN)
    assert set(OF_GENERATOR) <= set(losses)
    without = tiny_trainer("mduit", contrast="distance")
    assert without.options.beside.negatives == 0
    source, target = pair()
    company = Company(same_domain=target.roll(1, 0), other_domain=source, other_content=source.roll(1, 0))
    assert torch.equal(without.step_among(source, target, BETWEEN, company)["contrast"], losses["contrast"])
    content = tiny_trainer("mduit_content", contrast="distance")
    assert set(content.step_among(source, target, BETWEEN, Company())) == {"contrast"}
    assert set(content.networks) == {"embedder"}


def test_an_image_of_the_place_is_a_second_positive() -> None:
    source, target = pair()
    full = company_of(source, target)
    for placed, learns in (([True, False], True), ([False, False], False)):
        company = Company(**{**vars(full), "same_place": target, "placed": torch.tensor(placed)})
        trainer = tiny_trainer("mduit_content", place_positive=2.0)
        assert trainer.options.beside.place
        totals = totals_of(trainer)
        losses = trainer.step_among(source, target, BETWEEN, company)
        assert (float(losses["place"]) > 0) == learns
        expected = float(losses["contrast"]) + 2 * float(losses["place"])
        assert float(totals["embedder"]) == pytest.approx(expected, rel=1e-5)


def test_vgg16_is_frozen_unless_it_is_to_learn(tmp_path: Path) -> None:
    path = write_narrow_vgg16(tmp_path / "vgg16.pth")
    trainer = tiny_trainer("mduit", appearance_learned=False, appearance_weights=str(path))
    vgg = trainer.generator.appearance.vgg
    state = torch.load(path, weights_only=True)
    trainer.step_between(*pair(), BETWEEN)
    assert all(torch.equal(value, state[f"features.{key}"]) for key, value in vgg.state_dict().items())
    learning = tiny_trainer("mduit", appearance_learned=True, appearance_weights=str(path))
    learning.step_between(*pair(), BETWEEN)
    assert not torch.equal(learning.generator.appearance.vgg[0].weight, state["features.0.weight"])
    with pytest.raises(UsageError, match="appearance_weights is not set; name a file of torchvision's VGG16"):
        tiny_trainer("mduit", appearance_learned=False)
    torch.save({"features.0.weight": torch.zeros(5, 3, 3, 3)}, tmp_path / "wide.pth")
    with pytest.raises(ModelError, match=r"wide\.pth: no weights of VGG16, 0.weight does not fit"):
        tiny_trainer("mduit", appearance_learned=False, appearance_weights=str(tmp_path / "wide.pth"))


def test_the_paper_s_initialisation_is_a_choice() -> None:
    plain, paper = tiny_trainer("mduit"), tiny_trainer("mduit", init="paper")
    assert (plain.generator.identity, paper.generator.identity) == (True, False)
    spread = [float(one.generator.appearance.linear.weight.detach().std()) for one in (plain, paper)]
    assert spread == pytest.approx([0.02, 0.001], rel=0.2)
    with pytest.raises(UsageError, match="init 'zeros': choose one of normal, xavier, kaiming, paper"):
        tiny_trainer("mduit", init="zeros")


def test_both_products_have_one_content_encoder_also_in_their_averages() -> None:
    trainer = tiny_trainer("mduit", average_decay=0.5)
    for step in range(3):
        trainer.step_between(*pair(step), BETWEEN)
        trainer.follow()
    live = trainer.generator.content.state_dict()
    assert trainer.generator.content is trainer.embedder.content
    trainer.samples(*pair(), BETWEEN)  # swaps averages in and out
    products = trainer.products()
    states = [products[name].get_submodule("content").state_dict() for name in ("translator", "embedder")]
    for key, value in live.items():
        assert torch.equal(trainer.generator.content.state_dict()[key], value)
        assert torch.equal(states[0][key], states[1][key])
    assert any(not torch.equal(value, states[0][key]) for key, value in live.items())


def test_one_forward_of_the_content_encoder_sees_sources_and_company() -> None:
    trainer = tiny_trainer("mduit")
    with counting(trainer.generator.content, trainer.generator.appearance) as counts:
        trainer.step_between(*pair(), BETWEEN)
    assert counts == [2, 2]  # of the images, and of the translation


def test_self_reconstruction_falls() -> None:
    options: dict[str, Any] = {"width": 4, "blocks": 1, "stages": [[4, 1], [4, 1], [4, 1]]}
    trainer = tiny_trainer("mduit", generator_options=options, learning_rate=2e-3)
    found = [float(trainer.step_between(*pair(0), BETWEEN)["self"]) for _ in range(30)]
    assert sum(found[-5:]) < 0.9 * sum(found[:5])


def test_a_batch_of_one_has_no_company_of_its_own() -> None:
    source, target = pair(batch=1)
    with pytest.raises(UsageError, match="a batch of one image holds no others"):
        tiny_trainer("mduit").step_between(source, target, BETWEEN[:1])
