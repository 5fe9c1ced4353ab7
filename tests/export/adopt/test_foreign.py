"""A foreign file is read safely, and what it takes and gives is asked for where it does not tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gloam.errors import ModelError, UsageError
from gloam.export.adopt.foreign import read_foreign
from tests.foreign_files import Shape, foreign_model, write_foreign
from tests.tiny_models import write_tiny_embedder


def test_reads_its_ports_precision_and_weights(tmp_path: Path) -> None:
    foreign = read_foreign(write_foreign(tmp_path / "a.onnx"))
    assert (foreign.images.name, foreign.images.dtype, foreign.images.shape) == (
        "image",
        "float32",
        (None, 3, None, None),
    )
    assert str(foreign.images) == "image float32 [?, 3, ?, ?]"
    assert foreign.output.name == "out"
    assert foreign.precision == "fp32"
    assert read_foreign(write_foreign(tmp_path / "half.onnx", Shape(half=True))).precision == "fp16"
    other = read_foreign(write_foreign(tmp_path / "b.onnx", seed=1))
    assert foreign.weights_sha256 == read_foreign(write_foreign(tmp_path / "c.onnx")).weights_sha256
    assert foreign.weights_sha256 != other.weights_sha256


def test_weights_beside_it_are_taken_in(tmp_path: Path) -> None:
    whole = read_foreign(write_foreign(tmp_path / "whole.onnx"))
    onnx.save_model(
        foreign_model(), tmp_path / "a.onnx", save_as_external_data=True, location="a.data", size_threshold=0
    )
    assert (tmp_path / "a.data").stat().st_size > 0
    foreign = read_foreign(tmp_path / "a.onnx")
    assert foreign.weights_sha256 == whole.weights_sha256
    assert not any(onnx.external_data_helper.uses_external_data(item) for item in foreign.proto.graph.initializer)
    (tmp_path / "a.data").write_bytes(b"12")
    with pytest.raises(ModelError, match="weights in other files cannot be read"):
        read_foreign(tmp_path / "a.onnx")
    (tmp_path / "a.data").unlink()
    with pytest.raises(ModelError, match=r"takes weights from a\.data, which is not beside it"):
        read_foreign(tmp_path / "a.onnx")
    (tmp_path / "a.data").symlink_to(tmp_path / "whole.onnx")
    with pytest.raises(ModelError, match=r"takes weights from a\.data, a link"):
        read_foreign(tmp_path / "a.onnx")


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "", "a\\b", "a\nb"])
def test_weights_outside_its_folder_are_not_opened(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret").write_bytes(bytes(4096))
    folder = tmp_path / "inside"
    folder.mkdir()
    model = foreign_model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    (folder / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"takes weights from .*save the model as one file"):
        read_foreign(folder / "a.onnx")


def test_more_than_one_file_holds_is_refused_before_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.onnx"
    with file.open("wb") as handle:
        handle.truncate(1 << 31)  # a hole
    with pytest.raises(ModelError, match="2147483648 bytes, where one file of ONNX has at most"):
        read_foreign(file)


def test_what_is_no_foreign_model(tmp_path: Path) -> None:
    file = tmp_path / "a.onnx"
    with pytest.raises(ModelError, match="no such model file"):
        read_foreign(file)
    file.write_bytes(write_foreign(tmp_path / "b.onnx").read_bytes()[:-40])
    with pytest.raises(ModelError, match="not a readable ONNX model, or truncated"):
        read_foreign(file)
    file.write_bytes(b"")
    with pytest.raises(ModelError, match="has no graph"):
        read_foreign(file)
    (tmp_path / "a.pth").write_bytes(b"1")
    with pytest.raises(ModelError, match="weights, where an exported ONNX graph is needed"):
        read_foreign(tmp_path / "a.pth")
    write_tiny_embedder(file)
    with pytest.raises(ModelError, match="has a model card already"):
        read_foreign(file)


def changed(tmp_path: Path, change: str) -> Path:
    model = foreign_model()
    graph = model.graph
    if change == "custom":
        graph.node[0].domain = "com.example"
        model.opset_import.append(helper.make_opsetid("com.example", 1))
    elif change == "optimised":
        graph.node[0].domain = "com.microsoft"
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    elif change == "old":
        model.opset_import[0].version = 8
    elif change == "two images":
        graph.input.append(helper.make_tensor_value_info("second", TensorProto.FLOAT, ["batch", 3, 8, 8]))
    elif change == "more":
        graph.input.append(helper.make_tensor_value_info("noise", TensorProto.FLOAT, ["batch", 8]))
    elif change == "unbatched":
        graph.input[0].CopyFrom(helper.make_tensor_value_info("image", TensorProto.FLOAT, [3, "h", "w"]))
    elif change == "sequence":
        graph.output[0].CopyFrom(helper.make_tensor_sequence_value_info("out", TensorProto.FLOAT, None))
    elif change == "unsorted":
        first = graph.node[0]
        graph.node.append(first)
        del graph.node[0]
    file = tmp_path / "a.onnx"
    file.write_bytes(model.SerializeToString())
    return file


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("custom", "has a custom operator, com.example::Conv, which other runtimes lack; export it with operators of"),
        ("optimised", "com.microsoft::Conv.*adopt the file from before ONNX Runtime's optimiser"),
        ("old", "of opset 8, 9 or later is needed; lift it"),
        ("two images", r"takes 2 images .*second float32 \[\?, 3, 8, 8\]"),
        ("more", "an embedder takes images alone, make the others constants"),
        ("unbatched", "without a batch axis"),
        ("sequence", "out is no tensor"),
        ("unsorted", "not a valid ONNX model"),
    ],
)
def test_a_graph_that_no_embedder_has(tmp_path: Path, change: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        read_foreign(changed(tmp_path, change))


def test_one_of_several_outputs_is_asked_for(tmp_path: Path) -> None:
    file = write_foreign(tmp_path / "a.onnx", Shape(outputs=("out", "map")))
    with pytest.raises(UsageError, match=r"gives out .*, map .*; name the one that is the descriptor with --vector"):
        read_foreign(file)
    assert read_foreign(file, "map").output.name == "map"
    with pytest.raises(UsageError, match="--vector tokens is no output"):
        read_foreign(file, "tokens")


def test_functions_of_its_own_are_taken_apart(tmp_path: Path) -> None:
    model = foreign_model()
    double = helper.make_function(
        "local", "Twice", ["x"], ["y"], [helper.make_node("Add", ["x", "x"], ["y"])], [helper.make_opsetid("", 18)]
    )
    model.functions.append(double)
    model.opset_import.append(helper.make_opsetid("local", 1))
    last = model.graph.node[-1]
    last.CopyFrom(helper.make_node("Twice", list(last.input), list(last.output), domain="local"))
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    foreign = read_foreign(tmp_path / "a.onnx")
    assert {node.op_type for node in foreign.proto.graph.node} >= {"Add"}
    assert not foreign.proto.functions
    assert np.all([node.domain == "" for node in foreign.proto.graph.node])
