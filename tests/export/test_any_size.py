"""What an exporter's example had by accident is in no graph: other sizes and batches give what torch gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from benchmarks import any_size
from gloam.errors import ModelError
from gloam.export.embedder import export_embedder
from gloam.export.graph import batch_axis, side_axis, trace
from gloam.export.local_features import export_local_features
from gloam.networks.clahe import ClaheLayer
from gloam.networks.embedders import DescriptorPipeline, create_embedder
from gloam.networks.embedders.how import HOW
from gloam.networks.embedders.resnet import BasicBlock, ResNet
from gloam.networks.translators.drit import MapNorm

SIZES = ((32, 32), (97, 131), (131, 97), (133, 140), (256, 256), (301, 517))  # the second is the exporter's own
BATCHES = (1, 2, 5)
LOCAL_SCALES = (1.0, 0.25)
PROVENANCE = {"recipe": "test", "data": "none", "licence": "none"}


def images(batch: int, height: int, width: int) -> Any:
    return np.random.default_rng(height * width + batch).integers(0, 256, (batch, height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, onnxruntime.InferenceSession]:
    """HOW at two scales, of which the smaller has one cell in the exporter's example; seven take a minute to trace."""
    torch.manual_seed(0)
    model = HOW("how_resnet18", ResNet(BasicBlock, (1, 1, 1, 1), 8), stride=32, dimension=16).eval()
    path = tmp_path_factory.mktemp("how") / "local.onnx"
    export_local_features(model, path, scales=LOCAL_SCALES, provenance=PROVENANCE)
    return model, onnxruntime.InferenceSession(path)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("size", SIZES[1:], ids=str)
def test_local_features_at_any_size_and_batch(
    local: tuple[Any, onnxruntime.InferenceSession], size: tuple[int, int], batch: int
) -> None:
    model, session = local
    given = images(batch, *size)
    found = session.run(None, {"images": given})
    with torch.no_grad():
        expected = model.local_features(torch.from_numpy(given), LOCAL_SCALES)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == tuple(other.shape)
        np.testing.assert_allclose(one, other.numpy(), atol=1e-4)


@pytest.fixture(scope="module")
def lit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, onnxruntime.InferenceSession]:
    torch.manual_seed(0)
    model = DescriptorPipeline(create_embedder("gem_vgg16", stages=((8, 1), (16, 2))), clahe=ClaheLayer()).eval()
    path = tmp_path_factory.mktemp("clahe") / "lit.onnx"
    export_embedder(model, path, provenance=PROVENANCE)
    return model, onnxruntime.InferenceSession(path)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_clahe_in_the_graph_at_any_size_and_batch(
    lit: tuple[Any, onnxruntime.InferenceSession], size: tuple[int, int], batch: int
) -> None:
    model, session = lit
    given = images(batch, *size)
    (found,) = session.run(None, {"images": given})
    with torch.no_grad():
        expected = model.describe_uint8(torch.from_numpy(given)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("case", list(any_size.cases()), ids=lambda case: case.name)
def test_every_kind_at_any_size_and_batch(case: any_size.Case) -> None:
    """One cell, two and many a side, long and square, batches of 1, 2 and 5."""
    found = any_size.measure(case, count=9, largest=300)
    assert found["failed"] is None
    assert found["worst"] > 0


def test_a_kind_that_differs_or_is_not_exported_is_counted() -> None:
    right = next(case for case in any_size.cases() if case.name == "gem_vgg16, dynamic")

    def shifted(path: Path) -> Any:
        card, truth = right.write(path)
        return card, lambda image: (truth(image)[0] + (image.shape[1] > 100),)

    def refused(path: Path) -> Any:
        raise ModelError("no such kind")

    assert (
        any_size.measure(any_size.Case("shifted", shifted), 2, (1,), 120)["failed"] == "1 of 120x32: differs by 6.0e-01"
    )
    assert any_size.measure(any_size.Case("refused", refused), 2)["failed"] == "export: no such kind"


def test_a_norm_over_millions_of_values_is_no_sum_of_them_one_by_one(tmp_path: Path) -> None:
    norm = MapNorm(4).eval()
    shape = {0: batch_axis(4), 2: side_axis("height"), 3: side_axis("width")}
    onnx.save(trace(norm, (torch.rand(2, 4, 9, 11),), {"x": shape}, "normalised", "norm"), tmp_path / "norm.onnx")
    given = torch.rand(1, 4, 1024, 1024, generator=torch.Generator().manual_seed(0)) + 3
    with torch.no_grad():
        expected = norm.double()(given.double()).numpy()
    (found,) = onnxruntime.InferenceSession(tmp_path / "norm.onnx").run(None, {"x": given.numpy()})
    assert np.abs(found - expected).max() <= 1e-5
