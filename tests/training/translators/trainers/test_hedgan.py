import pytest
import torch

from benchmarks.hedn_step import ReferenceStep
from gloam.errors import ModelError, UsageError
from gloam.networks.checkpoints import save_checkpoint
from gloam.networks.edges import create_detector
from gloam.networks.translators import create_discriminator, create_generator
from gloam.training.translators.trainers.hedgan import HedGANOptions, HedGANTrainer
from tests.training.translators.trainers.tiny import (
    counting,
    pair,
    tiny_detector,
    tiny_options,
    tiny_trainer,
    watched,
    weights,
)


@pytest.mark.parametrize("detector", ["hed", "rcf"])
def test_a_student_step_runs_one_generator_three_discriminators_four_detectors(detector):
    trainer = tiny_trainer("hedgan", detector=detector)
    with counting(trainer.generator, trainer.discriminator, trainer.teacher, trainer.finder) as counts:
        trainer.step(*pair())
    assert counts == [1, 3, 1, 3]


def test_a_step_without_student_runs_two_detectors():
    trainer = tiny_trainer("hedgan", student=False)
    with counting(trainer.generator, trainer.discriminator, trainer.teacher) as counts:
        trainer.step(*pair())
    assert counts == [1, 3, 2]
    assert trainer.finder is trainer.teacher
    assert set(trainer.optimizers) == {"generator", "discriminator"}


@pytest.mark.parametrize("student", [True, False])
def test_no_needless_gradients(student):
    trainer, engine = watched("hedgan", student=student)
    needs = []
    hook = trainer.teacher.register_forward_hook(lambda _, __, output: needs.append(output.requires_grad))
    for step in range(2):
        trainer.step(*pair(step))
    hook.remove()
    # the teacher's view of the day has no graph; without a student its view of the fake has one, for the fake alone
    assert needs == ([False, False] if student else [False, True, False, True])
    assert all(p.grad is None and not p.requires_grad for p in trainer.teacher.parameters())
    for optimizer, touched in engine.touched.items():
        assert {key.split(".")[0] for key in touched} == {optimizer}


def test_weights_equal_those_of_the_references_order_of_operations():
    """Two of its ten forwards and a third of its backward work are left out, and no weight differs."""
    trainer = tiny_trainer("hedgan", inverted_labels=True)
    reference = ReferenceStep(trainer)
    detectors = (reference.teacher, reference.student)
    with counting(reference.generator, reference.discriminator, *detectors) as counts:
        for step in range(3):
            reference(*pair(step))
            trainer.step(*pair(step))
    assert counts == [3, 9, 6, 12]  # of three steps: 1, 3 and 6 a step
    for name, network in reference.networks().items():
        for key, value in network.state_dict().items():
            torch.testing.assert_close(trainer.networks[name].state_dict()[key], value, rtol=0, atol=1e-7, msg=key)


def test_losses_of_the_facts():
    """Student: L1 of logits to the teacher's day, 1 + 1; generator: L1 after the sigmoid with the updated student."""
    trainer = tiny_trainer("hedgan")
    day, night = pair()
    twin = tiny_trainer("hedgan")
    fake = twin.generator(day)
    target = twin.teacher(day, logits=True)
    by_day = (twin.finder(day, logits=True) - target).abs().mean()
    by_night = (twin.finder(fake, logits=True) - target).abs().mean()
    losses = trainer.step(day, night)
    assert losses["student_day"].item() == by_day.item() == 0.0  # both start from the same weights
    torch.testing.assert_close(losses["student_night"], by_night.detach())
    edges = (trainer.finder(fake) - trainer.teacher(day)).abs().mean()  # trainer's student has been updated
    torch.testing.assert_close(losses["edges"], edges.detach())


def test_the_students_rates_are_the_references():
    trainer = tiny_trainer("hedgan", student_learning_rate=1e-6)
    groups = trainer.optimizers["student"].param_groups
    found = sorted((group["lr"], group["weight_decay"]) for group in groups)
    weights_first = [
        (rate * factor, decay) for rate in (1e-9, 1e-8, 1e-6, 1e-4) for factor, decay in ((1, 2e-4), (2, 0))
    ]
    assert found == [(pytest.approx(rate), decay) for rate, decay in weights_first]
    assert all(group["betas"] == (0.9, 0.999) for group in groups)
    (only,) = tiny_trainer("hedgan", detector="rcf", student_learning_rate=1e-6).optimizers["student"].param_groups
    assert (only["lr"], only["weight_decay"]) == (1e-6, 2e-4)


def test_the_student_learns_to_see_the_fake_as_its_teacher_sees_the_day():
    trainer = tiny_trainer("hedgan", student_learning_rate=1e-3, learning_rate=1e-5)
    day, night = pair()
    found = [trainer.step(day, night)["student_night"].item() for _ in range(30)]
    assert found[-1] < 0.9 * found[0]


def test_batch_norm_counts_one_forward_of_the_generator_a_step():
    trainer = tiny_trainer("hedgan")
    trainer.step(*pair())
    trainer.samples(*pair())
    counters = [value for key, value in weights(trainer).items() if key.endswith("num_batches_tracked")]
    assert set(map(int, counters)) == {1, 3}


def test_the_detector_comes_from_a_checkpoint(tmp_path):
    detector = tiny_detector("hed")
    path = tmp_path / "hed.safetensors"
    save_checkpoint(path, detector, {})
    trainer = HedGANTrainer(tiny_options("hedgan", detector_weights=str(path)))
    for network in (trainer.teacher, trainer.finder):
        for key, value in detector.state_dict().items():
            assert torch.equal(network.state_dict()[key], value)
    with pytest.raises(ModelError, match="holds the detector 'hed', but detector is 'rcf'"):
        HedGANTrainer(tiny_options("hedgan", detector_weights=str(path), detector="rcf"))
    with pytest.raises(ModelError, match="no such weights file"):
        HedGANTrainer(tiny_options("hedgan", detector_weights=str(tmp_path / "none.safetensors")))
    with pytest.raises(UsageError, match="detector_weights is not set"):
        HedGANTrainer(tiny_options("hedgan"))


def test_edges_need_colour():
    with pytest.raises(UsageError, match="must be 3"):
        HedGANOptions(channels=1)


def test_trainable_parameters_of_the_full_size():
    """28.87 M of HED^N GAN, 14.15 M of HEDGAN (the paper's table counts the generator twice)."""
    with torch.device("meta"):
        counts = [
            sum(p.numel() for p in network.parameters())
            for network in (
                create_generator("resnet", norm="batch"),
                create_discriminator("patch", norm="batch"),
                create_detector("hed"),
            )
        ]
    assert sum(counts[:2]) / 1e6 == pytest.approx(14.15, abs=0.005)
    assert sum(counts) / 1e6 == pytest.approx(28.87, abs=0.005)
