"""The release check compares the graphs themselves, whatever their profile and photometric normalisation."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from gloam.cli.main import main
from gloam.errors import ModelError
from gloam.export.embedder import export_embedder
from gloam.export.precision.release_check import DEFAULT_SHAPES, compare
from gloam.model_card import METADATA_KEY, Photometric
from gloam.networks.embedders import create_embedder
from gloam.networks.embedders.gem import PooledEmbedder
from gloam.networks.masks import Masks, after, zero_beyond
from gloam.padding import PaddingProfile
from gloam.runtime.backends.selftest import run_selftest
from gloam.runtime.models.embedder import Embedder as Exported


class Small(nn.Sequential):
    """Two masked convolutions: enough to be wrong, quick to export."""

    dimension = 8
    padding_exact = True

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1))

    def forward(self, x: torch.Tensor, masks: Masks | None = None) -> tuple[torch.Tensor, Masks | None]:
        for layer in self:
            x = layer(zero_beyond(x, masks)).relu()
            masks = after(masks, x, kernel=3, stride=2, padding=2)
        return x, masks


@pytest.fixture(scope="module")
def model() -> PooledEmbedder:
    torch.manual_seed(0)
    return PooledEmbedder("small", Small()).eval()


@pytest.fixture(scope="module")
def clahe(model: PooledEmbedder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("release") / "clahe.onnx"
    export_embedder(model, path, photometric=Photometric("clahe"), provenance={})
    return path


def test_a_normalisation_outside_the_graph_is_no_difference(model: PooledEmbedder, clahe: Path) -> None:
    rows = compare(model, Exported.load(clahe))
    assert [len(row.shapes) for row in rows] == [len(batch) for batch in DEFAULT_SHAPES]
    assert max(row.max_abs for row in rows) <= 1e-5


@pytest.mark.parametrize("largest", [1, 2])
def test_a_small_fixed_profile_is_obeyed(model: PooledEmbedder, tmp_path: Path, largest: int) -> None:
    profile = PaddingProfile.fixed((256,), (256,), batch=(1, largest))
    export_embedder(model, tmp_path / "m.onnx", profile=profile, provenance={})
    exported = Exported.load(tmp_path / "m.onnx")
    difference, tolerance = run_selftest(exported.session)
    assert difference <= tolerance
    assert exported.card.selftest is not None
    assert exported.card.selftest.shape[0] == largest
    rows = compare(model, exported)
    assert max(max(size) for row in rows for size in row.shapes) <= 256
    assert max(row.max_abs for row in rows) <= 1e-5


def test_a_profile_of_one_image_does_not_freeze_the_batch_at_the_traced_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced, export = [], torch.export.export
    monkeypatch.setattr("torch.export.export", lambda *a, **named: (traced.append(named), export(*a, **named))[1])
    model = create_embedder("gem_resnet18", width=8)  # a residual sum compares shapes, which a small graph does not
    export_embedder(model, tmp_path / "m.onnx", profile=PaddingProfile.dynamic((1, 1)), provenance={})
    assert len(traced) == 1  # bounds that torch refuses cost a second tracing
    difference, tolerance = run_selftest(Exported.load(tmp_path / "m.onnx").session)
    assert difference <= tolerance


def test_other_normalisation_constants_are_found(model: PooledEmbedder, clahe: Path) -> None:
    other = PooledEmbedder("small", Small(), mean=(0.5,) * 3, std=(0.5,) * 3).eval()
    other.load_state_dict(model.state_dict())
    assert max(row.max_abs for row in compare(other, Exported.load(clahe))) > 1e-4


class Silent(nn.Module):
    """A backbone that ignores its masks and promises nothing."""

    dimension = 3

    def forward(self, x: torch.Tensor, masks: object = None) -> tuple[torch.Tensor, object]:
        return x, masks


def test_a_backbone_that_promises_nothing_is_refused_for_fixed(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not padding-exact"):
        export_embedder(
            PooledEmbedder("silent", Silent()), tmp_path / "m.onnx", profile=PaddingProfile.fixed(), provenance={}
        )
    assert not list(tmp_path.iterdir())


def test_check_names_what_is_wrong_with_a_file(clahe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truncated, newer, bare = (tmp_path / f"{name}.onnx" for name in ("truncated", "newer", "bare"))
    truncated.write_bytes(clahe.read_bytes()[:5000])
    proto = onnx.load(clahe)
    card = next(item for item in proto.metadata_props if item.key == METADATA_KEY)
    card.value = card.value.replace('"schema": 1', '"schema": 999')
    onnx.save(proto, newer)
    del proto.metadata_props[:]
    onnx.save(proto, bare)
    for path, reason in ((truncated, "truncated"), (newer, "schema 999"), (bare, "without a gloam model card")):
        assert main(["check", str(path)]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert reason in lines[0]
        assert path.name in lines[0]
