"""Exported translators and edge detectors compute what the torch models compute, at every size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from gloam.cli.main import main
from gloam.errors import ImageError, ModelError
from gloam.export.edges import export_edges
from gloam.export.precision.image_check import compare_maps
from gloam.export.translator import export_translator
from gloam.model_card import METADATA_KEY, ModelCard
from gloam.networks.checkpoints import save_checkpoint
from gloam.networks.edges import DETECTORS, create_detector
from gloam.networks.translators import GENERATORS, create_generator
from gloam.padding import PaddingProfile, crop_back, reflect_pad
from gloam.runtime.backends.ort import OrtSession
from gloam.runtime.backends.placement import Placement
from gloam.runtime.backends.selftest import run_selftest
from gloam.runtime.models.edge_detector import EdgeDetector
from gloam.runtime.models.image_model import ImageModel
from gloam.runtime.models.translator import Translator
from tests.damage import without_checksum

EXPORT = 1e-4  # largest difference of a value between torch and ONNX, in [-1, 1]
PROFILES = {"dynamic": PaddingProfile.dynamic(), "fixed": PaddingProfile.fixed((256,), (256, 512), batch=(1, 2))}
QUICK = ("resnet", {"width": 4, "blocks": 1})  # the others' exports take seconds each
CASES: list[tuple[str, dict[str, Any]]] = [
    ("resnet", {"width": 4, "blocks": 1, "antialias": True, "dropout": True}),
    ("resnet", {"width": 4, "blocks": 1, "norm": "batch", "padding": "zero"}),
    ("resnet", {"width": 4, "blocks": 1, "norm": "batch", "track_running_stats": False}),
    ("resnet", {"width": 4, "blocks": 1, "norm": "none", "padding": "replicate", "channels": 1}),
    ("unet", {"width": 4, "levels": 4, "dropout": True}),
    ("unet", {"width": 4, "levels": 8, "norm": "instance", "noise": 0.1, "residual": True}),
    ("encoder_decoder", {"width": 4, "blocks": 1}),
    ("cyeda", {"width": 4}),
    ("todaygan", {"width": 4, "encoder_blocks": 1, "decoder_blocks": 1}),
    ("drit", {"width": 4}),
    ("drit", {"width": 4, "mode": "feature"}),
    ("weakly_paired", {"width": 2, "base": [2, 3], "latent": 4}),
    ("spade", {"width": 2, "base": [2, 3], "latent": 4}),
    ("ganimation", {"width": 4, "blocks": 1}),
    ("adain", {"stages": [[4, 1], [6, 2], [6, 1]]}),
    ("mduit", {"width": 2, "blocks": 1, "stages": [[4, 1], [4, 1], [4, 1]]}),
]
# No image of one colour: instance norm divides its rounding noise by nothing, and torch and ONNX round differently. Nor
# one whose reflections repeat after two or four pixels: behind two strides that is of one colour too.
SIZES = [(4, 6), (5, 40), (64, 64), (255, 257), (130, 70), (64, 64)]


def generator(name: str, options: dict[str, Any], seed: int = 0) -> Any:
    torch.manual_seed(seed)
    model = create_generator(name, **options).eval()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None:  # as if it had been trained
            nn.init.normal_(part.running_mean, 0, 0.2)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
    return model


def pictures(channels: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (*size, channels), dtype=np.uint8) for size in SIZES]


def padded_by_hand(model: Any, image: np.ndarray, multiple: int, minimum: int) -> np.ndarray:
    padded, corner = reflect_pad(image, multiple, minimum, model.anchor)
    with torch.no_grad():
        whole = model.translate_uint8(torch.from_numpy(padded.copy())[None])[0].numpy()
    return crop_back(whole, corner, (image.shape[0], image.shape[1]))


def check_agreement(name: str, options: dict[str, Any], profile: str, folder: Path) -> None:
    model = generator(name, options)
    card = export_translator(model, folder / "m.onnx", PROFILES[profile], {"recipe": "test"})
    exported = ImageModel(OrtSession(folder / "m.onnx", threads=1))
    images = pictures(model.channels)
    multiple = 256 if profile == "fixed" else model.multiple
    for image, found in zip(images, exported.maps(images), strict=True):
        assert found.shape == image.shape
        expected = padded_by_hand(model, image, multiple, max(model.minimum, multiple))
        assert np.abs(found - expected).max() <= EXPORT
    difference, tolerance = run_selftest(exported.session)
    assert difference <= tolerance
    assert card.profile.reflects
    if options.get("track_running_stats") is False:
        assert card.profile.batch == (1, 1)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_quickest_translator_agrees_at_every_size(profile: str, tmp_path: Path) -> None:
    check_agreement(*QUICK, profile, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("name", "options"), CASES)
def test_every_translator_agrees_at_every_size(
    name: str, options: dict[str, Any], profile: str, tmp_path: Path
) -> None:
    check_agreement(name, options, profile, tmp_path)


def test_every_network_is_on_a_list() -> None:
    assert {name for name, _ in [QUICK, *CASES]} == set(GENERATORS)
    assert set(DETECTORS) == {"hed", "rcf"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("translator")
    model = generator(*QUICK)
    save_checkpoint(folder / "m.safetensors", model, {"recipe": "test"})
    save_checkpoint(folder / "other.safetensors", generator(*QUICK, seed=1), {})
    assert main(["export", str(folder / "m.safetensors"), "-o", str(folder / "m.onnx"), "--licence", "none"]) == 0
    return folder


def test_the_card_states_the_padding_rule(exported: Path) -> None:
    proto = onnx.load(exported / "m.onnx")
    card = ModelCard.from_json({item.key: item.value for item in proto.metadata_props}[METADATA_KEY])
    assert (card.kind, card.name, card.provenance["licence"]) == ("translator", "resnet", "none")
    profile = card.profile
    assert (profile.pad_mode, profile.anchor, profile.multiple, profile.minimum) == ("reflect", "top-left", 4, 8)
    assert [item.name for item in proto.graph.output] == ["translated"]
    assert card.selftest is not None
    assert len(card.selftest.output) == 2 * 8 * 8 * 3
    assert str(Path(__file__).parents[2]).encode() not in (exported / "m.onnx").read_bytes()


def test_commands_check_and_compare(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(exported / "m.onnx"), "--against", str(exported / "m.safetensors")]) == 0
    printed = capsys.readouterr().out
    assert "resnet (translator), dynamic" in printed
    assert printed.count("agrees") == 3
    assert main(["check", str(exported / "m.onnx"), "--against", str(exported / "other.safetensors")]) == 2
    assert "other weights" in capsys.readouterr().err


def test_check_fails_where_the_file_was_changed(exported: Path, tmp_path: Path) -> None:
    proto = onnx.load(exported / "m.onnx")
    initializer = max(proto.graph.initializer, key=lambda item: len(item.raw_data))
    values = np.array(onnx.numpy_helper.to_array(initializer))
    initializer.CopyFrom(onnx.numpy_helper.from_array(values[::-1].copy(), initializer.name))
    onnx.save(without_checksum(proto), tmp_path / "changed.onnx")
    assert main(["check", str(tmp_path / "changed.onnx")]) == 1


def test_a_fixed_profile_refuses_the_next_shape(tmp_path: Path) -> None:
    words = ["export", "--random-init", "0", "--network", "resnet", "--option", "width=4", "--option", "blocks=1"]
    assert main([*words, "-o", str(tmp_path / "m.onnx"), "--profile", "fixed", "--sides", "256"]) == 0
    translator = Translator.load(tmp_path / "m.onnx", Placement(threads=1))
    assert translator([np.zeros((3, 256, 3), np.uint8)])[0].shape == (3, 256, 3)
    with pytest.raises(ImageError, match="512x256"):
        translator([np.zeros((3, 257, 3), np.uint8)])


BAD = [
    (["--network", "resnet", "--random-init", "0", "--mean", "0,0,0"], "for embedders"),
    (["--network", "resnt", "--random-init", "0"], "resnt"),
    (["--network", "resnet", "--random-init", "0", "--option", "wdth=4"], "does not take these options"),
    (["weights.pth", "--network", "resnet"], "gloam import"),
    (["m.safetensors", "--network", "resnet"], "drop --network"),
    (["m.safetensors", "--option", "width=4"], "--random-init"),
]


@pytest.mark.parametrize(("words", "reason"), BAD)
def test_what_does_not_fit_is_one_line(
    words: list[str], reason: str, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (exported / "weights.pth").write_bytes(b"")
    words = [str(exported / word) if word.endswith((".pth", ".safetensors")) else word for word in words]
    assert main(["export", *words, "-o", str(exported / "x.onnx")]) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert len(error.strip().splitlines()) == 1
    assert not (exported / "x.onnx").exists()


def test_diverged_weights_are_not_exported(tmp_path: Path) -> None:
    model = generator(*QUICK)
    nn.init.constant_(next(model.parameters()), float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        export_translator(model, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["hed", pytest.param("rcf", marks=pytest.mark.slow)])
def test_detectors_agree_at_every_size(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create_detector(name, width=2).eval()
    export_edges(model, tmp_path / "m.onnx")
    detector = EdgeDetector.load(tmp_path / "m.onnx", Placement(threads=1))
    sizes = [(16, 16), (17, 33), (61, 40), (64, 96), (96, 127), (5, 1), (100, 131)]
    images = [np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    for image, found in zip(images, detector.probabilities(images), strict=True):
        padded, corner = reflect_pad(image, 1, 16)
        with torch.no_grad():
            whole = model.edges_uint8(torch.from_numpy(padded.copy())[None])[0].numpy()
        assert np.abs(found - crop_back(whole, corner, image.shape[:2])).max() <= EXPORT
    rows = compare_maps(model, ImageModel(detector.session))
    assert max(row.max_abs for row in rows) <= EXPORT
    difference, tolerance = run_selftest(detector.session)
    assert difference <= tolerance
    with pytest.raises(ModelError, match="use the dynamic profile"):
        export_edges(model, tmp_path / "fixed.onnx", PROFILES["fixed"])
