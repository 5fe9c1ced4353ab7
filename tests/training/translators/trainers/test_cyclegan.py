import itertools

import pytest
import torch
from torch.nn import functional as F

from gloam.errors import UsageError
from gloam.training.translators.losses import GanLoss
from tests.training.translators.trainers.tiny import counting, pair, tiny_options, tiny_trainer, totals_of


def plain_step(networks, optimizers, day, night, inverted):
    """As the facts say it, four optimisers, each direction's loss on its own: the slow twin (no pool)."""
    gan = GanLoss("least_squares", inverted)
    to_night, to_day, night_judge, day_judge = (
        networks[name] for name in ("day2night", "night2day", "night_judge", "day_judge")
    )
    fake_night, fake_day = to_night(day), to_day(night)
    there = gan.generator(night_judge(fake_night)) + 10 * F.l1_loss(to_day(fake_night), day)
    back = gan.generator(day_judge(fake_day)) + 10 * F.l1_loss(to_night(fake_day), night)
    there = there + 5 * F.l1_loss(to_night(night), night)
    back = back + 5 * F.l1_loss(to_day(day), day)
    for name in ("day2night", "night2day"):
        optimizers[name].zero_grad()
    there.backward()
    back.backward()
    for name in ("day2night", "night2day"):
        optimizers[name].step()
    for name, real, fake in (("night_judge", night, fake_night), ("day_judge", day, fake_day)):
        optimizers[name].zero_grad()
        gan.discriminator(networks[name](real), networks[name](fake.detach())).backward()
        optimizers[name].step()


@pytest.mark.parametrize("inverted", [False, True])
def test_weights_equal_those_of_a_plain_loop(inverted):
    trainer, plain = (tiny_trainer("cyclegan", pool_size=0, inverted_labels=inverted) for _ in range(2))
    trainer.networks.double()
    plain.networks.double()
    optimizers = {
        name: torch.optim.Adam(network.parameters(), 2e-4, (0.5, 0.999)) for name, network in plain.networks.items()
    }
    for step in range(3):
        day, night = (images.double() for images in pair(step))
        trainer.step(day, night)
        plain_step(plain.networks, optimizers, day, night, inverted)
    for key, value in plain.networks.state_dict().items():
        # biases in front of instance norm have no gradient but rounding, which Adam blows up
        if not key.endswith("bias"):
            torch.testing.assert_close(trainer.networks.state_dict()[key], value, rtol=1e-5, atol=1e-6, msg=key)


@pytest.mark.parametrize(
    ("changes", "generators", "losses"),
    [
        ({}, 3, {"cycle_day", "cycle_night", "identity_day", "identity_night"}),
        ({"identity_weight": 0.0}, 2, {"cycle_day", "cycle_night"}),
        ({"cycle_weight": 0.0}, 2, {"identity_day", "identity_night"}),
        ({"cycle_weight": 0.0, "identity_weight": 0.0}, 1, set()),
    ],
)
def test_a_loss_of_weight_zero_costs_no_forward(changes, generators, losses):
    trainer = tiny_trainer("cyclegan", **changes)
    networks = trainer.networks
    names = ("day2night", "night2day", "night_judge", "day_judge")
    with counting(*(networks[name] for name in names)) as counts:
        found = trainer.step(*pair())
    assert counts == [generators, generators, 3, 3]
    sides = {f"{loss}_{side}" for loss, side in itertools.product(("adversarial", "discriminator"), ("day", "night"))}
    assert set(found) == sides | losses


def test_the_thesis_divides_all_weights_by_their_sum():
    trainer = tiny_trainer("cyclegan", normalise_weights=True, identity_weight=0.0)
    assert trainer.weights == {"adversarial": pytest.approx(1 / 11), "cycle": pytest.approx(10 / 11), "identity": 0}
    totals = totals_of(trainer)
    losses = trainer.step(*pair())
    adversarial, cycle = (losses[f"{name}_day"] + losses[f"{name}_night"] for name in ("adversarial", "cycle"))
    torch.testing.assert_close(totals["generators"], (adversarial + 10 * cycle) / 11)
    assert tiny_trainer("cyclegan").weights == {"adversarial": 1, "cycle": 10, "identity": 5}


def test_the_pool_feeds_the_discriminators_older_fakes():
    trainer = tiny_trainer("cyclegan", pool_size=1)
    seen = {"night_judge": [], "day_judge": []}
    for name, images in seen.items():
        trainer.networks[name].register_forward_hook(lambda _, given, __, images=images: images.append(given[0]))
    for step in range(12):
        trainer.step(*pair(step, batch=1))
    for images in seen.values():
        # a step judges the fake (for the generator), the real image, and what the pool gives
        fresh, given = images[0::3], images[2::3]
        older = [not torch.equal(now, back) for now, back in zip(fresh, given, strict=True)]
        assert not older[0]
        assert 0 < sum(older) < 12
        assert not any(back.requires_grad for back in given)


def test_cycle_loss_falls_on_a_few_images():
    trainer = tiny_trainer("cyclegan", learning_rate=2e-3)
    day, night = pair(batch=4)
    day, night = (F.interpolate(images[..., ::8, ::8], scale_factor=8.0, mode="bilinear") for images in (day, night))
    found = []
    for _ in range(30):
        losses = trainer.step(day, night)
        found.append((losses["cycle_day"] + losses["cycle_night"]).item())
    assert found[-1] < 0.7 * found[0]


def test_a_negative_pool_is_refused():
    with pytest.raises(UsageError, match="pool_size -1"):
        tiny_options("cyclegan", pool_size=-1)
