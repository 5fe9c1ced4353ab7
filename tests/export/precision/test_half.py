"""Half precision in the graph: which operators, which types, and nothing of the model's interface."""

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from gloam.errors import ModelError
from gloam.export.embedder import export_embedder
from gloam.export.precision.half import rounding_twin, to_half
from gloam.export.translator import export_translator
from gloam.networks.embedders import create_embedder
from gloam.networks.translators import create_generator
from gloam.padding import PaddingProfile

HALVES = {"fp16": (TensorProto.FLOAT16, np.float16, 20), "bf16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16, 22)}
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


@pytest.mark.parametrize("precision", HALVES)
def test_convolutions_are_half_and_delicate_operators_are_not(exported, precision):
    half, _, opset = HALVES[precision]
    before = exported.SerializeToString(deterministic=True)
    made, report = to_half(exported, precision)
    assert [item.version for item in made.opset_import if item.domain == ""] == [opset]
    assert exported.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(made, full_check=True)
    types = element_types(made)
    for node in made.graph.node:
        kinds = {types[name] for name in (*node.input, *node.output) if name}
        if node.op_type == "Conv" or (node.op_type == "ConvTranspose" and precision == "fp16"):
            assert kinds == {half}
        elif node.op_type == "ConvTranspose":  # TensorRT builds none in bf16
            assert half not in kinds
        elif node.op_type in FLOAT_ONLY:
            assert half not in kinds, node.op_type
    casts = sum(node.op_type == "Cast" for node in made.graph.node)
    assert casts - sum(node.op_type == "Cast" for node in exported.graph.node) == report.casts
    assert sum(report.half.values()) >= report.half["Conv"] > 0


@pytest.mark.parametrize("precision", HALVES)
def test_inputs_and_outputs_stay_what_they_were(exported, precision):
    made, _ = to_half(exported, precision)
    assert interface(made) == interface(exported)
    twin = rounding_twin(made)
    assert interface(twin) == interface(exported)
    onnx.checker.check_model(twin, full_check=True)


@pytest.mark.parametrize("precision", HALVES)
def test_weights_take_half_the_room(exported, precision):
    half, dtype, _ = HALVES[precision]
    made, _ = to_half(exported, precision)
    whole = {item.name: item for item in exported.graph.initializer}
    convolved = {node.input[1] for node in exported.graph.node if node.op_type == "Conv"}
    halves = {item.name.removesuffix(f".{precision}"): item for item in made.graph.initializer}
    for name in convolved & whole.keys():
        assert halves[name].data_type == half
        np.testing.assert_array_equal(
            numpy_helper.to_array(halves[name]), numpy_helper.to_array(whole[name]).astype(dtype)
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


@pytest.mark.parametrize("precision", HALVES)
def test_the_twin_rounds_where_the_graph_holds_halves(precision):
    """Against the same sums in numpy, with a rounding behind each operator; and no optimiser drops the roundings."""
    dtype = HALVES[precision][1]
    rng = np.random.default_rng(0)
    x, w = (rng.normal(1, 0.01, (1, 2, 8, 8)).astype(np.float32), rng.normal(size=(2, 2, 1, 1)).astype(np.float32))
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("LeakyRelu", ["c"], ["l"], alpha=0.3),
        helper.make_node("Pow", ["l", "p"], ["y"]),
    ]
    made, report = to_half(graph_of(nodes, {"w": w, "p": 2.0}, "y"), precision)
    assert report.half == {"Conv": 1, "LeakyRelu": 1}

    def rounded(values):
        return values.astype(dtype).astype(np.float32)

    summed = rounded(np.einsum("oi,bihw->bohw", rounded(w)[..., 0, 0], rounded(x)))
    expected = rounded(np.where(summed > 0, summed, np.float32(0.3) * summed)) ** 2
    twin = rounding_twin(made)
    onnx.checker.check_model(twin, full_check=True)
    session = onnxruntime.InferenceSession(twin.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": x})[0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    plain = np.einsum("oi,bihw->bohw", w[..., 0, 0], x)
    assert np.abs(found - np.where(plain > 0, plain, 0.3 * plain) ** 2).max() > {"fp16": 1e-4, "bf16": 1e-3}[precision]
    large = session.run(None, {"x": 1e5 * x})[0]
    assert np.isfinite(large).all() == (precision == "bf16")  # fp16 overflows, as it would on a GPU


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


def test_bf16_takes_what_fp16_cannot():
    nodes = [helper.make_node("Conv", ["x", "heavy"], ["c"]), helper.make_node("Clip", ["c", "", "most"], ["k"])]
    nodes.append(helper.make_node("Conv", ["k", "heavy"], ["y"]))
    most = np.finfo(np.float32).max  # "none": rounded to bf16 it would be infinite
    made, _ = to_half(graph_of(nodes, {"heavy": np.full((2, 2, 1, 1), 1e5), "most": most}, "y"), "bf16")
    for item in made.graph.initializer:
        assert np.isfinite(numpy_helper.to_array(item).astype(np.float32)).all()


def test_a_model_without_convolutions_is_refused():
    with pytest.raises(ModelError, match="no float32 convolution"):
        to_half(graph_of([helper.make_node("Relu", ["x"], ["y"])], {}, "y"))
