"""Keys are those of public checkpoints, and padding changes nothing; over every embedder on the list."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from gloam.errors import ModelError
from gloam.networks.checkpoints import load_checkpoint, save_checkpoint, weights_sha256
from gloam.networks.embedders import EMBEDDERS, create_embedder
from gloam.networks.embedders.gem import GeM, PooledEmbedder
from gloam.networks.embedders.mobilenet_v2 import ConvNormActivation

TENSORS_AND_PARAMETERS = {  # the published networks
    "gem_vgg16": (27, 14_714_689),
    "gem_resnet101": (625, 42_500_161),
    "mac_vgg16": (26, 14_714_688),
    "rmac_vgg16": (26, 14_714_688),
    "spoc_resnet101": (624, 42_500_160),
    "netvlad_vgg16": (28, 14_714_688 + 2 * 64 * 512),
    "edgemac_vgg16": (28, 14_713_536 + 2),
    "hedmac_vgg16": (66, 14_716_171 + 14_713_536 + 2),
    "rcfmac_vgg16": (92, 14_803_781 + 14_713_536 + 2),
}
SMALL_VGG: dict[str, Any] = {"stages": ((8, 1), (16, 2), (16, 1))}
INSIDE = {"name": "gem_vgg16", "options": SMALL_VGG}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in EMBEDDERS if name.startswith("gem_")),
    ("gem_mobilenet_v2", {"padding": "tf"}),
    ("gem_resnet18", {"width": 16}),
    ("gem_resnet18", {"width": 8, "whitening": True, "local_whitening": True}),
    ("mac_vgg16", SMALL_VGG),
    ("mac_vgg16", {**SMALL_VGG, "local_whitening": True}),
    ("spoc_vgg16", SMALL_VGG),
    ("rmac_vgg16", SMALL_VGG),
    ("rmac_resnet101", {"width": 4}),
    ("netvlad_vgg16", {**SMALL_VGG, "clusters": 8}),
    ("netvlad_vgg16", {**SMALL_VGG, "clusters": 8, "whitening": 16, "bias": True}),
    ("ensemble", {"members": [INSIDE, {"name": "gem_resnet18", "options": {"width": 8}, "mean": (0.5,) * 3}]}),
]
OWN_TESTS = ("dinov2", "salad", "megaloc", "boq", "cosplace", "apgem", "mixvpr", "anyloc")  # stems of families
DYNAMIC: list[tuple[str, dict[str, Any]]] = [
    ("ciconv_resnet18", {"width": 8}),
    ("edgemac_vgg16", SMALL_VGG),
    ("hedmac_vgg16", {**SMALL_VGG, "detector_options": {"width": 4}}),
    ("rcfmac_vgg16", {**SMALL_VGG, "detector_options": {"width": 4}}),
    ("photometric_unet", {"embedder": INSIDE, "levels": 3, "width": 8}),
    ("mduit_content", {"width": 2, "blocks": 1, "dimension": 6}),
    ("ensemble", {"members": [INSIDE, {"name": "edgemac_vgg16", "options": SMALL_VGG}]}),
]
SIZES = ((65, 127), (128, 96), (33, 128))  # height, width; odd, mixed, narrow


def randomized(name: str, seed: int = 0, **options: object) -> PooledEmbedder:
    """Random weights with running statistics and shifts as a trained network has: beyond the border is not zero."""
    torch.manual_seed(seed)
    model = create_embedder(name, **options)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.bias, 0, 0.3)
    return model.eval()


def padded_and_native(model: PooledEmbedder) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    images = torch.randint(0, 256, (3, 128, 128, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        padded = model.describe_uint8(images, torch.tensor(SIZES, dtype=torch.int32))
        native = torch.cat([model.describe_uint8(images[i : i + 1, :h, :w]) for i, (h, w) in enumerate(SIZES)])
        for row, (height, width) in enumerate(SIZES):
            images[row, height:] = 0
            images[row, :, width:] = 0
        unmasked = model.describe_uint8(images)
    return padded, native, unmasked


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=str)
def test_padding_changes_nothing_and_without_masks_it_would(name: str, options: dict[str, object]) -> None:
    padded, native, unmasked = padded_and_native(randomized(name, **options))
    assert (padded - native).abs().max() <= 1e-6
    assert (unmasked - native).abs().max() > 1e-4
    torch.testing.assert_close(native.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize(("name", "options"), DYNAMIC, ids=str)
def test_what_is_not_exact_under_padding_refuses_valid_sizes(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="not padding-exact"):
        padded_and_native(randomized(name, **options))


@pytest.mark.parametrize(("name", "options"), VARIANTS[7:] + DYNAMIC, ids=str)
def test_a_batch_is_its_images_one_by_one_and_a_checkpoint_brings_them_back(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    model = randomized(name, **options)
    images = torch.randint(0, 256, (3, 65, 90, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    save_checkpoint(tmp_path / "m.safetensors", model, {"recipe": "test"})
    loaded = load_checkpoint(tmp_path / "m.safetensors").model
    assert (loaded.name, loaded.dimension, loaded.pooling) == (name, model.dimension, model.pooling)
    with torch.no_grad():
        batched = model.describe_uint8(images)
        single = torch.cat([model.describe_uint8(images[row : row + 1]) for row in range(3)])
        assert torch.equal(loaded.describe_uint8(images), batched)
    assert batched.shape == (3, model.dimension)
    assert (batched - single).abs().max() <= 1e-6
    torch.testing.assert_close(batched.norm(dim=1), torch.ones(3))
    assert (batched[0] - batched[1]).abs().max() > 1e-4
    assert model.train()(torch.randn(2, 3, 64, 64).sigmoid()).requires_grad


def test_every_family_is_on_one_of_the_lists() -> None:
    stems = {name.split("_")[0] for name in EMBEDDERS if not name.startswith("how")}
    assert {*OWN_TESTS, *(name.split("_")[0] for name, _ in VARIANTS + DYNAMIC)} == stems


@pytest.mark.parametrize("name", TENSORS_AND_PARAMETERS)
def test_counts_are_the_published_networks(name: str) -> None:
    model = create_embedder(name)
    tensors, parameters = TENSORS_AND_PARAMETERS[name]
    assert len(model.state_dict()) == tensors
    assert sum(item.numel() for item in model.parameters()) == parameters


def test_keys_are_cirtorchs() -> None:
    vgg = set(create_embedder("gem_vgg16").state_dict())
    convolutions = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    assert vgg == {f"features.{i}.{kind}" for i in convolutions for kind in ("weight", "bias")} | {"pool.p"}
    resnet = set(create_embedder("gem_resnet50").state_dict())
    assert {"features.0.weight", "features.1.running_var", "features.4.0.downsample.1.bias"} <= resnet
    assert {"features.7.2.conv3.weight", "features.7.2.bn3.num_batches_tracked"} <= resnet
    mobile = set(create_embedder("gem_mobilenet_v2").state_dict())
    assert {
        "features.0.0.weight",
        "features.1.conv.1.weight",
        "features.17.conv.2.weight",
        "features.18.1.bias",
    } <= mobile


def test_whitening_layers_have_cirtorchs_keys_and_definition() -> None:
    model = randomized("gem_vgg16", **SMALL_VGG, whitening=True, local_whitening=True)
    plain = create_embedder("gem_vgg16", **SMALL_VGG).eval()
    own = set(model.state_dict()) - set(plain.state_dict())
    assert own == {"whiten.weight", "whiten.bias", "lwhiten.weight", "lwhiten.bias"}
    images = torch.rand(2, 3, 40, 50)
    with torch.no_grad():
        cells = model.features(images)[0].flatten(2).mT @ model.lwhiten.weight.T + model.lwhiten.bias
        pooled = cells.clamp(min=1e-6).pow(3).mean(1).pow(1 / 3)
        expected = model.whiten(pooled / (pooled.norm(dim=1, keepdim=True) + 1e-6))
        expected = expected / (expected.norm(dim=1, keepdim=True) + 1e-6)
        torch.testing.assert_close(model(images), expected, atol=1e-6, rtol=1e-5)


def test_p_learns_faster_and_without_decay_and_what_is_frozen_not_at_all() -> None:
    model = create_embedder("gem_vgg16", **SMALL_VGG)
    rest, pool = model.parameter_groups(7.0)
    assert [id(item) for item in pool["params"]] == [id(model.pool.p)]
    assert (pool["factor"], pool["weight_decay"], rest["factor"], rest["weight_decay"]) == (7.0, False, 1.0, True)
    assert len(rest["params"]) == len(list(model.parameters())) - 1
    edges = create_embedder("hedmac_vgg16", **SMALL_VGG, detector_options={"width": 4})
    rest, fast = edges.parameter_groups()
    assert {id(item) for item in fast["params"]} == {id(edges.filter.p), id(edges.filter.tau)}
    assert {id(item) for item in rest["params"]} == {id(item) for item in edges.features.parameters()}
    assert len(create_embedder("mac_vgg16", **SMALL_VGG).parameter_groups()) == 1


def test_gem_golden_values() -> None:
    channels = torch.arange(1.0, 13.0).view(1, 3, 2, 2)
    torch.testing.assert_close(GeM(3.0)(channels), torch.tensor([[2.9240, 6.6869, 10.6177]]), atol=1e-4, rtol=0)


def test_tf_padding_is_one_pixel_right_and_bottom() -> None:
    layer = ConvNormActivation(3, 4, 3, 2, 1, "tf").eval()
    images = torch.randn(1, 3, 12, 15)
    expected = layer[2](layer[1](functional.conv2d(functional.pad(images, (0, 1, 0, 1)), layer[0].weight, stride=2)))
    torch.testing.assert_close(layer(images)[0], expected)


def test_unknown_names_and_options() -> None:
    with pytest.raises(ModelError, match="did you mean gem_vgg16"):
        create_embedder("gem_vgg")
    with pytest.raises(ModelError, match="padding 'valid'"):
        create_embedder("gem_mobilenet_v2", padding="valid")
    with pytest.raises(ModelError, match="does not take"):
        create_embedder("gem_vgg16", width=3)
    with pytest.raises(ModelError, match="does not take"):
        create_embedder("netvlad_vgg16", p=3.0)
    with pytest.raises(ModelError, match="described as"):
        create_embedder("ensemble", members=["gem_vgg16", "gem_resnet18"])
    with pytest.raises(ModelError, match="two or more"):
        create_embedder("ensemble", members=[INSIDE])
    for name, options in DYNAMIC[1:5]:
        with pytest.raises(ModelError, match=r"mean and std 0\.5"):
            create_embedder(name, mean=(0.1,) * 3, **options)


def test_native_checkpoint_round_trip(tmp_path: Path) -> None:
    model = randomized("gem_resnet18", width=8)
    provenance = save_checkpoint(tmp_path / "m.safetensors", model, {"recipe": "test"})
    loaded = load_checkpoint(tmp_path / "m.safetensors")
    assert loaded.model.options == {"width": 8}
    assert loaded.provenance == provenance
    assert weights_sha256(loaded.model.state_dict()) == provenance["weights_sha256"]
    with pytest.raises(ModelError, match="says it is gem_resnet18"):
        load_checkpoint(tmp_path / "m.safetensors", "gem_vgg16")


def test_torchvision_layout_loads_and_names_what_it_drops(tmp_path: Path) -> None:
    model = randomized("gem_resnet18", width=8)
    children = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
    state = {}
    for key, value in model.state_dict().items():
        if key != "pool.p":
            _, child, rest = key.split(".", 2)
            state[f"{children[child]}.{rest}"] = value
    state |= {"fc.weight": torch.zeros(10, 64), "fc.bias": torch.zeros(10)}
    torch.save(state, tmp_path / "tv.pth")
    loaded = load_checkpoint(tmp_path / "tv.pth", "gem_resnet18", width=8)
    assert loaded.dropped == ["fc.weight", "fc.bias"]
    assert loaded.defaulted == ["pool.p"]
    for key, value in model.state_dict().items():
        torch.testing.assert_close(loaded.model.state_dict()[key], value)


def test_bad_weights_are_one_line(tmp_path: Path) -> None:
    model = randomized("gem_resnet18", width=8)
    state = dict(model.state_dict())
    state["surprise"] = state.pop("features.0.weight")
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(
        ModelError, match=r"1 keys missing \(first features\.0\.weight\), 1 unexpected \(first surprise\)"
    ):
        load_checkpoint(tmp_path / "odd.pth", "gem_resnet18", width=8)
    with pytest.raises(ModelError, match="name it with --network"):
        load_checkpoint(tmp_path / "odd.pth")
    with pytest.raises(ModelError, match="no such weights"):
        load_checkpoint(tmp_path / "absent.pth", "gem_vgg16")
    (tmp_path / "broken.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(ModelError, match="not a readable safetensors"):
        load_checkpoint(tmp_path / "broken.safetensors")


class Payload:
    """What a hostile pickle would run."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("gloam-was-here"),))


def test_a_pickle_with_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Payload()))
    torch.save({"state_dict": {"w": Payload()}}, tmp_path / "evil2.pth")
    for name in ("evil.pth", "evil2.pth"):
        with pytest.raises(ModelError, match="cannot be loaded as plain weights"):
            load_checkpoint(tmp_path / name, "gem_vgg16")
    assert not (tmp_path / "gloam-was-here").exists()


def test_real_weights_load(data_pack: Callable[[str], Path]) -> None:
    file = next((data_pack("weights") / "mobilenet_v2_imagenet").glob("*_fp16.pth"))
    loaded = load_checkpoint(file, "gem_mobilenet_v2", padding="tf", mean=(0.5,) * 3, std=(0.5,) * 3)
    assert set(loaded.dropped) >= {"classifier.1.weight", "classifier.1.bias"}
    assert loaded.defaulted == ["pool.p"]
    assert loaded.model.pool.p.item() == 3.0
    padded, native, unmasked = padded_and_native(loaded.model)
    assert (padded - native).abs().max() <= 1e-6
    assert (unmasked - native).abs().max() > 1e-4
