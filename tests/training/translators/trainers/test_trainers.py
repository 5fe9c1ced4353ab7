"""What every trainer promises, over the list of trainers."""

import copy
import io

import pytest
import torch

from gloam.errors import DivergenceError, ModelError, UsageError
from gloam.networks.edges import EdgeDetectorNetwork
from gloam.networks.embedders import EmbedderNetwork
from gloam.networks.translators import TranslatorNetwork
from gloam.networks.translators.examples import ExampleTranslator
from gloam.training.translators.trainers import TRAINERS
from tests.training.translators.trainers.tiny import (
    SIDE,
    HalfEngine,
    pair,
    tiny_options,
    tiny_trainer,
    watched,
    weights,
)

ORDERS = {
    "pix2pix": ["discriminator", "generator"],
    "cyclegan": ["generators", "discriminators"],
    "cut": ["discriminator", "generator"],
    "cyeda": ["generators", "discriminators"],
    "hedgan": ["discriminator", "student", "generator"],
    "weakly_paired": ["generator", "discriminator"],
    "ganimation": ["discriminator", "discriminator", "generator"],
    "mduit": ["generator", "discriminator"],
    "mduit_content": ["embedder"],
    "adain": ["generator"],
}
OF_DOMAINS = ("weakly_paired", "ganimation", "mduit", "mduit_content", "adain")
every_trainer = pytest.mark.parametrize("name", TRAINERS)


@every_trainer
def test_a_step_moves_all_that_learns_and_nothing_else(name):
    trainer = tiny_trainer(name)
    before = weights(trainer)
    losses = trainer.step(*pair())
    assert all(loss.shape == () and not loss.requires_grad and torch.isfinite(loss) for loss in losses.values())
    learning = {id(p) for optimizer in trainer.optimizers.values() for g in optimizer.param_groups for p in g["params"]}
    for key, parameter in trainer.networks.named_parameters():
        if name == "weakly_paired" and key.endswith("_score.bias"):
            continue  # within the bounds of a hinge real and fake images pull a score's bias alike
        assert torch.equal(before[key], parameter) == (id(parameter) not in learning), key


@every_trainer
def test_each_backward_touches_the_parameters_of_its_optimizer_alone(name):
    trainer, engine = watched(name)
    names = {id(p): key for key, p in trainer.networks.named_parameters()}
    trainer.step(*pair())
    trainer.step(*pair(1))
    assert engine.order == 2 * ORDERS[name]
    for optimizer, touched in engine.touched.items():
        own = {names[id(p)] for group in trainer.optimizers[optimizer].param_groups for p in group["params"]}
        # a gradient may happen to be exactly 0 (a bias in front of a norm); none may lie outside
        assert touched <= own, touched - own
        # the last backward of GANimation's discriminator is of its penalty, which knows no biases and no label
        assert len(touched) > (0.4 if name == "ganimation" else 0.6) * len(own)


@every_trainer
def test_a_step_in_float64_is_float64_throughout(name):
    """No loss passes through float32: the gradient agrees with differences of losses far below float32's rounding."""
    trainer = tiny_trainer(name)
    trainer.networks.double()
    trainer.step(*(images.double() for images in pair(1)))  # a mask is a half everywhere before it
    seen, backward = [], trainer.engine.backward
    trainer.engine.backward = lambda what, loss: (seen.append(rounds_to_float32(loss)), backward(what, loss))
    losses = trainer.step(*(images.double() for images in pair()))
    assert {loss.dtype for loss in losses.values()} == {torch.float64}
    assert not any(rounds_to_float32(loss) for loss in losses.values() if loss != 0)
    assert len(seen) == len(ORDERS[name])
    assert not any(seen)


def rounds_to_float32(loss):
    return float(loss.detach().float()) == float(loss.detach())


@every_trainer
def test_carries_on_bit_for_bit_from_a_saved_state(name):
    straight = tiny_trainer(name)
    for step in range(5):
        if step == 3:
            file = io.BytesIO()
            torch.save(straight.state_dict(), file)
        straight.step(*pair(step))
    file.seek(0)
    resumed = tiny_trainer(name, seed=7)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for step in (3, 4):
        losses = resumed.step(*pair(step))
    assert all(torch.isfinite(loss) for loss in losses.values())
    for key, value in straight.networks.state_dict().items():
        assert torch.equal(value, resumed.networks.state_dict()[key]), key


@every_trainer
def test_the_seed_alone_decides(name):
    torch.manual_seed(1)
    first = tiny_trainer(name, seed=3)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second, other = tiny_trainer(name, seed=3), tiny_trainer(name, seed=4)
    assert torch.equal(state, torch.get_rng_state())
    for trainer in (first, second, other):
        trainer.step(*pair())
    key = next(key for key, _ in first.networks.named_parameters())
    assert all(torch.equal(a, b) for a, b in zip(weights(first).values(), weights(second).values(), strict=True))
    assert not torch.equal(weights(first)[key], weights(other)[key])


@every_trainer
def test_samples_are_pictures_and_change_nothing(name):
    trainer = tiny_trainer(name)
    trainer.step(*pair())
    before = weights(trainer)
    modes = [module.training for module in trainer.networks.modules()]
    pictures = trainer.samples(*pair(1))
    assert {"source", "fake"} <= set(pictures)
    for picture in pictures.values():
        assert picture.shape == (2, 3, SIDE, SIDE)
        assert picture.dtype == torch.float32
        assert not picture.requires_grad
        assert picture.abs().max() <= 1
    assert modes == [module.training for module in trainer.networks.modules()]
    assert all(torch.equal(before[key], value) for key, value in weights(trainer).items())


@every_trainer
def test_products_can_be_saved(name):
    products = tiny_trainer(name).products()
    if name.startswith("mduit"):
        assert isinstance(products.pop("embedder"), EmbedderNetwork)
    if name != "mduit_content":
        assert isinstance(products.pop("translator" if name in OF_DOMAINS else "day2night"), TranslatorNetwork)
    assert all(isinstance(product, TranslatorNetwork | EdgeDetectorNetwork) for product in products.values())


@every_trainer
def test_averages_over_steps_are_shown_and_kept_and_teach_nothing(name):
    trainer, plain = tiny_trainer(name, average_decay=0.75), tiny_trainer(name)
    wanted = {}
    for step in range(3):
        for one in (trainer, plain):
            one.step(*pair(step))
            one.follow()
        for product, network in plain.products().items():
            for key, value in network.named_parameters():
                share = 0.75 ** (2 - step) / (1 + 0.75 + 0.75**2)
                old = wanted.get((product, key), torch.zeros_like(value))
                wanted[product, key] = (old + share * value).detach()
    assert all(torch.equal(a, b) for a, b in zip(weights(trainer).values(), weights(plain).values(), strict=True))
    found = {(product, k): v for product, n in trainer.products().items() for k, v in n.named_parameters()}
    assert found.keys() == wanted.keys()
    for key, value in found.items():
        torch.testing.assert_close(value, wanted[key])
    if name == "mduit_content":
        return  # shows no picture of a network's
    shown = trainer.samples(*pair(3))["fake"]
    assert not torch.equal(shown, plain.samples(*pair(3))["fake"])
    assert all(torch.equal(a, b) for a, b in zip(weights(trainer).values(), weights(plain).values(), strict=True))
    with torch.no_grad():
        network = next(iter(trainer.products().values())).eval()
        example = [network.worn(pair(3)[1])] if isinstance(network, ExampleTranslator) else []
        kept = network(pair(3)[0], *example)
    torch.testing.assert_close(shown, kept)


@every_trainer
def test_progress_sets_every_rate_from_its_full_one(name):
    trainer = tiny_trainer(name)
    full = [[group["lr"] for group in o.param_groups] for o in trainer.optimizers.values()]
    for epoch, factor in ((0, 1.0), (2, 2 / 3), (3, 1 / 3), (1, 1.0)):
        trainer.set_progress(epoch)
        found = [[group["lr"] for group in o.param_groups] for o in trainer.optimizers.values()]
        assert found == [[pytest.approx(factor * rate) for rate in rates] for rates in full]


@every_trainer
def test_a_loss_that_is_not_finite_stops_before_any_gradient(name):
    trainer, engine = watched(name)
    before = copy.deepcopy(list(trainer.networks.parameters()))
    day, night = pair()
    day[0, 0, 0, 0] = float("nan")
    with pytest.raises(DivergenceError, match="loss is nan; try a lower learning_rate"):
        trainer.step(day, night)
    assert engine.order == []
    for old, new in zip(before, trainer.networks.parameters(), strict=True):
        assert torch.equal(old, new)
        assert new.grad is None


@every_trainer
def test_a_step_in_bfloat16_teaches_the_same_weights_and_keeps_them_in_float32(name):
    trainer, plain = tiny_trainer(name, HalfEngine()), tiny_trainer(name)
    before, expected = weights(trainer), plain.step(*pair())
    found = trainer.step(*pair())
    assert set(found) == set(expected)
    for key, loss in found.items():
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(expected[key].item(), rel=0.2, abs=0.1)
    for key, parameter in plain.networks.named_parameters():
        moved = dict(trainer.networks.named_parameters())[key]
        assert moved.dtype == torch.float32
        if name in OF_DOMAINS and key.endswith(".bias"):
            continue  # in front of a norm its gradient is rounding noise
        assert torch.equal(moved, before[key]) == torch.equal(parameter, before[key]), key
    trainer.step(*pair(1))


@pytest.mark.parametrize("name", ["pix2pix", "cyclegan", "cut", "cyeda"])
def test_one_channel_images(name):
    trainer = tiny_trainer(name, channels=1)
    day, night = pair(channels=1)
    trainer.step(day, night)
    assert trainer.samples(day, night)["fake"].shape == day.shape


@pytest.mark.parametrize("name", ["cyclegan", "cut"])
def test_the_mean_of_two_halves_gradients_is_that_of_the_whole_batch(name):
    """With instance norm and no pool; positions and flips come from the trainer, so they are equal too.

    In float64, because in float32 the biases in front of a norm have rounding noise for a gradient.
    """
    changes = {"pool_size": 0} if name == "cyclegan" else {}
    day, night = (images.double() for images in pair(batch=4))
    gradients = []
    for part in (slice(0, 4), slice(0, 2), slice(2, 4)):
        trainer = tiny_trainer(name, **changes)
        trainer.networks.double()
        for optimizer in trainer.optimizers.values():
            optimizer.step = lambda: None  # all gradients are of the first weights
        trainer.step(day[part], night[part])
        gradients.append({key: p.grad for key, p in trainer.networks.named_parameters()})
    whole, first, second = gradients
    for key, gradient in whole.items():
        torch.testing.assert_close((first[key] + second[key]) / 2, gradient, rtol=1e-9, atol=1e-12)


@every_trainer
def test_bad_options_are_refused_by_name(name):
    for change, message in (
        ({"epochs": 0}, "epochs 0"),
        ({"decay_epochs": 5}, "decay_epochs 5"),
        ({"learning_rate": 0.0}, "learning_rate 0"),
        ({"beta1": 1.0}, "beta1 1"),
        ({"average_decay": 1.0}, "average_decay 1"),
        ({"channels": 2}, "channels 2"),
        ({"init": "zeros"}, "init 'zeros': choose one of normal"),
        ({"gan_loss": "wgan"}, "gan_loss 'wgan': choose one of least_squares"),
        ({"adversarial_weight": -1.0}, "adversarial_weight -1"),
    ):
        with pytest.raises(UsageError, match=message):
            tiny_options(name, **change)


def test_unknown_networks_are_refused_with_the_nearest():
    with pytest.raises(ModelError, match="did you mean resnet"):
        tiny_trainer("cyclegan", generator="resnets")


def test_twin_seeds_make_twins():
    for twins in (False, True):
        networks = tiny_trainer("cyclegan", twin_seeds=twins).networks
        for first, second in (("day2night", "night2day"), ("night_judge", "day_judge")):
            same = torch.equal(next(networks[first].parameters()), next(networks[second].parameters()))
            assert same == twins
