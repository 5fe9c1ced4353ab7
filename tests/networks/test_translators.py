"""Generators, discriminators and the patch sampler: golden counts, sizes, the properties their papers promise."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

from gloam.errors import ModelError
from gloam.networks.translators import (
    DISCRIMINATORS,
    GENERATORS,
    PatchSampler,
    create_discriminator,
    create_generator,
    init_weights,
)
from gloam.networks.translators.cyeda import CyedaGenerator
from gloam.networks.translators.drit import MapNorm
from gloam.networks.translators.layers import BlurDownsample, BlurUpsample, InstanceNorm2d, PixelNoise, norm_layer
from gloam.networks.translators.resnet import ResnetGenerator
from gloam.networks.translators.unet import UnetGenerator

# Parameters and tensors of the state dict, as counted in the public code.
GENERATOR_COUNTS = [
    ("resnet", {}, 11_378_179, 48),
    ("resnet", {"norm": "batch"}, 11_383_427, 140),
    ("unet", {}, 54_413_955, 82),
    ("unet", {"norm": "instance"}, 54_409_603, 32),
    ("unet", {"levels": 7}, 41_828_995, 70),
    ("unet", {"levels": 6}, 29_244_035, 58),
    ("cyeda", {}, 8_636_684, 133),
    ("adain", {}, 3_505_740 + 3_505_219, 39),
    ("todaygan", {}, 5_099_143 + 6_565_770, 62),
]
DISCRIMINATOR_COUNTS = [
    ("patch", {}, 2_764_737, 10),
    ("patch", {"norm": "batch"}, 2_765_633, 22),
    ("patch", {"norm": "none", "layers": 5, "padding": 2, "bias": True}, 11_154_369, 14),
]
# Small, with every reduction a family has, so that a test is milliseconds.
SMALL: dict[str, dict[str, Any]] = {
    "resnet": {"width": 4, "blocks": 2},
    "unet": {"width": 4, "levels": 4},
    "encoder_decoder": {"width": 4, "blocks": 2},
    "cyeda": {"width": 4},
    "todaygan": {"width": 4, "encoder_blocks": 1, "decoder_blocks": 1},
    "drit": {"width": 4},
    "weakly_paired": {"width": 2, "base": [1, 2], "latent": 3},
    "spade": {"width": 2, "base": [1, 2], "latent": 3},
    "ganimation": {"width": 4, "blocks": 2},
    "adain": {"stages": [[4, 1], [6, 2], [6, 1]]},
    "mduit": {"width": 2, "blocks": 1, "stages": [[4, 1], [4, 1], [4, 1]]},
}


def small(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return create_generator(name, **(SMALL[name] | options)).eval()


def count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


@pytest.mark.parametrize(("name", "options", "parameters", "tensors"), GENERATOR_COUNTS)
def test_generators_have_the_public_counts(name: str, options: dict[str, Any], parameters: int, tensors: int) -> None:
    with torch.device("meta"):
        model = create_generator(name, **options)
    assert (count(model), len(model.state_dict())) == (parameters, tensors)


@pytest.mark.parametrize(("name", "options", "parameters", "tensors"), DISCRIMINATOR_COUNTS)
def test_discriminators_have_the_public_counts(
    name: str, options: dict[str, Any], parameters: int, tensors: int
) -> None:
    with torch.device("meta"):
        model = create_discriminator(name, **options)
    assert (count(model), len(model.state_dict())) == (parameters, tensors)


def test_drit_has_the_published_counts_over_both_domains() -> None:
    with torch.device("meta"):
        concat, feature = create_generator("drit"), create_generator("drit", mode="feature")
    encoder = 2 * count(concat.get_submodule("enc")) + count(concat.get_submodule("enc_share"))
    parts = [concat.get_submodule(f"dec{index}") for index in range(1, 5)]
    mixed = [feature.get_submodule(name) for name in ("dec1", "dec2", "dec3", "dec4", "dec5", "mlp")]
    assert round(encoder / 1e6, 2) == 9.02
    assert round((2 * count(*parts) + count(concat.get_submodule("dec_share"))) / 1e6, 2) == 9.56
    assert round(2 * count(*mixed) / 1e6, 2) == 17.15


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_generator_keeps_shape_and_range(name: str, channels: int) -> None:
    model = small(name, channels=channels)
    side = max(model.minimum, 2 * model.multiple)
    x = torch.rand(2, channels, side, side + model.multiple) * 2 - 1
    with torch.no_grad():
        y = model(x)
        smallest = model(x[:1, :, : model.minimum, : model.minimum])
    assert y.shape == x.shape
    assert smallest.shape[2:] == (model.minimum, model.minimum)
    assert y.abs().max() <= 1
    assert model.name == name
    assert json.loads(json.dumps(model.options)).items() >= SMALL[name].items()


@pytest.mark.parametrize("name", GENERATORS)
def test_the_exported_graph_takes_bytes(name: str) -> None:
    model = small(name)
    images = torch.randint(0, 256, (1, 32, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        y = model.translate_uint8(images)
        direct = model(images.permute(0, 3, 1, 2) / 127.5 - 1)
    assert y.shape == (1, 32, 64, 3)
    assert torch.equal(y, direct.permute(0, 2, 3, 1))


@pytest.mark.parametrize("name", GENERATORS)
def test_options_rebuild_the_same_network(name: str) -> None:
    model = small(name)
    again = create_generator(name, **model.options)
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}


def test_the_residual_generator_rounds_odd_sides_up() -> None:
    assert small("resnet")(torch.zeros(1, 3, 37, 42)).shape == (1, 3, 40, 44)


def test_keys_of_the_residual_generator() -> None:
    with torch.device("meta"):
        plain, blurred = create_generator("resnet"), create_generator("resnet", antialias=True)
        batch = create_generator("resnet", norm="batch")
    keys = {f"model.{i}.{kind}" for i in (1, 4, 7, 19, 22, 26) for kind in ("weight", "bias")}
    keys |= {f"model.{i}.conv_block.{j}.{kind}" for i in range(10, 19) for j in (1, 5) for kind in ("weight", "bias")}
    assert set(plain.state_dict()) == keys
    assert [key for key in blurred.state_dict() if key.endswith("filt")] == [f"model.{i}.filt" for i in (7, 11, 21, 25)]
    assert {int(key.split(".")[1]) for key in blurred.state_dict() if "conv_block" in key} == set(range(12, 21))
    assert "model.30.weight" in blurred.state_dict()
    assert "model.26.bias" in batch.state_dict()
    assert "model.19.bias" not in batch.state_dict()
    assert tuple(plain.state_dict()["model.19.weight"].shape) == (256, 128, 3, 3)


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_biases_stand_before_instance_norm_alone(norm: str) -> None:
    for model in (small("resnet", norm=norm), small("unet", norm=norm), create_discriminator("patch", norm=norm)):
        convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
        inner = [m for m in convolutions if m.out_channels not in (1, 3) and m.in_channels != 3]
        assert all((m.bias is not None) == (norm == "instance") for m in inner)
        assert convolutions[-1].bias is not None


def test_dropout_moves_the_second_convolution() -> None:
    keys = create_generator("resnet", **SMALL["resnet"], dropout=True).state_dict()
    assert "model.10.conv_block.6.weight" in keys
    assert "model.10.conv_block.5.weight" not in keys


def test_the_unet_drops_out_in_its_inner_full_width_levels_alone() -> None:
    with torch.device("meta"):
        drops = [
            sum(isinstance(m, nn.Dropout) for m in create_generator("unet", levels=levels, dropout=True).modules())
            for levels in (5, 6, 8)
        ]
    assert drops == [0, 1, 3]


def test_features_are_the_activations_of_one_forward() -> None:
    model = small("resnet", blocks=9)
    assert isinstance(model, ResnetGenerator)
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    layers = (0, 4, 8, 12, 16)
    with torch.no_grad():
        taps = model.features(x, layers, encode_only=True)
        whole = model.features(x, (*layers, -1))
        assert torch.equal(whole[-1], model(x))
        assert torch.equal(whole[-2], whole[-1])
        assert torch.equal(taps[1], model.model[:5](x))
    assert [tap.shape[1] for tap in taps] == model.feature_channels(layers) == [3, 8, 16, 16, 16]
    assert all(torch.equal(a, b) for a, b in zip(taps, whole, strict=False))
    with pytest.raises(ModelError, match=r"rising indices of 0\.\.27"):
        model.features(x, (8, 4))


def test_features_of_a_unet_are_its_way_down() -> None:
    model = create_generator("unet", levels=4, width=4, norm="instance")
    assert isinstance(model, UnetGenerator)
    x = torch.rand(2, 3, 32, 48) * 2 - 1
    with torch.no_grad():
        taps = model.features(x, (0, 1, 3), encode_only=True)
        whole = model.features(x, (0, 1, 3))
        assert torch.equal(whole[-1], model(x))
        assert torch.equal(taps[1], model.model.model[0](x))
    assert torch.equal(taps[0], x)
    assert [tuple(tap.shape[1:]) for tap in taps] == [(3, 32, 48), (4, 16, 24), (16, 4, 6)]
    assert [tap.shape[1] for tap in taps] == model.feature_channels((0, 1, 3))
    assert all(torch.equal(a, b) for a, b in zip(taps, whole, strict=False))
    with pytest.raises(ModelError, match=r"rising indices of 0\.\.3"):
        model.features(x, (1, 4))


def test_pixel_noise_is_white_and_belongs_to_the_image_alone() -> None:
    images = torch.randint(0, 256, (2, 3, 64, 96), generator=torch.Generator().manual_seed(0)).float() / 127.5 - 1
    for x in (images, torch.zeros(1, 3, 64, 96)):  # a flat image gets noise too
        noise = PixelNoise()(x)
        assert noise.shape == x.shape
        assert noise.abs().max() <= 3
        assert abs(float(noise.mean())) < 0.03
        assert float(noise.std()) == pytest.approx(1, abs=0.02)
        for lag in ((0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0)):
            assert abs(float((noise * noise.roll(lag, (1, 2, 3))).mean())) < 0.03
    both = PixelNoise()(images)
    assert torch.equal(both[1:], PixelNoise()(images[1:]))  # whatever else is in the batch
    assert float((both[0] - both[1]).abs().mean()) > 1  # another image, another noise
    assert torch.equal(both, PixelNoise()(images + 1e-6))  # rounding of a backend changes nothing
    model = create_generator("unet", levels=4, width=4, noise=0.1, residual=True)
    with torch.no_grad():
        assert model(images).abs().max() <= 1
        assert torch.equal(model.features(images, (0, 1))[-1], model(images))  # type: ignore[operator]


def test_a_residual_unet_that_says_nothing_leaves_the_image() -> None:
    model = create_generator("unet", levels=4, width=4, residual=True)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    x = torch.rand(1, 3, 32, 48) * 2 - 1
    with torch.no_grad():
        assert (model(x) - x).abs().max() <= 0.021  # black and white a little inside


def test_blur_pooling_keeps_constants_and_halves_and_doubles() -> None:
    flat = torch.full((1, 2, 9, 12), 0.7)
    down, up = BlurDownsample(2)(flat), BlurUpsample(2)(flat)
    assert down.shape == (1, 2, 5, 6)
    assert up.shape == (1, 2, 18, 24)
    assert torch.allclose(down, torch.tensor(0.7))
    assert torch.allclose(up, torch.tensor(0.7))
    ramp = torch.arange(16.0).view(1, 1, 1, 16).expand(1, 1, 16, 16).contiguous()
    row = BlurUpsample(1)(ramp)[0, 0, 8, 6:-6]
    assert torch.allclose(row.diff(), torch.tensor(0.5))  # linear in, linear out
    assert torch.allclose(row.mean(), torch.tensor(7.5))  # and not shifted


def test_masks_of_zero_leave_the_image() -> None:
    model = small("cyeda")
    assert isinstance(model, CyedaGenerator)
    x = torch.rand(1, 3, 32, 16) * 2 - 1
    for logit, check in ((-200.0, x), (200.0, None)):
        nn.init.zeros_(model.conv11.weight)
        nn.init.constant_(model.conv11.bias, logit)
        with torch.no_grad():
            expected = model.proposals(x)[0].mean(1) if check is None else check
            assert torch.allclose(model(x), expected, atol=1e-6)


def test_drits_norm_is_torchs_layer_norm() -> None:
    norm = MapNorm(5)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(2, 5, 7, 6) * 3 + 1
    affine = [p.expand(5, 7, 6) for p in (norm.weight, norm.bias)]
    assert torch.allclose(norm(x), nn.functional.layer_norm(x, [5, 7, 6], *affine), atol=1e-5)


def test_drit_translates_by_its_code() -> None:
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    for mode in ("concat", "feature"):
        model = small("drit", mode=mode, code=[0.0] * 8)
        codes = torch.cat((torch.zeros(1, 8), torch.ones(1, 8)))
        with torch.no_grad():
            fixed, coded = model(x), model(x, codes)
        assert torch.allclose(fixed[0], coded[0], atol=1e-6)
        assert (fixed[1] - coded[1]).abs().max() > 1e-3
    with pytest.raises(ModelError, match="has 8 numbers, not 2"):
        create_generator("drit", code=[0, 1])


def test_the_patch_discriminator_sees_seventy_pixels() -> None:
    model = create_discriminator("patch", width=4)
    assert model(torch.zeros(1, 3, 256, 256)).shape == (1, 1, 30, 30)
    assert create_discriminator("patch", width=4, antialias=True)(torch.zeros(1, 3, 256, 256)).shape[2] == 30
    x = torch.zeros(1, 3, 256, 256, requires_grad=True)
    create_discriminator("patch", width=4, norm="none")(x)[0, 0, 15, 15].backward()
    assert x.grad is not None
    seen = x.grad.abs().sum((0, 1)).nonzero()
    assert (seen.max(0).values - seen.min(0).values + 1).tolist() == [70, 70]


def test_the_plain_discriminator_judges_whole_images_of_its_size() -> None:
    model = create_discriminator("plain", channels=1, width=4, size=32)
    assert model(torch.zeros(2, 1, 32, 32)).shape == (2, 1)
    with pytest.raises(ModelError, match=r"built for 32x32 px and got 64x64"):
        model(torch.zeros(2, 1, 64, 64))
    assert set(DISCRIMINATORS) == {"patch", "plain", "two_stream", "star"}


def test_the_patch_sampler_has_cuts_counts_and_unit_rows() -> None:
    assert count(PatchSampler((128, 256, 256, 256))) == 493_568
    assert count(PatchSampler((3, 128, 256, 256, 256))) == 560_384
    assert {key.split(".")[0] for key in PatchSampler((3, 8)).state_dict()} == {"mlp_0", "mlp_1"}
    sampler = PatchSampler((3, 8), width=16)
    maps = [torch.randn(2, 3, 8, 8), torch.randn(2, 8, 4, 4)]
    rows, positions = sampler(maps, patches=20, generator=torch.Generator().manual_seed(3))
    assert [tuple(row.shape) for row in rows] == [(40, 16), (32, 16)]  # the small map has 16 cells
    assert torch.allclose(torch.linalg.vector_norm(torch.cat(rows), dim=1), torch.tensor(1.0), atol=1e-5)
    assert all(len(set(place.tolist())) == len(place) for place in positions)
    again, _ = sampler(maps, patches=20, generator=torch.Generator().manual_seed(3))
    same, used = sampler(maps, positions=positions)
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(rows, again, same, strict=True))
    assert used == list(positions)
    with pytest.raises(ModelError, match="built for 2 layers and got 1"):
        sampler(maps[:1])


def test_sampled_rows_belong_to_their_image_and_place() -> None:
    sampler = PatchSampler((3,), width=4)
    maps = torch.randn(2, 3, 5, 6)
    rows, (place,) = sampler([maps], patches=7)
    for image in range(2):
        for index, cell in enumerate(place.tolist()):
            vector = sampler.get_submodule("mlp_0")(maps[image, :, cell // 6, cell % 6])
            assert torch.allclose(rows[0][image * 7 + index], vector / (vector.norm() + 1e-7), atol=1e-6)


def test_initial_weights_follow_their_rules() -> None:
    model = create_generator("resnet", width=32, blocks=1, norm="batch")
    init_weights(model, "normal", gain=0.2, seed=0)
    weight = model.get_parameter("model.10.conv_block.1.weight")
    assert abs(float(weight.detach().std()) - 0.2) < 0.002
    norm = model.get_parameter("model.8.weight")
    assert abs(float(norm.detach().mean()) - 1.0) < 0.08
    assert all(not p.any() for n, p in model.named_parameters() if n.endswith("bias"))
    init_weights(model, "kaiming", seed=0)
    assert abs(float(weight.detach().std()) / (2 / (128 * 9)) ** 0.5 - 1) < 0.02
    twin = create_generator("resnet", width=32, blocks=1, norm="batch")
    init_weights(twin, "kaiming", seed=0)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    with pytest.raises(ModelError, match="unknown initialisation"):
        init_weights(model, "gauss")


def test_a_wrong_name_or_option_is_one_line() -> None:
    with pytest.raises(ModelError, match=r"unknown generator 'resent'; did you mean resnet\? choose one of"):
        create_generator("resent")
    with pytest.raises(ModelError, match="generator resnet does not take these options"):
        create_generator("resnet", depth=3)
    for wrong in ({"norm": "layer"}, {"padding": "wrap"}):
        with pytest.raises(ModelError, match="unknown"):
            create_generator("resnet", **wrong)


@pytest.mark.parametrize("batch", [1, 2])
def test_the_gradient_of_instance_norm_is_right_in_any_layout(batch: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(batch, 5, 6, 7, dtype=torch.float64, requires_grad=True)
    wanted = torch.randn_like(x)
    mean, deviation = x.mean((2, 3), keepdim=True), (x.var((2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
    (expected,) = torch.autograd.grad((x - mean) / deviation, x, wanted)
    for layout in (torch.contiguous_format, torch.channels_last):
        for source in (x, x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()):
            given = wanted.contiguous(memory_format=layout)
            (found,) = torch.autograd.grad(norm_layer("instance", 5)(source), source, given)
            torch.testing.assert_close(found, expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_the_guarded_instance_norm_can_be_scripted() -> None:
    torch.manual_seed(0)
    norm, x = norm_layer("instance", 5), torch.randn(2, 5, 6, 7)
    assert torch.equal(torch.jit.script(norm)(x), torch.nn.functional.instance_norm(x))


def test_every_instance_norm_is_the_guarded_one() -> None:
    for make, names in ((create_generator, SMALL), (create_discriminator, ("patch",))):
        for name in names:
            model = make(name, **SMALL.get(name, {}))
            plain = [part for part in model.modules() if isinstance(part, nn.InstanceNorm2d)]
            assert all(isinstance(part, InstanceNorm2d) for part in plain), name
