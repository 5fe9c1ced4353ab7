"""Half precision in the graph: which operators, which types, and nothing of the model's interface."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from gloam.errors import ModelError
from gloam.export.onnx import export_embedder
from gloam.export.precision import to_half
from gloam.export.translator import export_translator
from gloam.padding import PaddingProfile
from gloam.training.networks.embedders import create_embedder
from gloam.training.networks.translators import create_generator

FLOAT_ONLY = {"Pow", "ReduceMean", "ReduceSum", "ReduceL2", "Div", "Sqrt", "Gemm", "MatMul", "Softmax", "Resize"}
FLOAT_ONLY |= {"InstanceNormalization", "Sub", "Expand", "Tanh"}


def element_types(model):
    inferred = onnx.shape_inference.infer_shapes(model).graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.input, *inferred.output)}
    return types | {item.name: item.data_type for item in inferred.initializer}


def interface(model):
    values = (*model.graph.input, *model.graph.output)
    return [(v.name, v.type.SerializeToString()) for v in values]


@pytest.fixture(scope="module", params=["resnet", "masked", "netvlad", "generator"])
def exported(request, tmp_path_factory):
    """A small float32 model of each kind of graph."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("half") / "model.onnx"
    if request.param == "generator":
        export_translator(create_generator("resnet", norm="instance", width=4, blocks=1), path)
    else:
        fixed = PaddingProfile.fixed((256,), (256,))
        name = {"resnet": "gem_resnet18", "masked": "gem_resnet18", "netvlad": "netvlad_vgg16"}[request.param]
        options = {"width": 8} if name == "gem_resnet18" else {}
        profile = fixed if request.param == "masked" else None
        export_embedder(create_embedder(name, **options), path, profile=profile, provenance={})
    return onnx.load(path)


def test_convolutions_are_half_and_delicate_operators_are_not(exported):
    before = exported.SerializeToString(deterministic=True)
    made, report = to_half(exported)
    assert exported.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(made, full_check=True)
    types = element_types(made)
    for node in made.graph.node:
        kinds = {types[name] for name in (*node.input, *node.output) if name}
        if node.op_type in ("Conv", "ConvTranspose"):
            assert kinds == {TensorProto.FLOAT16}
        elif node.op_type in FLOAT_ONLY:
            assert TensorProto.FLOAT16 not in kinds, node.op_type
    casts = sum(node.op_type == "Cast" for node in made.graph.node)
    assert casts - sum(node.op_type == "Cast" for node in exported.graph.node) == report.casts
    assert sum(report.half.values()) >= report.half["Conv"] > 0


def test_inputs_and_outputs_stay_what_they_were(exported):
    assert interface(to_half(exported)[0]) == interface(exported)


def test_weights_take_half_the_room(exported):
    made, _ = to_half(exported)
    whole = {item.name: item for item in exported.graph.initializer}
    convolved = {node.input[1] for node in exported.graph.node if node.op_type == "Conv"}
    halves = {item.name.removesuffix(".fp16"): item for item in made.graph.initializer}
    for name in convolved & whole.keys():
        assert halves[name].data_type == TensorProto.FLOAT16
        np.testing.assert_array_equal(
            numpy_helper.to_array(halves[name]), numpy_helper.to_array(whole[name]).astype(np.float16)
        )


def graph_of(nodes, weights, output):
    """A model of one input ``x`` [1, 2, 8, 8]."""
    values = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 8, 8])
    made = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "graph", [given], [made], values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_the_clamp_in_front_of_a_power_is_float32():
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Clip", ["r", "least"], ["k"]),
        helper.make_node("Pow", ["k", "p"], ["y"]),
    ]
    model = graph_of(nodes, {"w": np.ones((2, 2, 1, 1)), "least": 1e-6, "p": 3.0}, "y")
    made, report = to_half(model)
    assert report.half == {"Conv": 1, "Relu": 1}
    assert [node.op_type for node in made.graph.node] == ["Cast", "Conv", "Relu", "Cast", "Clip", "Pow"]


def test_a_half_output_is_cast_back_under_its_name():
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])]
    made, _ = to_half(graph_of(nodes, {"w": np.ones((2, 2, 1, 1))}, "y"))
    assert [node.op_type for node in made.graph.node] == ["Cast", "Conv", "Relu", "Cast"]
    assert made.graph.node[-1].output == ["y"]
    assert element_types(made)["y"] == TensorProto.FLOAT


def test_weights_beyond_the_range_are_named():
    nodes = [helper.make_node("Conv", ["x", "heavy"], ["y"])]
    with pytest.raises(ModelError, match=r"tensor heavy holds values beyond fp16's 65504; export it in fp32"):
        to_half(graph_of(nodes, {"heavy": np.full((2, 2, 1, 1), 1e5)}, "y"))


def test_a_model_without_convolutions_is_refused():
    with pytest.raises(ModelError, match="no float32 convolution"):
        to_half(graph_of([helper.make_node("Relu", ["x"], ["y"])], {}, "y"))
