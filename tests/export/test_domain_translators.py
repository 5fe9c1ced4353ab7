"""Exports of networks that translate into several domains: label and noise are inputs of the graph."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from gloam.errors import ModelError, UsageError
from gloam.export.engine.build import build_engine
from gloam.export.engine.options import BuildOptions
from gloam.export.front.put import put_in_front
from gloam.export.precision.image_check import compare_maps
from gloam.export.translator import export_translator
from gloam.model_card import ModelCard, TensorSpec
from gloam.networks.checkpoints import save_checkpoint
from gloam.networks.translators import DomainTranslator
from gloam.runtime.backends.onnx_file import read_card
from gloam.runtime.backends.ort import OrtSession
from gloam.runtime.backends.placement import Placement
from gloam.runtime.backends.selftest import run_selftest
from gloam.runtime.backends.selftest_formulas import selftest_conditions
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.models.image_model import ImageModel
from gloam.runtime.models.translator import Translator
from tests.export.test_image_exports import generator
from tests.tiny_models import write_tiny_embedder

DOMAINS = ["day", "night", "snow"]
OPTIONS: dict[str, dict[str, Any]] = {
    "weakly_paired": {"domains": DOMAINS, "width": 2, "base": [2, 3], "latent": 4, "target": "night"},
    "weakly_paired, of any place": {
        "domains": DOMAINS,
        "width": 2,
        "base": [1, 1],
        "latent": 4,
        "norm": "layer",
        "padding": "replicate",
        "resizing": "area",
    },
    "spade": {"domains": DOMAINS, "width": 2, "base": [2, 3], "latent": 4},
    "ganimation": {"domains": DOMAINS, "width": 4, "blocks": 1, "target": "night"},
}
TAKES = {
    "weakly_paired": ["label", "noise", "alignment"],
    "weakly_paired, of any place": ["label", "noise", "alignment"],
    "spade": ["label", "noise"],
    "ganimation": ["label"],
}
QUICK = "ganimation"  # the other's export takes longer
FAMILIES = [QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in OPTIONS if name != QUICK)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Path]]:
    """Networks and their files, each made when it is first asked for."""
    folder = tmp_path_factory.mktemp("domains")

    class Made(dict[str, tuple[Any, Path]]):
        def __missing__(self, name: str) -> tuple[Any, Path]:
            model = generator(name.split(",")[0], OPTIONS[name])
            export_translator(model, folder / f"{name}.onnx", provenance={"recipe": "test"})
            self[name] = model, folder / f"{name}.onnx"
            return self[name]

    return Made()


def picture(height: int, width: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", FAMILIES)
def test_torch_equals_onnx_at_every_batch_and_size(name: str, files: dict[str, tuple[Any, Path]]) -> None:
    model, path = files[name]
    session = OrtSession(path, threads=1)
    assert [spec.name for spec in session.card.inputs] == ["images", *TAKES[name]]
    for batch, height, width in ((1, 64, 96), (3, 32, 32), (8, 32, 96), (3, 160, 64), (1, 768, 1024)):
        images = np.stack([picture(height, width, row) for row in range(batch)])
        conditions = selftest_conditions(session.card.inputs, (batch, height, width))
        found = session.run({"images": images, **conditions})["translated"]
        with torch.no_grad():
            given = [torch.from_numpy(conditions[spec.name]) for spec in model.conditions]
            expected = model.translate_uint8(torch.from_numpy(images), *given).numpy()
        assert found.shape == (batch, height, width, 3)
        assert np.abs(found - expected).max() <= 1e-5
    difference, tolerance = run_selftest(session)
    assert difference <= tolerance


@pytest.mark.slow
def test_the_card_states_the_inputs_their_defaults_and_the_domains(files: dict[str, tuple[Any, Path]]) -> None:
    _, path = files["weakly_paired"]
    card = read_card(path)
    assert card is not None
    assert [(spec.shape, spec.default) for spec in card.inputs[1:]] == [
        (("batch", 3), (0.0, 1.0, 0.0)),
        (("batch", 4), (0.0,)),
        (("batch", 1, "height", "width"), (0.0,)),
    ]
    assert list(card.network["domains"]) == DOMAINS
    assert card.profile.multiple == 32
    assert ModelCard.from_json(card.to_json()) == card
    drawn = {node.op_type for node in onnx.load(path).graph.node} & {
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
    }
    assert not drawn


@pytest.mark.parametrize("name", FAMILIES)
def test_images_of_any_size_are_padded_to_multiples_and_cropped_back(
    name: str, files: dict[str, tuple[Any, Path]]
) -> None:
    model, path = files[name]
    exported = ImageModel(OrtSession(path, threads=1))
    for agreement in compare_maps(model, exported, shapes=[[(37, 50)], [(64, 64), (5, 3)]]):
        assert agreement.max_abs <= 1e-5
    assert Translator.load(path)([picture(37, 50)])[0].shape == (37, 50, 3)


def test_a_translator_goes_towards_each_domain(files: dict[str, tuple[Any, Path]]) -> None:
    model, path = files[QUICK]
    assert isinstance(model, DomainTranslator)
    night = Translator.load(path)
    assert night.domains == tuple(DOMAINS)
    assert night.towards("night").fingerprint == night.fingerprint
    snow = night.towards("snow")
    assert snow.fingerprint not in (night.fingerprint, night.towards("day").fingerprint)
    image = picture(64, 96)
    with torch.no_grad():
        given = torch.from_numpy(image)[None]
        wanted = model.translate_uint8(given, model.label(torch.tensor([2]), torch.zeros(())))[0].numpy()
    assert np.abs(snow([image])[0] - (wanted + 1) * 127.5).max() <= 0.51
    assert not np.array_equal(snow([image])[0], night([image])[0])
    with pytest.raises(UsageError, match="unknown domain 'rain'; its domains are day, night, snow"):
        night.towards("rain")


def test_the_domain_of_a_file_is_chosen_when_it_is_exported(tmp_path: Path) -> None:
    model = generator(QUICK, OPTIONS[QUICK])
    assert [spec.default for spec in (*model.conditions, *model.towards("day"))] == [(0.0, 1.0, 0.0), (1.0, 0.0, 0.0)]
    with pytest.raises(ModelError, match="unknown domain 'rain'; the model knows day, night, snow"):
        export_translator(model, tmp_path / "n.onnx", domain="rain")
    with pytest.raises(ModelError, match="one domain alone; leave out 'day'"):
        export_translator(generator("resnet", {"width": 4, "blocks": 1}), tmp_path / "n.onnx", domain="day")
    assert not (tmp_path / "n.onnx").exists()


def test_an_input_without_a_default_must_be_given() -> None:
    spec = TensorSpec("images", "uint8", ("batch", "height", "width", 3), "RGB")
    with pytest.raises(ModelError, match="has no default"):
        spec.filled(1, 32, 32)


@pytest.mark.parametrize("name", FAMILIES)
def test_it_is_fused_with_its_domain_inside(name: str, files: dict[str, tuple[Any, Path]], tmp_path: Path) -> None:
    write_tiny_embedder(tmp_path / "e.onnx")
    _, path = files[name]
    card = put_in_front(tmp_path / "e.onnx", tmp_path / "f.onnx", translator=path, domain="snow")
    assert [spec.name for spec in card.inputs] == ["images"]
    one = Placement(threads=1)
    apart = Embedder.load(tmp_path / "e.onnx", one, translator=Translator.load(path, one).towards("snow"))
    images = [picture(37, 50), picture(64, 96, 1)]
    assert np.abs(Embedder.load(tmp_path / "f.onnx", one)(images) - apart(images)).max() <= 1e-5


@pytest.mark.slow
def test_weights_are_fused_towards_a_domain_too(tmp_path: Path) -> None:
    write_tiny_embedder(tmp_path / "e.onnx")
    model = generator(QUICK, OPTIONS[QUICK])
    save_checkpoint(tmp_path / "t.safetensors", model, {})
    card = put_in_front(tmp_path / "e.onnx", tmp_path / "f.onnx", translator=tmp_path / "t.safetensors", domain="snow")
    assert card.provenance["translator"]["name"] == f"{QUICK} to snow"
    one = Placement(threads=1)
    image = picture(256, 256)  # nothing to pad, whatever the rule
    with torch.no_grad():
        label = model.label(torch.tensor([2]), torch.zeros(()))
        snow = model.translate_uint8(torch.from_numpy(image)[None], label)[0].numpy()
    levels = np.rint((snow + 1) * 127.5).clip(0, 255).astype(np.uint8)
    found, wanted = (Embedder.load(tmp_path / name, one) for name in ("f.onnx", "e.onnx"))
    assert np.abs(found([image]) - wanted([levels])).max() <= 1e-4
    with pytest.raises(UsageError, match="unknown domain 'rain'"):
        put_in_front(tmp_path / "e.onnx", tmp_path / "g.onnx", translator=tmp_path / "t.safetensors", domain="rain")


def test_self_test_conditions_are_the_stated_formula() -> None:
    specs = (
        TensorSpec("label", "float32", ("batch", 3), "", default=(0.0, 1.0, 0.0)),
        TensorSpec("noise", "float32", ("batch", 4), "", default=(0.0,)),
    )
    made = selftest_conditions(specs, (2, 32, 32))
    assert made["label"].tolist() == [[0, 1, 0], [0, 0, 1]]
    assert made["noise"][1].tolist() == pytest.approx([(37 - 48) / 24, (47 - 48) / 24, (63 - 48) / 24, (85 - 48) / 24])


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="TensorRT for RTX is not installed")
@pytest.mark.parametrize("name", list(OPTIONS))
def test_the_real_builder_builds_it(name: str, files: dict[str, tuple[Any, Path]], tmp_path: Path) -> None:
    built = build_engine(files[name][1], tmp_path / "engine", BuildOptions(target="rtx", heights=(64,), widths=(96,)))
    assert built.plan.stat().st_size > 0
