"""Company, chance, lengths and strong contrasts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gloam.export.adopt.behaviour import expect_finite, expect_repeats, observe
from gloam.export.adopt.feeding import IMAGENET, Feeding
from gloam.export.adopt.findings import NotAdoptedError
from gloam.export.adopt.foreign import read_foreign
from gloam.export.adopt.probe import Runner
from gloam.export.adopt.sizes import Sizes
from gloam.export.adopt.written_graph import written_graph
from tests.foreign_files import DIMENSION, Shape, write_foreign

FEEDING = Feeding("nchw", "rgb", *IMAGENET)


def runner(tmp_path: Path, shape: Shape) -> Runner:
    return Runner(read_foreign(write_foreign(tmp_path / "a.onnx", shape)))


def names(refused: Any) -> list[str]:
    return [finding.name for finding in refused.value.findings]


@pytest.mark.parametrize(
    ("l2", "normalised", "found"),
    [(1, True, []), (0, False, [("no_l2", "repaired")]), (2, True, [("double_l2", "noted")])],
)
def test_lengths(tmp_path: Path, l2: int, normalised: bool, found: list[tuple[str, str]]) -> None:
    seen = observe(runner(tmp_path, Shape(l2=l2)), FEEDING, Sizes(None))
    assert (seen.dimension, seen.normalised) == (DIMENSION, normalised)
    assert [(finding.name, finding.outcome) for finding in seen.findings] == found


def test_company_that_changes_a_descriptor_is_refused_and_alone_it_is_not(tmp_path: Path) -> None:
    graph = runner(tmp_path, Shape(coupled=True))
    with pytest.raises(NotAdoptedError, match="batch coupling: an image's descriptor changes by") as refused:
        observe(graph, FEEDING, Sizes(None))
    assert names(refused) == ["batch_coupling"]
    assert observe(runner(tmp_path, Shape()), FEEDING, Sizes(None, batch=(1, 1))).normalised


def test_dropout_is_refused_though_onnx_runtime_leaves_it_out(tmp_path: Path) -> None:
    fed = FEEDING.fed(np.zeros((1, 64, 64, 3), np.uint8))
    with pytest.raises(NotAdoptedError, match=r"dropout left on: .*\(Dropout\).*export it in eval mode") as refused:
        expect_repeats(runner(tmp_path, Shape(dropout=True)), fed)
    assert names(refused) == ["dropout"]
    expect_repeats(runner(tmp_path, Shape()), fed)


def test_dropout_that_is_off_is_none(tmp_path: Path) -> None:
    from onnx import numpy_helper

    from tests.foreign_files import foreign_model

    model = foreign_model(Shape(dropout=True))
    for item in model.graph.initializer:
        if item.name == "training":
            item.CopyFrom(numpy_helper.from_array(np.array(False), "training"))
    (tmp_path / "off.onnx").write_bytes(model.SerializeToString())
    expect_repeats(Runner(read_foreign(tmp_path / "off.onnx")), FEEDING.fed(np.zeros((1, 64, 64, 3), np.uint8)))


def test_a_descriptor_of_zeros_is_none(tmp_path: Path) -> None:
    graph = runner(tmp_path, Shape(half=True, loud=True))  # a length beyond fp16's range, and all divided by it
    with pytest.raises(NotAdoptedError, match="not finite, or nothing but zeros") as refused:
        observe(graph, FEEDING, Sizes(None))
    assert names(refused) == ["half_overflow"]


@pytest.mark.parametrize("loud", [False, True])
@pytest.mark.parametrize("half", [False, True])
def test_halves_overflow_at_strong_contrasts_alone(tmp_path: Path, half: bool, loud: bool) -> None:
    graph = runner(tmp_path, Shape(half=half, loud=loud))
    proto = written_graph(graph.foreign, FEEDING, Sizes(None), DIMENSION, False)
    if not (half and loud):
        expect_finite(graph, FEEDING, Sizes(None), proto)
        return
    with pytest.raises(
        NotAdoptedError, match=r"fp16 overflow: a picture of strong contrasts, .* where halves"
    ) as refused:
        expect_finite(graph, FEEDING, Sizes(None), proto)
    assert names(refused) == ["half_overflow"]
