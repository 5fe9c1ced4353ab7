"""Scales, whitening and CLAHE inside one graph: what torch computes, in nodes that engines take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from gloam.cli.main import main
from gloam.errors import IncompatibleError, ModelError
from gloam.export.embedder import export_embedder
from gloam.export.precision.release_check import as_exported, compare
from gloam.model_card import Photometric
from gloam.networks.checkpoints import save_checkpoint
from gloam.networks.clahe import ClaheLayer
from gloam.networks.embedders import DescriptorPipeline, EmbedderNetwork
from gloam.runtime.backends.selftest import run_selftest
from gloam.runtime.descriptors.whitening import Whitening
from gloam.runtime.models.embedder import Embedder as Exported
from tests.networks.embedders.test_embedders import randomized
from tests.networks.embedders.test_pipeline import whitening

TINY = {"stages": ((16, 1),)}  # an export takes seconds per hundred operations


@pytest.fixture(scope="module")
def model() -> EmbedderNetwork:
    return randomized("gem_vgg16", **TINY)


@pytest.fixture(scope="module")
def exported(model: EmbedderNetwork, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Whitening]:
    """By the command: scales and whitening in a fixed profile."""
    folder = tmp_path_factory.mktemp("pipeline")
    layer = whitening()
    layer.save(folder / "lw.npz")
    save_checkpoint(folder / "m.safetensors", model, {"recipe": "test"})
    command = ["export", str(folder / "m.safetensors"), "-o", str(folder / "m.onnx"), "--profile", "fixed"]
    assert (
        main([*command, "--sides", "256", "--scales", "1,0.70710678,0.5", "--whitening", str(folder / "lw.npz")]) == 0
    )
    return folder / "m.onnx", layer


def test_several_scales_and_the_whitening_are_one_graph(
    model: EmbedderNetwork, exported: tuple[Path, Whitening], capsys: pytest.CaptureFixture[str]
) -> None:
    path, layer = exported
    loaded = Exported.load(path)
    assert loaded.card.scales == (1.0, 0.70710678, 0.5)
    assert loaded.card.whitening == {"name": "lw", "sha256": layer.sha256}
    assert loaded.dimension == layer.dimension
    original = as_exported(model, loaded.card, layer)
    for row in compare(original, loaded, [[(255, 201)], [(97, 131), (256, 256), (32, 99)]]):
        assert row.max_abs <= 1e-5
    assert run_selftest(loaded.session)[0] <= 1e-5
    weights = str(path.with_suffix(".safetensors"))
    assert main(["check", str(path), "--against", weights, "--whitening", str(path.parent / "lw.npz")]) == 0
    assert main(["check", str(path), "--against", weights]) == 2
    assert "name its file with --whitening" in capsys.readouterr().err


def test_images_are_resized_by_scales_and_never_by_sizes(exported: tuple[Path, Whitening]) -> None:
    nodes = [node for node in onnx.load(exported[0]).graph.node if node.op_type == "Resize"]
    assert len(nodes) == 2
    for node in nodes:
        scales = node.input[2]
        assert scales
        assert len(node.input) == 3 or not node.input[3]


def test_another_pipeline_is_another_space(model: EmbedderNetwork, exported: tuple[Path, Whitening]) -> None:
    card = Exported.load(exported[0]).card
    with pytest.raises(IncompatibleError, match=r"exported with scales \(1\.0, 0\.7.* and whitening lw"):
        compare(model, Exported.load(exported[0]))
    with pytest.raises(IncompatibleError, match="name its file"):
        as_exported(model, card, Whitening(np.zeros(16), np.eye(16), "pca"))


def test_a_baked_clahe_shares_the_space_of_callers_who_do_it(model: EmbedderNetwork, tmp_path: Path) -> None:
    outside = export_embedder(model, tmp_path / "a.onnx", photometric=Photometric("clahe"), provenance={})
    baked = DescriptorPipeline(model, clahe=ClaheLayer()).eval()
    inside = export_embedder(baked, tmp_path / "b.onnx", provenance={})
    assert inside.photometric.baked
    assert inside.selftest is not None
    assert inside.selftest.tolerance["fp32"] == 1e-3  # one level of one pixel, rounded the other way, is 1e-5
    assert inside.space() == outside.space()
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    callers, graph = (Exported.load(tmp_path / name)([image])[0] for name in ("a.onnx", "b.onnx"))
    assert callers @ graph >= 0.9999
    with pytest.raises(ModelError, match="no normalisation is left to callers"):
        export_embedder(baked, tmp_path / "c.onnx", photometric=Photometric("clahe"), provenance={})


def test_refusals_come_before_the_export(
    model: EmbedderNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = str(tmp_path / "m.safetensors")
    save_checkpoint(weights, model, {})
    whitening(columns=32).save(tmp_path / "other.npz")
    command = ["export", weights, "-o", str(tmp_path / "m.onnx")]
    for options, reason in (
        (["--whitening", str(tmp_path / "other.npz")], "learned from 32-D ones"),
        (["--scales", "1,0.1"], "different numbers of 0.5..2"),
        (["--scales", "1,1.4", "--profile", "fixed"], "not padding-exact"),
        (["--photometric", "clahe", "--bake-clahe"], "not both"),
    ):
        assert main([*command, *options]) == 2
        message = capsys.readouterr().err.strip()
        assert reason in message
        assert "\n" not in message
    assert not (tmp_path / "m.onnx").exists()
