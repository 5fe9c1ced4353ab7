"""The written graph gives what the foreign one gives of what numpy feeds it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from gloam.export.adopt.feeding import BYTE, CAFFE, IMAGENET, ZERO, Feeding
from gloam.export.adopt.foreign import read_foreign
from gloam.export.adopt.probe import Runner
from gloam.export.adopt.sizes import Sizes
from gloam.export.adopt.written_graph import INSIDE, written_graph
from tests.foreign_files import DIMENSION, Shape, foreign_model, write_foreign


@pytest.mark.parametrize(
    ("shape", "feeding"),
    [
        (Shape(), Feeding("nchw", "rgb", *IMAGENET)),
        (Shape(l2=0), Feeding("nchw", "bgr", *CAFFE)),
        (Shape(layout="nhwc", scaled="bytes"), Feeding("nhwc", "bgr", ZERO, BYTE)),
        (Shape(layout="nhwc", scaled="bytes", dtype=TensorProto.UINT8), Feeding("nhwc", "rgb", ZERO, BYTE)),
        (Shape(half=True), Feeding("nchw", "rgb", *IMAGENET)),
    ],
)
def test_it_equals_its_plain_twin(tmp_path: Path, shape: Shape, feeding: Feeding) -> None:
    foreign = read_foreign(write_foreign(tmp_path / "a.onnx", shape))
    proto = written_graph(foreign, feeding, Sizes(None), DIMENSION, normalise=shape.l2 == 0)
    images = np.random.default_rng(0).integers(0, 256, (2, 45, 60, 3), np.uint8)
    found = onnxruntime.InferenceSession(proto.SerializeToString()).run(["descriptors"], {"images": images})[0]
    want = Runner(foreign).describe(feeding.fed(images, foreign.images.dtype))
    want = want / np.linalg.norm(want, axis=1, keepdims=True)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, want, atol=3e-3 if shape.half else 1e-6)


def test_weights_stay_as_they_are_and_a_cast_comes_first(tmp_path: Path) -> None:
    foreign = read_foreign(write_foreign(tmp_path / "a.onnx"))
    before = foreign.proto.SerializeToString()
    proto = written_graph(foreign, Feeding("nchw", "rgb", *IMAGENET), Sizes(None), DIMENSION, True)
    assert foreign.proto.SerializeToString() == before
    inside = {item.name: numpy_helper.to_array(item) for item in proto.graph.initializer}
    for item in foreign.proto.graph.initializer:
        np.testing.assert_array_equal(inside[INSIDE + item.name], numpy_helper.to_array(item))
    taking = [node.op_type for node in proto.graph.node if "images" in node.input]
    assert taking == ["Cast"]
    assert not proto.metadata_props


def test_branches_that_read_what_is_outside_of_them(tmp_path: Path) -> None:
    model = foreign_model()
    graph = model.graph
    last = graph.node[-1]
    branches = {}
    for name, operator in (("then_branch", "Identity"), ("else_branch", "Neg")):
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        branches[name] = helper.make_graph([helper.make_node(operator, [last.input[0]], [name])], name, [], [value])
    graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [False]))
    last.CopyFrom(helper.make_node("If", ["yes"], list(last.output), **branches))
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    foreign = read_foreign(tmp_path / "a.onnx")
    feeding = Feeding("nchw", "rgb", *IMAGENET)
    proto = written_graph(foreign, feeding, Sizes(None), DIMENSION, normalise=False)
    images = np.random.default_rng(0).integers(0, 256, (2, 45, 60, 3), np.uint8)
    found = onnxruntime.InferenceSession(proto.SerializeToString()).run(["descriptors"], {"images": images})[0]
    np.testing.assert_allclose(found, Runner(foreign).describe(feeding.fed(images)), atol=1e-6)


@pytest.mark.parametrize("sizes", [Sizes((64, 48)), Sizes(None, batch=(1, 1))])
def test_its_shapes_say_what_it_takes(tmp_path: Path, sizes: Sizes) -> None:
    foreign = read_foreign(write_foreign(tmp_path / "a.onnx"))
    proto = written_graph(foreign, Feeding("nchw", "rgb", *IMAGENET), sizes, DIMENSION, False)
    axes = proto.graph.input[0].type.tensor_type.shape.dim
    want = [0, 64, 48, 3] if sizes.only else [1, 0, 0, 3]
    assert [axis.dim_value for axis in axes] == want
