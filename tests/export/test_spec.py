"""The second self-test finds what the first one's size hides, and a file that fails one is not written."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import onnx
import pytest
import torch
from torch import Tensor, nn

from gloam.cli.main import main
from gloam.errors import ModelError
from gloam.export.local_features import export_local_features
from gloam.export.proved import Shapes, larger_shapes, write_proved
from gloam.export.spec import ExportSpec, export_spec
from gloam.model_card import TOLERANCE, TensorSpec
from gloam.networks.embedders import create_embedder
from gloam.networks.embedders.base import l2_normalize
from gloam.padding import PaddingProfile
from gloam.runtime.backends.onnx_file import read_card

FIRST, SQUARE = Shapes((2, 97, 131)), Shapes((2, 256, 256))
FIXED = ((1, 55), (159, 125), (0, 0))


class Lying(nn.Module):
    """Gives the exporter another graph than it runs itself."""

    name = "lying"
    options: ClassVar[dict[str, Any]] = {}

    def describe(self, images: Tensor) -> Tensor:
        means = images.to(torch.float32).mean((1, 2))
        return l2_normalize(means * torch.tensor((2, 1, 1)) if torch.compiler.is_exporting() else means)


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HOW's smallest scale as it once was exported: the one cell of the example is taken for every size's."""
    path = tmp_path_factory.mktemp("frozen") / "model.onnx"
    reshape = Tensor.reshape

    def flattened(self: Tensor, *shape: Any) -> Tensor:
        return self.flatten(0, 1) if shape == (-1, 2) else reshape(self, *shape)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "reshape", flattened)
        patch.setattr("gloam.export.local_features.FEWEST", 1)
        patch.setattr("gloam.export.proved.expect_proved", lambda session, path: None)  # it would not be written
        export_local_features(create_embedder("how_resnet18", width=4), path, scales=(0.25,))
    return path


def spec(model: Lying) -> ExportSpec:
    return ExportSpec(
        kind="embedder",
        model=model,
        graph=model.describe,
        profile=PaddingProfile.dynamic(),
        example=FIRST.shape,
        outputs=(TensorSpec("descriptors", "float32", ("batch", 3), "unit vectors"),),
        selftest=FIRST,
        facts={"mean": (0.5,) * 3, "std": (0.5,) * 3, "dimension": 3},
        tolerance=TOLERANCE,
        least=32,
    )


def test_a_frozen_axis_is_found_at_the_larger_size_and_nothing_is_written(frozen: Path, tmp_path: Path) -> None:
    card, proto, path = read_card(frozen), onnx.load(frozen), tmp_path / "model.onnx"
    del proto.metadata_props[:]
    path.write_bytes(b"an earlier file")
    with pytest.raises(ModelError, match=r"how_resnet18: on a batch of 3 images of 267x197 px") as caught:
        write_proved(proto, card, path)
    assert len(str(caught.value).splitlines()) == 1
    assert path.read_bytes() == b"an earlier file"
    del proto.metadata_props[:]
    write_proved(proto, dataclasses.replace(card, selftest_larger=None), path)  # the first one alone does not find it


def test_a_graph_with_other_values_than_the_network_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"not written, because the graph differs from the network by .* of 131x97 px, allowed 1e-02"
    ):
        export_spec(spec(Lying()), tmp_path / "model.onnx", None)
    assert not (tmp_path / "model.onnx").exists()


def test_check_names_the_size_that_a_file_does_not_run_on(frozen: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(frozen)]) == 2
    error = capsys.readouterr().err.strip()
    assert "267x197 px" in error
    assert "\n" not in error


def test_weights_that_amplify_rounding_are_no_fault_of_the_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = 50 * TOLERANCE["fp32"], 600 * TOLERANCE["fp32"]
    for found, refused in (((small, small), False), ((small, large), True), ((0.0, small), True)):
        monkeypatch.setattr("gloam.export.proved.selftest_differences", lambda session, found=found: found)
        path = tmp_path / f"{refused}.onnx"
        path.unlink(missing_ok=True)
        with pytest.raises(ModelError, match="267x197 px") if refused else contextlib.nullcontext():
            export_spec(spec(Lying()), path, None)
        assert path.exists() != refused


@pytest.mark.parametrize(
    ("profile", "first", "multiple", "expected"),
    [
        (PaddingProfile.dynamic(), FIRST, 1, Shapes((3, 197, 267), ((197, 267),) * 3)),
        (PaddingProfile.dynamic((1, 2)), FIRST, 1, Shapes((1, 197, 267), ((197, 267),))),
        (PaddingProfile.dynamic((1, 1)), SQUARE, 256, Shapes((1, 512, 768), ((512, 768),))),
        (
            PaddingProfile.fixed(),
            SQUARE,
            1,
            Shapes((3, 512, 256), tuple((512 - rows, 256 - columns) for rows, columns in FIXED)),
        ),
        (
            PaddingProfile.fixed((256,), (256, 512), (1, 2)),
            SQUARE,
            1,
            Shapes((1, 256, 512), ((255, 457),)),
        ),
        (PaddingProfile.fixed((256,), (256,), (1, 1)), SQUARE, 1, Shapes((1, 256, 256), ((255, 201),))),
        (
            PaddingProfile.fixed((256,), (256, 512)).reflecting(4),
            SQUARE,
            4,
            Shapes((3, 256, 512), ((256, 512),) * 3),
        ),
    ],
)
def test_shapes_of_the_second_selftest(profile: PaddingProfile, first: Shapes, multiple: int, expected: Shapes) -> None:
    assert larger_shapes(profile, first, multiple) == expected
