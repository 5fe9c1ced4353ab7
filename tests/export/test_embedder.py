"""An exported file computes what the torch model computes, and says who it is."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import pytest
import torch

from gloam.cli.main import main
from gloam.errors import ModelError
from gloam.export.embedder import export_embedder
from gloam.export.precision.release_check import compare
from gloam.model_card import METADATA_KEY, ModelCard, Photometric
from gloam.networks.checkpoints import save_checkpoint
from gloam.networks.embedders.gem import PooledEmbedder
from gloam.padding import PaddingProfile
from gloam.runtime.backends.selftest import run_selftest
from gloam.runtime.models.embedder import Embedder as Exported
from tests.damage import without_checksum
from tests.networks.embedders.test_embedders import randomized

SMALL = ((8, 1), (16, 2), (16, 1))
PROFILES = {"dynamic": PaddingProfile.dynamic(), "fixed": PaddingProfile.fixed((256,), (256, 512), batch=(1, 8))}


@pytest.fixture(scope="module")
def model() -> PooledEmbedder:
    return randomized("gem_vgg16", stages=SMALL)  # few operations: an export takes seconds per hundred of them


@pytest.fixture(scope="module", params=list(PROFILES))
def exported(request: pytest.FixtureRequest, model: PooledEmbedder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / f"{request.param}.onnx"
    export_embedder(model, path, profile=PROFILES[request.param], provenance={"recipe": "test", "licence": "none"})
    return path


def test_agrees_with_torch_over_shapes_and_batches(model: PooledEmbedder, exported: Path) -> None:
    shapes = [[(255, 257)], [(65, 63), (256, 511), (33, 200)], [(128, 128)] * 4]
    for row in compare(model, Exported.load(exported), shapes):
        assert row.max_abs <= 1e-5
        assert row.cosine >= 1 - 1e-6


def test_the_card_travels_and_the_selftest_passes(model: PooledEmbedder, exported: Path) -> None:
    proto = onnx.load(exported)
    card = ModelCard.from_json({item.key: item.value for item in proto.metadata_props}[METADATA_KEY])
    assert card.profile == PROFILES[exported.stem]
    assert (card.name, card.dimension, card.provenance["recipe"]) == ("gem_vgg16", 16, "test")
    assert [item.name for item in proto.graph.input] == [spec.name for spec in card.inputs]
    difference, tolerance = run_selftest(Exported.load(exported).session)
    assert difference <= tolerance


def test_nothing_of_the_exporting_machine_is_inside(exported: Path) -> None:
    content = exported.read_bytes()
    assert b"site-packages" not in content
    assert str(Path(__file__).parents[2]).encode() not in content


def test_both_profiles_share_the_space_but_not_the_fingerprint(model: PooledEmbedder, tmp_path: Path) -> None:
    cards = [
        export_embedder(model, tmp_path / f"{name}.onnx", profile=profile, provenance={})
        for name, profile in PROFILES.items()
    ]
    assert cards[0].space() == cards[1].space()
    loaded = [Exported.load(tmp_path / f"{name}.onnx") for name in PROFILES]
    assert loaded[0].fingerprint != loaded[1].fingerprint
    again = export_embedder(model, tmp_path / "clahe.onnx", photometric=Photometric("clahe"), provenance={})
    assert again.space() != cards[0].space()


def test_export_is_reproducible(model: PooledEmbedder, tmp_path: Path) -> None:
    for name in ("a", "b"):
        export_embedder(model, tmp_path / f"{name}.onnx", provenance={})
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


class Inexact(PooledEmbedder):
    """A model that does not promise exactness."""

    padding_exact: ClassVar[bool] = False


def test_a_model_that_cannot_is_refused_for_fixed(model: PooledEmbedder, tmp_path: Path) -> None:
    inexact = Inexact("inexact", model.features)
    with pytest.raises(ModelError, match="not padding-exact"):
        export_embedder(inexact, tmp_path / "m.onnx", profile=PROFILES["fixed"], provenance={})
    assert not list(tmp_path.iterdir())
    with pytest.raises(ModelError, match="not padding-exact"):
        inexact.describe_uint8(torch.zeros(1, 64, 64, 3, dtype=torch.uint8), torch.tensor([[64, 64]]))


def test_commands_export_and_check(
    model: PooledEmbedder, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(tmp_path / "m.safetensors", model, {"recipe": "test"})
    assert main(["check", str(exported), "--against", str(tmp_path / "m.safetensors")]) == 0
    assert "DIFFERS" not in capsys.readouterr().out
    save_checkpoint(tmp_path / "other.safetensors", randomized("gem_vgg16", seed=1, stages=SMALL), {})
    assert main(["check", str(exported), "--against", str(tmp_path / "other.safetensors")]) == 2
    assert "other weights" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "m.safetensors"), "-o", str(tmp_path / "m.onnx"), "--json"]) == 0
    assert main(["check", str(tmp_path / "m.onnx")]) == 0
    assert main(["export", "-o", str(tmp_path / "m.onnx")]) == 2
    assert main(["export", str(tmp_path / "absent.pth"), "--network", "gem_vgg16", "-o", "x.onnx"]) == 2


def test_check_fails_where_the_file_was_changed(exported: Path, tmp_path: Path) -> None:
    proto = onnx.load(exported)
    initializer = max(proto.graph.initializer, key=lambda item: len(item.raw_data))
    values = np.array(onnx.numpy_helper.to_array(initializer))
    values[: len(values) // 2] *= 1.2
    initializer.CopyFrom(onnx.numpy_helper.from_array(values, initializer.name))
    onnx.save(proto, tmp_path / "changed.onnx")
    assert main(["check", str(tmp_path / "changed.onnx")]) == 2  # its checksum
    onnx.save(without_checksum(proto), tmp_path / "changed.onnx")
    assert main(["check", str(tmp_path / "changed.onnx")]) == 1  # its self-test
