"""A card is read past the graph, and what is no model is refused in a line."""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from gloam.errors import ModelError
from gloam.model_card import METADATA_KEY, ModelCard
from gloam.runtime.backends.onnx_file import read_card
from gloam.runtime.backends.openvino import OpenVinoSession
from gloam.runtime.backends.ort import OrtSession
from tests.tiny_models import write_tiny_embedder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    write_tiny_embedder(path)
    return path


def test_the_card_is_that_of_a_session(model: Path) -> None:
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    text = session.get_modelmeta().custom_metadata_map[METADATA_KEY]
    assert read_card(model) == ModelCard.from_json(text)


def test_other_metadata_does_not_matter(model: Path) -> None:
    proto, card = onnx.load(model), read_card(model)
    for key in ("before", "gloam.cards", ""):
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, "ä" * 200  # longer than one byte can say
    proto.metadata_props.reverse()
    onnx.save(proto, model)
    assert read_card(model) == card


def test_every_cut_is_one_line(model: Path) -> None:
    whole = model.read_bytes()
    refused = r"not a readable ONNX model, or truncated|without a gloam model card"
    for length in range(0, len(whole), 7):
        model.write_bytes(whole[:length])
        with pytest.raises(ModelError, match=refused) as caught:
            read_card(model)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"no model at all", b"\x00\x00", b"\xff" * 40, b"\x72\x04\x0a\x02\xff\xfe", b"\x89PNG\r\n\x1a\n" * 9],
)
def test_what_is_no_model_is_one_line(model: Path, content: bytes) -> None:
    model.write_bytes(content)
    with pytest.raises(ModelError, match="not a readable ONNX model") as caught:
        read_card(model)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model file"):
        read_card(tmp_path)


@pytest.mark.parametrize(("precision", "advice"), [("fp32", "update ONNX Runtime"), ("bf16", "gloam engine")])
def test_an_operator_that_onnx_runtime_lacks_is_named(model: Path, precision: str, advice: str) -> None:
    """Its CPU multiplies no bf16 matrices; the card is read all the same."""
    proto, card = onnx.load(model), dataclasses.replace(read_card(model), precision=precision)
    cast, reduce, multiply, normalise = proto.graph.node
    multiply.name, multiply.output[0] = "the_node", "product"
    narrow = [helper.make_node("Cast", [name], [f"{name}.b"], to=TensorProto.BFLOAT16) for name in multiply.input]
    multiply.input[:] = [f"{name}.b" for name in multiply.input]
    wide = helper.make_node("Cast", ["product"], ["projected"], to=TensorProto.FLOAT)
    nodes = [cast, reduce, *narrow, multiply, wide, normalise]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del proto.graph.node[:]
    proto.graph.node.extend(copies)
    proto.metadata_props[0].value = card.to_json()
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, model)
    assert read_card(model) == card
    with pytest.raises(ModelError, match=f"lacks an operator in {precision} .*MatMul.*the_node.*{advice}") as caught:
        OrtSession(model)
    assert "\n" not in str(caught.value)


def resaved(model: Path, change: Callable[[Any], object]) -> None:
    proto = onnx.load(model)
    change(proto)
    model.write_bytes(proto.SerializeToString())


def test_two_cards_are_refused(model: Path) -> None:
    def add(proto: Any) -> None:
        entry = proto.metadata_props.add()
        entry.key, entry.value = METADATA_KEY, proto.metadata_props[0].value

    resaved(model, add)
    with pytest.raises(ModelError, match=r"model\.onnx: has 2 model cards"):
        read_card(model)


def outside(tensor: Any, location: str) -> None:
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location


@pytest.mark.parametrize("location", ["weights.bin", "../../etc/passwd", "/etc/passwd", "a\x1b[2J"])
@pytest.mark.parametrize("place", ["initializer", "constant", "branch", "function"])
def test_weights_in_another_file_are_refused_by_its_name(model: Path, location: str, place: str) -> None:
    def change(proto: Any) -> None:
        tensor = proto.graph.initializer[1]
        if place == "initializer":
            outside(tensor, location)
            return
        constant = helper.make_node(
            "Constant", [], ["unused"], value=helper.make_tensor("t", TensorProto.FLOAT, [1], [1])
        )
        outside(constant.attribute[0].t, location)
        if place == "function":
            proto.functions.add(name="f", domain="d").node.append(constant)
        elif place == "branch":
            branch = helper.make_graph([constant], "b", [], [])
            proto.graph.node.append(helper.make_node("If", ["c"], ["o"], then_branch=branch, else_branch=branch))
        else:
            proto.graph.node.append(constant)

    resaved(model, change)
    with pytest.raises(ModelError, match=r"model\.onnx: takes weights from another file \(") as error:
        read_card(model)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("backend", [OrtSession, OpenVinoSession])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dimension": 512, "outputs.0.shape": ["batch", 512]}, r"'descriptors' is \['batch', 512\], the graph's is"),
        ({"outputs.0.name": "features"}, "names the output 'features', the graph has descriptors"),
        ({"inputs.0.name": "pictures"}, "names the input 'pictures', the graph has images"),
        ({"inputs.0.shape": ["batch", "height", "width", 1]}, "the card says that the input 'images'"),
    ],
)
def test_the_graph_decides_what_a_card_may_say(
    model: Path, backend: Callable[[Path], object], change: dict[str, Any], message: str
) -> None:
    if backend is OpenVinoSession:
        pytest.importorskip("openvino")

    def lie(proto: Any) -> None:
        value = json.loads(proto.metadata_props[0].value)
        for name, item in change.items():
            part, (*above, last) = value, name.split(".")
            for key in above:
                part = part[int(key)] if isinstance(part, list) else part[key]
            part[last] = item
        proto.metadata_props[0].value = json.dumps(value)

    resaved(model, lie)
    with pytest.raises(ModelError, match=message):
        backend(model)


def test_a_pipe_is_no_model(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="a pipe, socket or device"):
        read_card(tmp_path / "m.onnx")
