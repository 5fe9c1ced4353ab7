import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gloam.errors import UsageError
from gloam.networks.translators import create_generator
from gloam.training.translators.config import read_translator_recipe
from gloam.training.translators.trainers.cut import CUTOptions, patch_nce
from tests.training.translators.trainers.tiny import (
    counting,
    pair,
    tiny_options,
    tiny_trainer,
    totals_of,
    watched,
)


def unit(rows, width, seed):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, width, generator=generator), dim=1)


@pytest.mark.parametrize("groups", [1, 2])
def test_nce_equals_the_papers_form(groups):
    """One positive beside all others with the diagonal at -10, over 0.07; patch by patch."""
    queries, keys = unit(12, 8, 0), unit(12, 8, 1)
    count, total = 12 // groups, 0.0
    for row in range(12):
        group = range(row // count * count, row // count * count + count)
        negatives = [-10.0 if other == row else float(queries[row] @ keys[other]) for other in group]
        logits = torch.tensor([float(queries[row] @ keys[row]), *negatives], dtype=torch.float64) / 0.07
        total += float(torch.logsumexp(logits, 0) - logits[0]) / 12
    assert patch_nce(queries, keys, groups, 0.07).item() == pytest.approx(total, rel=1e-5)


def test_nce_of_equal_features_is_the_logarithm_of_their_number():
    rows = unit(1, 8, 0).expand(20, 8)
    assert patch_nce(rows, rows, 1, 0.07).item() == pytest.approx(math.log(20), rel=1e-5)
    assert patch_nce(rows, rows, 2, 0.07).item() == pytest.approx(math.log(10), rel=1e-5)


@pytest.mark.parametrize(("changes", "sampled"), [({"flip_equivariance": False}, 4), ({"identity_nce_weight": 0.0}, 2)])
def test_forwards_of_a_step(changes, sampled):
    trainer = tiny_trainer("cut", **changes)
    with counting(trainer.discriminator, trainer.sampler, trainer.generator.model[1]) as counts:
        trainer.step(*pair())
    flipped = changes.get("flip_equivariance") is not False and counts[2] == 3
    # the source's features come with its translation, so the encoder runs twice, not five times as in the reference
    assert counts == [3, sampled, 3 if flipped else 2]


def test_keys_of_the_translating_forward_are_those_of_an_own_encoding():
    trainer = tiny_trainer("cut")
    day, night = pair()
    source = torch.cat((day, night))
    layers = trainer.options.layers
    *taps, made = trainer.generator.features(source, layers)
    for tap, own in zip(taps, trainer.generator.features(source, layers, encode_only=True), strict=True):
        assert torch.equal(tap, own)
    assert torch.equal(made[:2], trainer.generator(day))


def test_no_gradient_through_the_keys():
    trainer = tiny_trainer("cut", flip_equivariance=False)
    keys = [torch.randn(2, c, 4, 4, requires_grad=True) for c in trainer.generator.feature_channels((0, 4, 8, 12))]
    queries = [key.detach().clone().requires_grad_() for key in keys]
    trainer._nce(queries, keys, slice(0, 2), None).backward()
    assert all(key.grad is None for key in keys)
    assert all(query.grad is not None for query in queries)


def test_total_of_cut_of_paper_2_and_of_fastcut():
    for changes, expected in (
        ({}, lambda found: found["adversarial"] + 0.5 * (found["nce"] + found["nce_identity"])),
        (
            {"identity_nce_weight": 10.0},
            lambda found: found["adversarial"] + 0.5 * (found["nce"] + 10 * found["nce_identity"]),
        ),
        ({"identity_nce_weight": 0.0, "nce_weight": 10.0}, lambda found: found["adversarial"] + 10 * found["nce"]),
    ):
        trainer = tiny_trainer("cut", **changes)
        totals = totals_of(trainer)
        found = trainer.step(*pair())
        torch.testing.assert_close(totals["generator"], expected(found))


def test_flipping_a_symmetric_image_changes_nothing():
    """The flipped path compares flipped-back features of the flipped fake with those of the image itself."""
    plain = tiny_trainer("cut", flip_equivariance=False, discriminator_options={"width": 4, "layers": 1})
    day, night = (torch.cat((half, half.flip(3)), 3) for half in (image[..., :16] for image in pair()))
    expected = plain.step(day, night)
    for seed in range(20):
        trainer = tiny_trainer("cut", discriminator_options={"width": 4, "layers": 1})
        trainer.generators["flip"].manual_seed(seed)
        with counting(trainer.generator.model[1]) as counts:
            found = trainer.step(day, night)
        if counts == [3]:
            break
    assert counts == [3]  # this seed flips
    # not even the untrained network is symmetric, but features of x and of its mirror image are the same set
    torch.testing.assert_close(found["adversarial"], expected["adversarial"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["nce"], expected["nce"], rtol=0.05, atol=0.05)


def test_half_of_the_steps_are_flipped():
    trainer = tiny_trainer("cut", patches=2)
    flips = 0
    for step in range(20):
        with counting(trainer.generator.model[1]) as counts:
            trainer.step(*pair(step, batch=1))
        flips += counts == [3]
    assert 4 < flips < 16


def test_nce_falls_on_a_few_images():
    trainer = tiny_trainer("cut", learning_rate=2e-3, flip_equivariance=False)
    day, night = pair(batch=4)
    found = [trainer.step(day, night)["nce"].item() for _ in range(30)]
    assert found[-1] < 0.8 * found[0]


def test_bad_options_are_refused():
    for change, message in (
        ({"generator": "cyeda"}, "features of 'resnet'"),
        ({"layers": ()}, "layers"),
        ({"layers": (4, 0)}, "rising"),
        ({"patches": 1}, "patches 1"),
        ({"temperature": 0.0}, "temperature 0"),
    ):
        with pytest.raises(UsageError, match=message):
            CUTOptions(**change)
    with pytest.raises(UsageError, match="layers 0 to 24"):
        tiny_trainer("cut", layers=(0, 99))
    assert tiny_options("cut").identity_nce_weight == 1


def test_positions_may_be_given_in_place_of_drawn_ones():
    drawing, given, moved = (tiny_trainer("cut", flip_equivariance=False) for _ in range(3))
    state = drawing.generators["positions"].get_state()
    maps = drawing.generator.features(pair()[0], drawing.options.layers, encode_only=True)
    cells = [tap.shape[2] * tap.shape[3] for tap in maps]
    drawn = [[torch.randperm(count, generator=drawing.generators["positions"])[:16] for count in cells] for _ in "xy"]
    drawing.generators["positions"].set_state(state)
    expected, found = drawing.step(*pair()), given.step(*pair(), drawn)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    other = moved.step(*pair(), [[torch.arange(16) for _ in cells] for _ in "xy"])
    assert not torch.equal(other["nce"], expected["nce"])


def test_the_published_recipes_second_tap_is_rectified():
    """In the authors' code the layer behind tap 8 works in place, so that the tap that it kept is changed."""
    recipe = read_translator_recipe("cut").options
    generator = create_generator("resnet", width=4).double()
    x = pair(channels=3)[0].double()
    kept, y = [], x
    for index, layer in enumerate(generator.model):
        y = y.relu_() if isinstance(layer, nn.ReLU) else layer(y)
        if index in (4, 8, 12, 16):
            kept.append(y)
    found = generator.features(x, recipe.layers, encode_only=True)
    for tap, wanted in zip(found, kept, strict=True):
        torch.testing.assert_close(tap, wanted, rtol=0, atol=0)
    assert (found[1] >= 0).all()
    assert not (generator.features(x, (8,), encode_only=True)[0] >= 0).all()


PLAIN = {
    "generator_options": {"width": 4, "blocks": 3, "norm": "instance"},
    "discriminator_options": {"width": 4, "layers": 1, "norm": "instance"},
    "layers": (4, 9, 11),
    "batch_negatives": True,
    "inverted_labels": True,
    "flip_equivariance": False,
}


@pytest.mark.parametrize("term", ["adversarial", "nce", "nce_identity"])
def test_a_step_by_hand_gives_the_gradient_of_each_term(term):
    """In float64, from the published recipe: taps of a generator that works in place, maps transposed before they are
    gathered, a mask on the diagonal; batch of one."""
    shares = {"adversarial": (1.0, 0.0, 1e-30), "nce": (0.0, 2.0, 1e-30), "nce_identity": (0.0, 0.0, 2.0)}[term]
    trainer, engine = watched("cut", **PLAIN, **dict(zip(
        ("adversarial_weight", "nce_weight", "identity_nce_weight"), shares, strict=True)))  # fmt: skip
    trainer.networks.double()
    day, night = (images.double() for images in pair(batch=1))
    generator, judge, sampler = (copy.deepcopy(trainer.networks[n]) for n in ("generator", "discriminator", "sampler"))
    for part in (*generator.modules(), *judge.modules()):
        if isinstance(part, nn.ReLU | nn.LeakyReLU):
            part.inplace = True
    positions = [[torch.randperm(cells)[:12] for cells in (256, 64, 64)] for _ in range(2)]

    made = generator.model(torch.cat((day, night)))
    real, fake = judge(night), judge(made[:1].detach())
    (0.5 * (real.pow(2).mean() + (fake - 1).pow(2).mean())).backward()
    torch.optim.Adam(judge.parameters(), 2e-4, (0.5, 0.999)).step()

    def projected(images, places):
        rows, y = [], images
        for index, layer in enumerate(generator.model):
            y = layer(y)
            if index in (4, 8, 11):
                rows.append(y)
        rows = [
            tap.permute(0, 2, 3, 1).flatten(1, 2)[:, place].flatten(0, 1)
            for tap, place in zip(rows, places, strict=True)
        ]
        rows = [sampler.get_submodule(f"mlp_{at}")(row) for at, row in enumerate(rows)]
        return [row / (row.pow(2).sum(1, keepdim=True).sqrt() + 1e-7) for row in rows]

    def patch_loss(source, target, places):
        losses = []
        for query, key in zip(projected(target, places), projected(source, places), strict=True):
            right = (query * key.detach()).sum(1, keepdim=True)
            wrong = (query @ key.detach().T).masked_fill(torch.eye(12, dtype=torch.bool), -10.0)
            losses.append(F.cross_entropy(torch.cat((right, wrong), 1) / 0.07, torch.zeros(12, dtype=torch.int64)))
        return sum(losses) / len(losses)

    terms = {
        "adversarial": lambda: judge(made[:1]).pow(2).mean(),
        "nce": lambda: patch_loss(day, made[:1], positions[0]),
        "nce_identity": lambda: patch_loss(night, made[1:], positions[1]),
    }
    expected = torch.autograd.grad(terms[term](), list(generator.parameters()), allow_unused=True)
    found = {}
    backward = engine.backward
    engine.backward = lambda name, loss: (backward(name, loss), found.update(
        {name: [None if p.grad is None else p.grad.clone() for p in trainer.generator.parameters()]}))  # fmt: skip
    losses = trainer.step(day, night, positions)
    assert losses[term].item() == pytest.approx(terms[term]().item(), rel=1e-3)
    for one, other in zip(found["generator"], expected, strict=True):
        if other is not None:
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)
