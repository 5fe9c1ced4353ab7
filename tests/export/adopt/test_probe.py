"""What a graph's structure says: where its network begins and ends, its patches, positions and random numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from gloam.errors import ModelError
from gloam.export.adopt.feeding import IMAGENET, Feeding
from gloam.export.adopt.foreign import Foreign, read_foreign
from gloam.export.adopt.probe import (
    BEFORE_L2,
    FRONT,
    VIEWS,
    Runner,
    contrasts,
    front_tensor,
    patch_of,
    pictures,
    position_tokens,
    random_nodes,
    tensor_before_l2,
)
from tests.foreign_files import DIMENSION, PATCH, PLAIN, Shape, foreign_model, write_foreign


def foreign(tmp_path: Path, shape: Shape = PLAIN) -> Foreign:
    return read_foreign(write_foreign(tmp_path / "a.onnx", shape))


def test_where_the_network_begins_and_ends(tmp_path: Path) -> None:
    assert front_tensor(foreign(tmp_path)) == "image"
    scaled = foreign(tmp_path, Shape(scaled="imagenet"))
    last = next(node for node in scaled.proto.graph.node if node.op_type == "Conv").input[0]
    assert front_tensor(scaled) == last != "image"
    assert tensor_before_l2(foreign(tmp_path, Shape(l2=0))) is None
    runner = Runner(foreign(tmp_path, Shape(l2=1)))
    fed = Feeding("nchw", "rgb", *IMAGENET).fed(next(pictures([(64, 80)]))[None])
    assert abs(np.linalg.norm(runner.watch(BEFORE_L2, fed)) - 1) > 0.1
    assert np.linalg.norm(runner.describe(fed)) == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(runner.watch(FRONT, fed), fed)


def test_patches_and_positions(tmp_path: Path) -> None:
    assert patch_of(foreign(tmp_path)) is None
    assert position_tokens(foreign(tmp_path)) is None
    frozen = foreign(tmp_path, Shape(tokens="frozen"))
    assert (patch_of(frozen), position_tokens(frozen)) == (PATCH, (64, False))
    assert position_tokens(foreign(tmp_path, Shape(tokens="cut"))) == (1024, True)


def test_random_numbers(tmp_path: Path) -> None:
    assert random_nodes(foreign(tmp_path)) == []
    assert random_nodes(foreign(tmp_path, Shape(dropout=True))) == ["Dropout"]


def test_each_run_is_told_and_a_failure_is_a_line(tmp_path: Path) -> None:
    beats: list[int] = []
    runner = Runner(foreign(tmp_path), lambda: beats.append(1))
    assert runner.describe(np.zeros((2, 3, 40, 50), np.float32)).shape == (2, DIMENSION)
    why = runner.runs(np.zeros((1, 4, 40, 50), np.float32))
    assert why is not None
    assert "does not run on [1, 4, 40, 50]" in why
    assert "\n" not in why
    assert len(beats) == 2


def test_a_map_is_no_descriptor(tmp_path: Path) -> None:
    model = foreign_model()
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info(conv.output[0], TensorProto.FLOAT, ["b", 16, "h", "w"])
    )
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="and no descriptor an image"):
        Runner(read_foreign(tmp_path / "a.onnx")).describe(np.zeros((1, 3, 40, 50), np.float32))


def test_pictures_and_contrasts() -> None:
    made = list(pictures([(40, 50)] * VIEWS))
    assert [image.shape for image in made] == [(40, 50, 3)] * VIEWS
    assert len({image.tobytes() for image in made}) == VIEWS
    assert any(np.ptp(image, axis=2).max() > 20 for image in made)  # coloured
    strong = contrasts(32, 48)
    assert strong.shape == (5, 32, 48, 3)
    assert set(np.unique(strong)) == {0, 255}
