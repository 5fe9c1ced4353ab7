"""The trainer of weak pairs, its ablations, and GANimation's."""

import pytest
import torch

from gloam.errors import UsageError
from tests.training.translators.trainers.tiny import pair, tiny_trainer, totals_of, write_narrow_vgg19

THREE = {"domains": ("day", "night", "snow")}
BETWEEN = torch.tensor([[0, 2], [1, 0]])


@pytest.mark.parametrize("real", [None, 5.0])
def test_each_total_is_the_weighted_sum_of_its_losses(tmp_path, real):
    weights = str(write_narrow_vgg19(tmp_path / "vgg19.pth"))
    trainer = tiny_trainer(
        "weakly_paired", perceptual_weight=10.0, perceptual_weights=weights, discriminator_class_weight=real, **THREE
    )
    totals = totals_of(trainer)
    losses = trainer.step_between(*pair(), BETWEEN)
    of_generator = {
        "joint": 1, "marginal": 1, "class": 1, "features": 10, "perception": 10, "attention": 0.1, "smooth": 1
    }  # fmt: skip
    assert set(losses) == {*of_generator, "mask_mean", *(f"discriminator_{n}" for n in ("joint", "marginal", "class"))}
    expected = sum(weight * float(losses[name]) for name, weight in of_generator.items())
    assert float(totals["generator"]) == pytest.approx(expected, rel=1e-5)
    of_judge = sum(float(losses[f"discriminator_{name}"]) for name in ("joint", "marginal"))
    of_judge += (real or 1) * float(losses["discriminator_class"])
    assert float(totals["discriminator"]) == pytest.approx(of_judge, rel=1e-5)
    assert float(losses["attention"]) == pytest.approx(1 - float(losses["mask_mean"]), abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "absent"),
    [
        ({"generator_options": {"width": 2, "base": (1, 1), "mask": False}}, {"attention", "smooth", "mask_mean"}),
        ({"generator_options": {"width": 2, "base": (1, 1), "alignment": False}}, set()),
        ({"class_weight": 0.0}, {"class", "discriminator_class"}),
        ({"discriminator_options": {"width": 4, "stack": True}}, set()),
        ({"discriminator_options": {"width": 4, "marginal": False}}, {"marginal", "class"}),
        ({"discriminator_options": {"width": 4, "norm": "layer"}}, set()),
        ({"discriminator_options": {"width": 4, "norm": "none"}, "spectral": True}, set()),
        ({"spectral": True}, set()),
    ],
)
def test_every_ablation_takes_a_step_without_what_it_lacks(changes, absent):
    losses = tiny_trainer("weakly_paired", **THREE, **changes).step_between(*pair(), BETWEEN)
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert not absent & set(losses)
    assert {"joint", "features"} <= set(losses)


@pytest.mark.parametrize("seed", range(4))
def test_the_training_begins_with_as_much_of_the_image_as_it_is_told(seed):
    images, _ = pair()
    for share in (0.5, 0.9):
        generator = tiny_trainer("weakly_paired", seed=seed, initial_mask=share, init_gain=1.0, **THREE).generator
        colours, mask = generator.parts(images)
        torch.testing.assert_close(mask, torch.full_like(mask, share))
        torch.testing.assert_close(generator(images), share * images + (1 - share) * colours)


def test_an_initial_mask_that_cannot_learn_is_refused():
    for wrong in (0.0, 1.0, float("nan")):
        with pytest.raises(UsageError, match="initial_mask"):
            tiny_trainer("weakly_paired", initial_mask=wrong, **THREE)


def test_a_mask_that_is_at_one_of_its_ends_is_remarked():
    of_pairs, unpaired = tiny_trainer("weakly_paired", **THREE), tiny_trainer("ganimation", **THREE)
    for trainer, name, whole in ((of_pairs, "mask_mean", 1.0), (unpaired, "attention", 2.0)):
        for share, said in ((0.9995, "are the images themselves"), (0.0005, "keep nothing of the images")):
            (line,) = trainer.remarks({name: whole * share})
            assert line.startswith(f"the attention mask is {share}: translations {said}")
        assert not trainer.remarks({name: whole * 0.5})
        assert not trainer.remarks({})


def test_what_a_spectral_run_saves_is_folded():
    trainer = tiny_trainer("weakly_paired", spectral=True, average_decay=0.5, **THREE)
    for step in range(2):
        trainer.step_between(*pair(step), BETWEEN)
        trainer.follow()
    saved = trainer.products()["translator"]
    assert not [key for key in saved.state_dict() if "parametrizations" in key]
    with torch.no_grad():
        code = saved.label(BETWEEN[:, 1], pair()[0])
        shown = trainer.samples(*pair(), BETWEEN)["fake"]
        torch.testing.assert_close(saved(pair()[0], code), shown)


def test_translations_go_to_the_targets_domain():
    trainer = tiny_trainer("weakly_paired", **THREE)
    first, second = (trainer.samples(*pair(), domains)["fake"] for domains in (BETWEEN, BETWEEN.flip(1)))
    assert not torch.equal(first, second)
    assert {"mask", "colours", "target"} <= set(trainer.samples(*pair(), BETWEEN))


def test_ganimation_updates_its_generator_every_nth_step():
    trainer = tiny_trainer("ganimation", judge_steps=3, **THREE)
    totals = totals_of(trainer)
    seen = [set(trainer.step_between(*pair(step), BETWEEN)) for step in range(3)]
    assert ["cycle" in names for names in seen] == [False, False, True]
    losses = trainer.step_between(*pair(3), BETWEEN)
    assert "adversarial" not in losses
    assert float(totals["discriminator"]) == pytest.approx(10 * float(losses["penalty"]), rel=1e-5)
    trainer.load_state_dict(trainer.state_dict())
    trainer.step_between(*pair(4), BETWEEN)
    losses = trainer.step_between(*pair(5), BETWEEN)
    expected = (
        float(losses["adversarial"])
        + 4000 * float(losses["label"])
        + 10 * float(losses["cycle"])
        + 0.1 * float(losses["attention"])
        + 1e-5 * float(losses["smooth"])
    )
    assert float(totals["generator"]) == pytest.approx(expected, rel=1e-4)


def test_what_cannot_be_trained_is_one_line():
    with pytest.raises(UsageError, match="perceptual_weights is not set"):
        tiny_trainer("weakly_paired", perceptual_weight=1.0)
    with pytest.raises(UsageError, match="the data do not say which of the domains day, night, snow"):
        tiny_trainer("weakly_paired", **THREE).step(*pair())
    with pytest.raises(UsageError, match="takes no label"):
        tiny_trainer("weakly_paired", generator="resnet", generator_options={"width": 4})
    with pytest.raises(UsageError, match="takes a day and a night image"):
        tiny_trainer("cyclegan").step_between(*pair(), BETWEEN)
