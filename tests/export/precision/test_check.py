"""A check knows the original from the model's card, where the weights alone do not say it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gloam.cli.main import main
from gloam.errors import IncompatibleError, UsageError
from gloam.export.embedder import export_embedder
from gloam.export.precision.check import CheckRequest, check_model, load_original
from gloam.export.precision.release_check import Agreement
from gloam.model_card import ModelCard, TensorSpec
from gloam.networks.embedders import EmbedderNetwork, create_embedder
from gloam.padding import PaddingProfile
from tests.networks.embedders.test_embedders import randomized
from tests.tiny_models import write_tiny_embedder

STATED: dict[str, dict[str, Any]] = {
    "gem_mobilenet_v2": {"padding": "tf"},
    "gem_vgg16": {"stages": ((8, 1),), "p": 2.5, "local_whitening": True, "whitening": True},
    "gem_resnet18": {"width": 8, "mean": (0.4, 0.5, 0.6), "std": (0.5, 0.5, 0.5)},
    "mac_vgg16": {"stages": ((8, 1),)},
    "netvlad_vgg16": {"stages": ((8, 1),), "clusters": 4, "bias": False},
    "ciconv_resnet18": {"width": 8, "invariant": "C"},
    "how_resnet18": {"width": 8, "dimension": 16},
}
IMAGE = torch.randint(0, 256, (1, 72, 91, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def card_of(model: EmbedderNetwork) -> ModelCard:
    """What an exported file would say of its network."""
    card = ModelCard(
        "embedder", model.name,
        (TensorSpec("images", "uint8", ("batch", "height", "width", 3), "RGB"),),
        (TensorSpec("descriptors", "float32", ("batch", model.dimension), "unit vectors"),),
        PaddingProfile.dynamic(), {"name": model.name, **model.options},
        model.mean, model.std, {}, pooling=model.pooling, dimension=model.dimension,
    )  # fmt: skip
    return ModelCard.from_json(card.to_json())


@pytest.mark.parametrize("name", STATED)
def test_a_plain_state_dict_is_the_network_that_the_card_states(name: str, tmp_path: Path) -> None:
    model = randomized(name, **STATED[name])
    weights = {key: value for key, value in model.state_dict().items() if key != "pool.p"}  # as torchvision's
    torch.save(weights, tmp_path / "w.pth")
    original = load_original(tmp_path / "w.pth", card_of(model))
    with torch.no_grad():
        torch.testing.assert_close(original.describe_uint8(IMAGE), model.describe_uint8(IMAGE), rtol=0, atol=0)


def test_what_is_typed_stands_before_the_card(tmp_path: Path) -> None:
    model = create_embedder("gem_mobilenet_v2", padding="tf")
    torch.save(model.state_dict(), tmp_path / "w.pth")
    assert load_original(tmp_path / "w.pth", card_of(model), padding="symmetric").options == {"padding": "symmetric"}


@pytest.mark.slow  # the export
def test_check_needs_no_option_that_the_export_was_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, model = tmp_path / "w.pth", tmp_path / "m.onnx"
    torch.save(randomized("gem_mobilenet_v2").state_dict(), weights)
    export = ["export", str(weights), "--network", "gem_mobilenet_v2", "--padding", "tf", "-o", str(model)]
    assert main([*export, "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5"]) == 0
    capsys.readouterr()
    assert main(["check", str(model), "--against", str(weights)]) == 0
    assert "DIFFERS" not in capsys.readouterr().out
    assert main(["check", str(model), "--against", str(weights), "--padding", "symmetric", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["selftest"]["passed"]
    assert not found["passed"]
    assert not any(batch["passed"] for batch in found["against"]["batches"])


def test_other_weights_are_refused_and_the_same_agree(tmp_path: Path) -> None:
    weights, path = tmp_path / "w.pth", tmp_path / "m.onnx"
    model = randomized("gem_vgg16", stages=((8, 1),))
    export_embedder(model, path, provenance={})
    torch.save(model.state_dict(), weights)
    checked = check_model(CheckRequest(path, weights))
    assert checked.passed
    assert str(checked).count(" agrees: ") == len(checked.agreements or ())
    torch.save(randomized("gem_vgg16", seed=1, stages=((8, 1),)).state_dict(), weights)
    with pytest.raises(IncompatibleError, match="other weights"):
        check_model(CheckRequest(path, weights))


def test_a_self_test_alone_loads_no_weights(tmp_path: Path) -> None:
    write_tiny_embedder(tmp_path / "m.onnx")
    checked = check_model(CheckRequest(tmp_path / "m.onnx"))
    assert checked.passed
    assert "against" not in checked.to_dict()


@pytest.mark.parametrize("option", ["network", "padding", "whitening"])
def test_what_is_said_of_weights_needs_weights(option: str) -> None:
    with pytest.raises(UsageError, match=f"--{option} goes with --against"):
        CheckRequest(Path("m.onnx"), **{option: Path("tf")})  # type: ignore[arg-type]  # refused before it is read


@pytest.mark.parametrize(
    ("max_abs", "cosine", "good"),
    [
        (1e-5, None, True),
        (2e-5, None, False),
        (1e-6, 1 - 1e-7, True),
        (1e-6, 1 - 1e-5, False),
        (float("nan"), 1.0, False),
    ],
)
def test_a_batch_agrees_within_both_limits(max_abs: float, cosine: float | None, good: bool) -> None:
    assert Agreement(((4, 4),), max_abs, cosine).within("fp32", 1e-5) is good
