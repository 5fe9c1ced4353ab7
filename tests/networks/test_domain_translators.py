"""Networks that translate into any of several domains, and the discriminators that judge them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gloam.errors import ModelError
from gloam.networks.translators import DomainTranslator, create_discriminator, create_generator
from gloam.networks.translators.layers import LayerNorm2d
from gloam.networks.translators.spade import ModulatedBlock, ModulatedGenerator
from gloam.networks.translators.spectral import add_spectral_norm, folded

ELEVEN = [f"domain {number}" for number in range(11)]
SMALL: dict[str, Any] = {"domains": ["day", "night", "snow"], "width": 2, "base": [2, 2], "latent": 3}
NARROW = {"codes": 3, "width": 4}


def small(name: str = "weakly_paired", **options: Any) -> Any:
    torch.manual_seed(0)
    return create_generator(name, **{**SMALL, **options}).eval()


def images(batch: int = 2, seed: int = 0, height: int = 64, width: int = 64) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize(
    ("name", "options", "millions", "exact"),
    [
        ("weakly_paired", {}, 105.2, 105_224_964),
        ("weakly_paired", {"base": (8, 8)}, 109.6, 109_615_876),
        ("weakly_paired", {"base": (8, 8), "width": 32}, 38.2, 38_170_628),
        ("spade", {}, 105.4, 105_431_747),
        ("ganimation", {}, 8.5, 8_452_480),
    ],
)
def test_generators_of_eleven_domains_have_the_stated_counts(
    name: str, options: dict[str, Any], millions: float, exact: int
) -> None:
    with torch.device("meta"):
        model = create_generator(name, domains=ELEVEN, **options)
    found = sum(parameter.numel() for parameter in model.parameters())
    assert found == exact
    assert round(found / 1e6, 1) == millions


@pytest.mark.parametrize("name", ["weakly_paired", "spade"])
def test_modulators_may_be_narrower(name: str) -> None:
    whole, narrow = small(name), small(name, hidden=5)
    assert "hidden" not in whole.options  # the papers' networks are who they were
    assert narrow.options["hidden"] == 5
    widths = {part.weight.shape[0] for key, part in narrow.named_modules() if key.endswith("mlp_shared.0")}
    assert widths == {5}
    again = create_generator(name, **narrow.options)
    again.load_state_dict(narrow.state_dict())
    assert torch.equal(again.eval()(images()), narrow(images()))
    with pytest.raises(ModelError, match="hidden 0"):
        small(name, hidden=0)


@pytest.mark.parametrize("name", ["weakly_paired", "spade"])
def test_a_layer_norm_has_each_images_own_statistics(name: str) -> None:
    usual, layer = small(name), small(name, norm="layer")
    assert "norm" not in usual.options
    assert not [key for key in layer.state_dict() if "running" in key]
    again = create_generator(name, **layer.options)
    again.load_state_dict(layer.state_dict())
    code = layer.label(torch.tensor([0, 2]), images())
    both = again.eval()(images(), code)
    assert torch.equal(again.train()(images(), code), both)  # no statistics of a batch
    for row in range(2):
        torch.testing.assert_close(layer(images()[row : row + 1], code[row : row + 1])[0], both[row])
    with pytest.raises(ModelError, match="norm 'instance': choose one of batch, layer"):
        small(name, norm="instance")


@pytest.mark.parametrize("name", ["weakly_paired", "spade"])
def test_with_rims_repeated_a_flat_image_of_any_size_stays_flat(name: str) -> None:
    options = {"base": (1, 1), "norm": "layer"}
    usual, repeated = small(name, **options), small(name, padding="replicate", **options)
    assert "padding" not in usual.options
    again = create_generator(name, **repeated.options).eval()
    again.load_state_dict(usual.state_dict())
    for height, width in ((32, 32), (64, 128)):
        flat = images(height=1, width=1).expand(-1, -1, height, width)
        out = again(flat)
        torch.testing.assert_close(out, out[:, :, :1, :1].expand_as(out), atol=1e-5, rtol=0)
        assert float(usual(flat).detach().std((2, 3)).max()) > 1e-3
    with pytest.raises(ModelError, match="padding 'reflect': choose one of zeros, replicate"):
        small(name, padding="reflect")


@pytest.mark.parametrize("resizing", ["nearest", "area"])
def test_the_modulator_is_resized_as_torch_does(resizing: str) -> None:
    model = small(resizing=resizing)
    assert ("resizing" in model.options) == (resizing == "area")
    seen: dict[int, Tensor] = {}
    for block in (model.head_0, model.G_middle_0, model.up_3):
        block.register_forward_pre_hook(lambda _, given: seen.__setitem__(given[0].shape[2], given[1]))
    model(images())
    whole = torch.cat((images(), torch.zeros(2, 1, 64, 64)), 1)
    for side in (2, 4, 64):
        torch.testing.assert_close(seen[side], F.interpolate(whole, (side, side), mode=resizing))
    with pytest.raises(ModelError, match="resizing 'bilinear': choose one of nearest, area"):
        small(resizing="bilinear")


def test_layer_norm_is_that_of_torch() -> None:
    y = 3 * torch.randn(2, 5, 4, 6, generator=torch.Generator().manual_seed(0)) + 2
    torch.testing.assert_close(LayerNorm2d()(y), F.layer_norm(y, y.shape[1:]))


@pytest.mark.parametrize(
    ("name", "options", "millions", "exact"),
    [
        ("two_stream", {}, 12.12, 12_115_226),
        ("two_stream", {"scales": 1}, 6.06, 6_057_613),
        ("two_stream", {"scales": 1, "stack": True, "marginal": False}, 2.77, 2_766_913),
        ("star", {}, 44.74, 44_743_616),  # 44.81 with a label head of 2x2 for 128 px, which is averaged here
    ],
)
def test_discriminators_of_eleven_domains_have_the_stated_counts(
    name: str, options: dict[str, Any], millions: float, exact: int
) -> None:
    with torch.device("meta"):
        model = create_discriminator(name, codes=11, **options)
    found = sum(parameter.numel() for parameter in model.parameters())
    assert found == exact
    assert round(found / 1e6, 2) == millions
    if name == "star":
        assert round((found + 3 * 2048 * 11) / 1e6, 1) == 44.8


def test_the_linear_layer_of_the_generator_has_the_stated_count() -> None:
    with torch.device("meta"):
        model: Any = create_generator("weakly_paired", domains=ELEVEN)
    assert round(sum(parameter.numel() for parameter in model.fc.parameters()) / 1e6, 1) == 13.2


@pytest.mark.parametrize("name", ["weakly_paired", "ganimation"])
def test_a_mask_of_one_returns_the_input_exactly_and_of_zero_the_colours(name: str) -> None:
    torch.manual_seed(0)
    options = SMALL if name == "weakly_paired" else {"domains": SMALL["domains"], "width": 4, "blocks": 1}
    model: Any = create_generator(name, **options).eval()
    x = images()
    for sign, expected in ((1.0, x), (-1.0, model.parts(x)[0])):
        head = model.head_mask
        with torch.no_grad():
            model.head_mask = nn.Conv2d(head.in_channels, 1, 1)
            nn.init.zeros_(model.head_mask.weight)
            nn.init.constant_(model.head_mask.bias, sign * 1e4)
            assert torch.equal(model(x), expected)


def test_without_a_mask_the_colours_come_out() -> None:
    model = small(mask=False)
    colours, mask = model.parts(images())
    assert mask is None
    assert torch.equal(model(images()), colours)
    assert not hasattr(model, "head_mask")


def test_every_condition_reaches_the_image_and_gets_a_gradient() -> None:
    model = small().train()
    x = images()
    conditions = [
        torch.eye(3)[:2].requires_grad_(),
        torch.randn(2, 3, requires_grad=True),
        torch.randn(2, 1, 64, 64, requires_grad=True),
    ]
    (model(x, *conditions) * torch.randn(x.shape)).sum().backward()
    assert all(bool(value.grad.abs().max() > 0) for value in conditions if value.grad is not None)
    assert all(value.grad is not None for value in conditions)
    model.eval()
    with torch.no_grad():
        base = model(x, *conditions)
        for at in range(3):
            moved = [value + (at == number) for number, value in enumerate(conditions)]
            assert not torch.equal(model(x, *moved), base)


def test_a_block_is_the_papers_formula() -> None:
    torch.manual_seed(0)
    block = ModulatedBlock(4, 2, 3).double().eval()
    y, m = torch.randn(1, 4, 5, 6).double(), torch.randn(1, 3, 5, 6).double()

    def normed(norm: Any, value: Tensor) -> Tensor:
        shared = F.relu(norm.mlp_shared[0](m))
        return value / (1 + 1e-5) ** 0.5 * (1 + norm.mlp_gamma(shared)) + norm.mlp_beta(shared)

    inner = block.conv_0(F.leaky_relu(normed(block.norm_0, y), 0.2))
    inner = block.conv_1(F.leaky_relu(normed(block.norm_1, inner), 0.2))
    assert torch.allclose(block(y, m), block.conv_s(normed(block.norm_s, y)) + inner, atol=1e-12)
    assert block.conv_0.out_channels == 2
    assert not ModulatedBlock(4, 4, 3).learned


def test_the_modulator_is_the_image_with_noise_or_with_the_label() -> None:
    channels = {
        name: model.head_0.norm_0.mlp_shared[0].in_channels
        for name, model in {
            "full": small(),
            "no noise": small(alignment=False),
            "spade": small("spade"),
        }.items()
    }
    assert channels == {"full": 4, "no noise": 3, "spade": 6}
    assert [spec.name for spec in small(alignment=False).conditions] == ["label", "noise"]
    assert [spec.name for spec in small("spade").conditions] == ["label", "noise"]


def test_what_is_left_out_is_at_its_default() -> None:
    model = small(target="snow")
    x = images(height=32, width=96)
    given = [torch.from_numpy(spec.filled(2, 32, 96)) for spec in model.conditions]
    assert torch.equal(model(x), model(x, *given))
    assert torch.equal(given[0], torch.tensor([[0.0, 0, 1], [0, 0, 1]]))
    assert torch.equal(model.label(torch.tensor([1, 2]), x), torch.tensor([[0.0, 1, 0], [0, 0, 1]]))


def test_another_size_resizes_the_base_grid_alone() -> None:
    model = small()
    for height, width in ((32, 32), (64, 64), (96, 160)):
        assert model(images(1, height=height, width=width)).shape == (1, 3, height, width)
    assert isinstance(model, ModulatedGenerator)
    latent = torch.cat((torch.zeros(1, 3), torch.tensor([[0.0, 0, 1]])), 1)
    grid = model.fc(latent).unflatten(1, (-1, 2, 2))
    assert torch.equal(F.interpolate(grid, size=(2, 2), mode="bilinear", align_corners=False), grid)


def test_nearest_resizing_of_the_modulator_is_every_nth_pixel() -> None:
    x = images(1, height=64, width=96)
    for step in (2, 4, 8, 16, 32):
        assert torch.equal(x[:, :, ::step, ::step], F.interpolate(x, size=(64 // step, 96 // step), mode="nearest"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"domains": ["day"]}, "at least two"),
        ({"domains": ["day", "day"]}, "at least two"),
        ({"codes": [[0.0], [1.0]]}, "codes: 2 rows of .* for 3 domains"),
        ({"codes": [[0.0], [1.0], [1.0, 0.0]]}, "all of one length"),
        ({"target": "rain"}, "unknown domain 'rain'; the model knows day, night, snow"),
        ({"base": [2]}, "base"),
    ],
)
def test_impossible_domains_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        small(**options)


def test_attributes_may_stand_for_domains() -> None:
    model = small(codes=[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert isinstance(model, DomainTranslator)
    assert model.conditions[0].shape == ("batch", 2)
    assert model.conditions[0].default == (0.0, 1.0)


def same(first: Any, second: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("norm", ["instance", "layer", "none"])
@pytest.mark.parametrize("stack", [False, True])
def test_marginal_and_class_heads_do_not_see_the_input_stream(stack: bool, norm: str) -> None:
    torch.manual_seed(0)
    judge: Any = create_discriminator("two_stream", **NARROW, stack=stack, norm=norm)
    before = judge(images(), images(seed=1))
    other_input = judge(images(seed=2), images(seed=1))
    other_candidate = judge(images(), images(seed=2))
    assert len(before) == 2
    for first, second, third in zip(before, other_input, other_candidate, strict=True):
        assert torch.equal(first.marginal, second.marginal)
        assert torch.equal(first.label, second.label)
        assert not torch.equal(first.joint, second.joint)
        assert not torch.equal(first.marginal, third.marginal)
        assert not torch.equal(first.label, third.label)
        assert not torch.equal(first.joint, third.joint)
        assert first.label.shape == (2, 3)
        assert len(first.features) == (4 if stack else 2)


def test_the_second_scale_sees_halves() -> None:
    torch.manual_seed(0)
    judge: Any = create_discriminator("two_stream", **NARROW)
    x, y = images(), images(seed=1)
    halves = [F.avg_pool2d(side, 3, 2, 1, count_include_pad=False) for side in (x, y)]
    assert torch.equal(judge(x, y)[1].joint, judge.scales[1](*halves).joint)


def test_a_discriminator_of_an_unknown_norm_is_refused() -> None:
    with pytest.raises(ModelError, match="choose one of instance, layer, none"):
        create_discriminator("two_stream", **NARROW, norm="batch")


def test_a_discriminator_of_pairs_alone_has_no_other_head() -> None:
    judge: Any = create_discriminator("two_stream", codes=0, width=4, stack=True, marginal=False)
    (first, _) = judge(images(), images(seed=1))
    assert first.marginal is None
    assert first.label is None


def test_the_star_discriminator_takes_any_shape() -> None:
    judge: Any = create_discriminator("star", codes=3, width=2)
    score, label = judge(images(height=64, width=128))
    assert score.shape == (2, 1, 1, 2)
    assert label.shape == (2, 3)


def test_a_spectral_norm_is_folded_into_the_weights() -> None:
    model = small()
    plain = [layer.weight.clone() for layer in model.bounded()]
    add_spectral_norm(model.bounded())
    model.train()(images())
    done = folded(model)
    model.eval()
    with torch.no_grad():
        assert torch.equal(done(images()), model(images()))
    assert done.state_dict().keys() == small().state_dict().keys()
    assert len(plain) == 18
    for layer, was in zip(done.bounded(), plain, strict=True):
        largest = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        assert float(largest.detach()) == pytest.approx(1.0, abs=0.1)
        assert torch.allclose(layer.weight / layer.weight.norm(), was / was.norm(), atol=1e-5)
    judge: Any = create_discriminator("two_stream", **NARROW)
    assert len(judge.bounded()) == 2 * (2 + 2 + 2)
