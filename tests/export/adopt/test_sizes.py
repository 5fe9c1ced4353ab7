"""Layout, sizes and batches are found by running a graph; one size alone must be stated."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from gloam.errors import ModelError, UsageError
from gloam.export.adopt.findings import NotAdoptedError
from gloam.export.adopt.foreign import read_foreign
from gloam.export.adopt.probe import Runner
from gloam.export.adopt.sizes import Sizes, find_layout, find_sizes
from tests.foreign_files import Shape, foreign_model, write_foreign


def runner(tmp_path: Path, shape: Shape) -> Runner:
    return Runner(read_foreign(write_foreign(tmp_path / "a.onnx", shape)))


def free_axes(tmp_path: Path, layout: str) -> Runner:
    model = foreign_model(Shape(layout=layout))
    for at in (1, 2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[at].dim_param = f"side{at}"
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    return Runner(read_foreign(tmp_path / "a.onnx"))


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_layout_by_shape_and_by_running(tmp_path: Path, layout: Literal["nchw", "nhwc"]) -> None:
    other: Literal["nchw", "nhwc"] = "nhwc" if layout == "nchw" else "nchw"
    for graph in (runner(tmp_path, Shape(layout=layout)), free_axes(tmp_path, layout)):
        assert find_layout(graph, None) == layout
        assert find_layout(graph, layout) == layout
        with pytest.raises(NotAdoptedError, match=f"wrong layout: --layout {other} is stated") as refused:
            find_layout(graph, other)
        assert [finding.name for finding in refused.value.findings] == ["layout"]


def test_grey_images_and_baked_batches(tmp_path: Path) -> None:
    model = foreign_model()
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1
    (tmp_path / "grey.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="no images of three channels"):
        find_layout(Runner(read_foreign(tmp_path / "grey.onnx")), None)
    with pytest.raises(ModelError, match="takes batches of 4 images alone"):
        find_layout(runner(tmp_path, Shape(batch=4)), None)


def test_any_size_and_batch(tmp_path: Path) -> None:
    assert find_sizes(runner(tmp_path, Shape()), "nchw", None) == Sizes(None, 1, 1, (1, 64))
    assert find_sizes(runner(tmp_path, Shape(batch=1)), "nchw", (400, 300)) == Sizes(None, 1, 1, (1, 1))


@pytest.mark.parametrize(
    ("shape", "name", "said"),
    [
        (Shape(size=(96, 128)), "baked_size", "takes 128x96 px alone; state --stretch 128x96"),
        (Shape(size=(112, 112), baked=True), "baked_size", "free in its shapes, but it runs at 112x112 px alone"),
        (Shape(tokens="frozen"), "frozen_tokens", "its 64 positions fit 112x112 px alone"),
        (Shape(tokens="cut"), "frozen_tokens", "its 1024 positions are cut"),
    ],
)
def test_one_size_is_stated_or_refused(tmp_path: Path, shape: Shape, name: str, said: str) -> None:
    graph = runner(tmp_path, shape)
    for stated in (None, (160, 160)):
        with pytest.raises(NotAdoptedError, match=said.split(";")[0]) as refused:
            find_sizes(graph, "nchw", stated)
        assert [finding.name for finding in refused.value.findings] == [name]
    right = (448, 448) if shape.tokens == "cut" else (128, 96) if shape.size == (96, 128) else (112, 112)
    sizes = find_sizes(graph, "nchw", right)
    assert sizes.only == (right[1], right[0])


@pytest.mark.parametrize("kernel", [100, 200])  # at a larger size, a map of several cells; or a part that is not seen
def test_pooling_by_a_kernel_of_the_example_is_a_baked_size(tmp_path: Path, kernel: int) -> None:
    graph = runner(tmp_path, Shape(kernel=kernel))
    with pytest.raises(NotAdoptedError, match="does not see the whole") as refused:
        find_sizes(graph, "nchw", None)
    assert [finding.name for finding in refused.value.findings] == ["baked_size"]
    assert find_sizes(graph, "nchw", (2 * kernel, 2 * kernel)).only == (2 * kernel, 2 * kernel)


def test_a_size_that_is_not_guessed_is_asked_for(tmp_path: Path) -> None:
    graph = runner(tmp_path, Shape(size=(90, 150), baked=True))
    with pytest.raises(ModelError, match="if it takes one size alone, state it with --stretch WxH"):
        find_sizes(graph, "nchw", None)
    sizes = find_sizes(graph, "nchw", (150, 90))
    assert sizes.only == (90, 150)
    assert (sizes.profile.kind, sizes.profile.heights, sizes.profile.widths) == ("dynamic", (90,), (150,))


def test_profiles() -> None:
    assert Sizes((64, 64)).profile.kind == "square"
    profile = Sizes(None, 14, 56).profile
    assert (profile.kind, profile.cell, profile.minimum) == ("dynamic", 14, 56)
    assert Sizes(None, 14, 56).near(20, 60) == (56, 70)


def test_channels_that_run_both_ways_are_asked_for(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
        helper.make_node("Identity", ["mean"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "both",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["b", "x", "y", "z"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["b", "n"])],
        [helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UsageError, match="runs with channels first and last; state --layout"):
        find_layout(Runner(read_foreign(tmp_path / "a.onnx")), None)
