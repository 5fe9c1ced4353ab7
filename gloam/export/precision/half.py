"""Half precision inside an ONNX file: convolutions in fp16 or bf16, everything delicate in float32.

Of a transformer, what lies between two of its norms: projections, attention, perceptrons and the norms themselves, but
for what is told to stay in float32 (:mod:`gloam.export.precision.strain` finds that out).

Types are stated by Cast nodes and initialisers alone, as strongly typed engines want them (TensorRT 10 and 11); inputs
and outputs keep their types. What stays in float32 of all others: powers and means of pooling (x^3 leaves fp16's range
at x = 40), normalisation statistics, L2, whitening, softmax, resizing, the arithmetic on pixels in front of it, and in
bf16 transposed convolutions.

bf16 has float32's range and 8 bits of precision. Opset 22 is the first with a convolution for it. TensorRT reads that;
OpenVINO reads it too, and computes it in float32 where the processor has no bf16; ONNX Runtime's CPU has no kernel for
it, and computes fp16 in float32. What a GPU makes of a file is judged by a float32 twin that rounds where it does, see
:func:`rounding_twin`.

Written here because the converters at hand do not keep these promises: onnxconverter-common makes the output half where
the last operator is blocked, ONNX Runtime's gives graphs out of order, and NVIDIA's AutoCast pins an older onnx.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from gloam.errors import ModelError, require

Half = Literal["fp16", "bf16"]
LARGEST = {"fp16": 65504.0, "bf16": (2 - 2**-7) * 2.0**127}
BF16_OPSET = 22
# What half precision is for. TensorRT builds no transposed convolution in bf16, so that stays in float32.
COMPUTE = {"fp16": frozenset(("Conv", "ConvTranspose")), "bf16": frozenset(("Conv",))}
# What may pass halves on, where a half reaches it: no sums over many values, no powers, no statistics.
PASSING = frozenset(
    (
        "Add",
        "AveragePool",
        "BatchNormalization",
        "Clip",
        "Concat",
        "Dropout",
        "Identity",
        "LeakyRelu",
        "MaxPool",
        "Mul",
        "Pad",
        "PRelu",
        "Relu",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    )
)
# Of a transformer, between two norms.
MULTIPLIED = frozenset(("MatMul", "Gemm"))
NORM = "LayerNormalization"
BODY = frozenset((*MULTIPLIED, NORM, "Softmax"))
BODY_PASSING = frozenset(("Gelu", "Reshape"))
# Elementwise at the end of the body: where all that reads them is float32, they are its first step (GeM's clamp).
TRIMMED = frozenset(("Add", "Clip", "Identity", "Mul"))


@dataclass(frozen=True)
class HalfReport:
    """What a conversion did.

    Attributes:
        half: nodes that compute in half precision, by operator.
        casts: Cast nodes put in.
        kept: nodes that would strain half precision and stay in float32, by the name of their output: why.
    """

    half: dict[str, int]
    casts: int
    kept: dict[str, str] = field(default_factory=dict)


def to_half(proto: Any, precision: Half = "fp16", kept: Mapping[str, str] | None = None) -> tuple[Any, HalfReport]:
    """A float32 graph with its convolutions, and what lies between them, in half precision; and the body of a
    transformer.

    Args:
        proto: ``ModelProto``; left as it is.
        precision: ``fp16``, or ``bf16``, for which the graph is lifted to opset 22.
        kept: nodes of a transformer's body that stay in float32, by an output: why.

    Returns:
        the converted model and what was done.

    Raises:
        ModelError: nothing to convert; a weight is outside the range (its tensor is named); or an operator cannot be
            lifted to the opset.
    """
    onnx = require("onnx", "train", "convert a model's precision")
    model = lifted(proto, precision)
    graph = model.graph
    converter = _Converter(graph, onnx, model.opset_import, precision)
    chosen = converter.choose(kept or {})
    if not chosen:
        raise ModelError("the model has no float32 convolution, so there is nothing to convert to half precision")
    converter.rewrite(chosen)
    half = Counter(graph.node[index].op_type for index in converter.moved)
    del graph.value_info[:]
    return onnx.shape_inference.infer_shapes(model), HalfReport(
        dict(sorted(half.items())), converter.casts, dict(kept or {})
    )


def rounding_twin(proto: Any) -> Any:
    """A half-precision graph as float32 operators that are rounded wherever the graph holds halves.

    That is what a backend computes that adds in float32, as TensorRT and processors with bf16 do; those that fuse
    operators round less often. A norm and a softmax are rounded behind each of their steps, for there are backends that
    take a norm's squares in halves. What is beyond fp16's range becomes infinite, as it would there. It runs on any
    backend, slower than the float32 graph.

    Args:
        proto: of :func:`to_half`; left as it is.

    Returns:
        a model with the same inputs and outputs.
    """
    onnx = require("onnx", "train", "convert a model's precision")
    halves = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    model = _copy(proto)
    graph = model.graph
    types = _element_types(graph, onnx, model.opset_import)
    for item in graph.initializer:
        if item.data_type in halves:
            values = onnx.numpy_helper.to_array(item).astype(np.float32)
            item.CopyFrom(onnx.numpy_helper.from_array(values, item.name))
    nodes: list[Any] = []
    for node in graph.node:
        narrow = [name for name in node.output if types.get(name) in halves]
        if node.op_type == "Cast" and narrow:
            exact = {narrow[0]: node.input[0]}
        elif node.op_type == "Cast" and types[node.input[0]] in halves:
            exact = {}
            nodes.append(onnx.helper.make_node("Identity", node.input, node.output))
        else:
            exact = {name: f"{name}.exact" for name in narrow}
            made = _copy(node)
            made.output[:] = [exact.get(name, name) for name in node.output]
            nodes.extend(narrowed(made, types[narrow[0]]) if narrow else [made])
        for name, given in exact.items():
            nodes.extend(rounded(given, name, types[name]))
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    return model


def rounded(given: str, name: str, kind: int) -> list[Any]:
    """Nodes by which ``name`` is the float32 tensor ``given`` as an element type of few bits holds it."""
    onnx = require("onnx", "train", "convert a model's precision")
    return [
        onnx.helper.make_node("Cast", [given], [f"{name}.rounded"], to=kind),
        onnx.helper.make_node("Cast", [f"{name}.rounded"], [name], to=onnx.TensorProto.FLOAT),
    ]


def narrowed(node: Any, kind: int) -> list[Any]:
    """A float32 node as steps that are each rounded to an element type of few bits, but for its output; itself where it
    is one step."""
    onnx = require("onnx", "train", "convert a model's precision")
    options = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    steps: list[Any] = []
    end = node.output[0]
    axes = f"{end}.axes"

    def step(operator: str, given: list[str], name: str, **attributes: Any) -> str:
        exact = f"{end}.{name}.exact"
        steps.append(onnx.helper.make_node(operator, given, [exact], **attributes))
        steps.extend(rounded(exact, f"{end}.{name}", kind))
        return f"{end}.{name}"

    def constant(name: str, value: Any) -> str:
        steps.append(onnx.helper.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(value)))
        return name

    if node.op_type == "Softmax":
        constant(axes, np.array([options.get("axis", -1)], np.int64))
        largest = step("ReduceMax", [node.input[0], axes], "largest")
        raised = step("Exp", [step("Sub", [node.input[0], largest], "less")], "raised")
        total = step("ReduceSum", [raised, axes], "total")
        return [*steps, onnx.helper.make_node("Div", [raised, total], [end])]
    if node.op_type == NORM and options.get("axis", -1) == -1:
        constant(axes, np.array([-1], np.int64))
        least = constant(f"{end}.epsilon", np.array(options.get("epsilon", 1e-5), np.float32))
        mean = step("ReduceMean", [node.input[0], axes], "mean")
        centred = step("Sub", [node.input[0], mean], "centred")
        variance = step("ReduceMean", [step("Mul", [centred, centred], "squares"), axes], "variance")
        deviation = step("Sqrt", [step("Add", [variance, least], "raised")], "deviation")
        scaled = [step("Div", [centred, deviation], "normal"), node.input[1]]
        if len(node.input) == 2:
            return [*steps, onnx.helper.make_node("Mul", scaled, [end])]
        product = step("Mul", scaled, "scaled")
        return [*steps, onnx.helper.make_node("Add", [product, node.input[2]], [end])]
    return [node]


def lifted(proto: Any, precision: Half) -> Any:
    """A copy with its constants as initialisers; of bf16 at the opset that has it for every operator of ours."""
    onnx = require("onnx", "train", "convert a model's precision")
    model = _copy(proto) if precision == "fp16" else _at_bf16(proto, onnx)
    _constants_to_initializers(model.graph, onnx)
    return model


def body_of(graph: Any) -> set[int]:
    """Indices of the nodes of a transformer's body: norms, and what their values reach, in front of another norm."""
    behind, ahead = set[int](), set[int]()
    values, wanted = set[str](), set[str]()
    nodes = list(enumerate(graph.node))  # in topological order
    for index, node in nodes:
        if node.op_type == NORM or not values.isdisjoint(node.input):
            behind.add(index)
            values.update(name for name in node.output if name)
    for index, node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            ahead.add(index)
        if node.op_type == NORM or index in ahead:
            wanted.update(name for name in node.input if name)
    return behind & ahead


def _at_bf16(proto: Any, onnx: Any) -> Any:
    try:
        return onnx.version_converter.convert_version(proto, BF16_OPSET)
    except Exception as error:  # the converter's own errors share no base class
        reason = str(error).strip().splitlines()[0][:200]
        raise ModelError(f"the graph cannot be lifted to opset {BF16_OPSET}, which bf16 needs ({reason})") from error


def _constants_to_initializers(graph: Any, onnx: Any) -> None:
    """Constant nodes as initialisers, so that one rule converts both."""
    kept = []
    for node in graph.node:
        value = next((item.t for item in node.attribute if item.name == "value"), None)
        if node.op_type != "Constant" or value is None:
            kept.append(node)
            continue
        tensor = graph.initializer.add()
        tensor.CopyFrom(value)
        tensor.name = node.output[0]
    nodes = [_copy(node) for node in kept]
    del graph.node[:]
    graph.node.extend(nodes)


def _copy(message: Any) -> Any:
    copied = type(message)()
    copied.CopyFrom(message)
    return copied


class _Converter:
    """One graph's conversion: which nodes, then casts and weights."""

    def __init__(self, graph: Any, onnx: Any, opsets: Any, precision: Half) -> None:
        self.graph, self.onnx, self.precision = graph, onnx, precision
        self.float32 = onnx.TensorProto.FLOAT
        self.half = onnx.TensorProto.FLOAT16 if precision == "fp16" else onnx.TensorProto.BFLOAT16
        self.initializers = {item.name: item for item in graph.initializer}
        self.types = _element_types(graph, onnx, opsets)
        self.readers: dict[str, list[int]] = defaultdict(list)
        for index, node in enumerate(graph.node):
            for name in node.input:
                self.readers[name].append(index)
        self.outputs = {item.name for item in graph.output}
        self.casts = 0
        self.moved: list[int] = []  # indices of half nodes in the rewritten graph

    def choose(self, kept: Collection[str]) -> set[int]:
        """Indices of the nodes that become half: computing ones, what passes their values on, less the float tail and
        what is kept."""
        chosen: set[int] = set()
        halves: set[str] = set()
        body = body_of(self.graph)
        for index, node in enumerate(self.graph.node):  # in topological order
            given = self._float_inputs(node)
            computed = [name for name in given if name not in self.initializers]
            within = index in body
            passes = node.op_type in PASSING or (within and node.op_type in BODY_PASSING)
            passing = passes and any(name in halves for name in computed)
            if node.op_type == "Concat":
                passing = passing and all(name in halves for name in computed)
            computing = node.op_type in COMPUTE[self.precision] or (within and node.op_type in BODY)
            if given and (computing or passing) and not any(name in kept for name in node.output):
                chosen.add(index)
                halves.update(name for name in node.output if self.types.get(name) == self.float32)
        trimmed = True
        while trimmed:
            ends = [i for i in chosen if self.graph.node[i].op_type in TRIMMED and self._ends(i, chosen)]
            trimmed = bool(ends)
            chosen.difference_update(ends)
        return chosen

    def _ends(self, index: int, chosen: set[int]) -> bool:
        readers = [reader for name in self.graph.node[index].output for reader in self.readers[name]]
        return bool(readers) and not any(reader in chosen for reader in readers)

    def _float_inputs(self, node: Any) -> list[str]:
        return [name for name in node.input if name and self.types.get(name) == self.float32]

    def rewrite(self, chosen: set[int]) -> None:
        """Put the casts in and convert the weights; the nodes stay in topological order."""
        halves: dict[str, str] = {}  # float32 tensor -> its half
        floats: dict[str, str] = {}  # half tensor, by its old name -> its float32
        made: set[str] = set()  # old names of tensors that are half now
        nodes: list[Any] = []
        for index, node in enumerate(self.graph.node):
            half = index in chosen
            for at, name in enumerate(node.input):
                if self.types.get(name) != self.float32:
                    continue
                if half and name not in made:
                    node.input[at] = self._half_of(name, halves, nodes)
                elif not half and name in made:
                    node.input[at] = self._cast(name, f"{name}.float32", self.float32, floats, nodes)
            if half:
                made.update(name for name in node.output if self.types.get(name) == self.float32)
                self.moved.append(len(nodes))
            nodes.append(_copy(node))
        for name in self.outputs & made:  # the graph's own outputs keep their names and types
            inner = f"{name}.{self.precision}"
            for node in nodes:
                for names in (node.input, node.output):
                    for at, item in enumerate(names):
                        if item == name:
                            names[at] = inner
            nodes.append(self.onnx.helper.make_node("Cast", [inner], [name], to=self.float32))
            self.casts += 1
        del self.graph.node[:]
        self.graph.node.extend(nodes)
        used = {name for node in nodes for name in node.input} | self.outputs
        kept = [_copy(item) for item in self.graph.initializer if item.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)

    def _half_of(self, name: str, halves: dict[str, str], nodes: list[Any]) -> str:
        if name not in self.initializers:
            return self._cast(name, f"{name}.{self.precision}", self.half, halves, nodes)
        if name not in halves:
            halves[name] = f"{name}.{self.precision}"
            values = self.onnx.numpy_helper.to_array(self.initializers[name])
            largest = LARGEST[self.precision]
            beyond = np.abs(values) > largest
            if beyond.any() and values.size > 1:  # a single one is a bound of Clip that means "none"
                raise ModelError(f"tensor {name} holds values beyond {self.precision}'s {largest:g}; export it in fp32")
            values = np.where(beyond, np.sign(values) * largest, values)
            dtype = self.onnx.helper.tensor_dtype_to_np_dtype(self.half)
            self.graph.initializer.append(self.onnx.numpy_helper.from_array(values.astype(dtype), halves[name]))
        return halves[name]

    def _cast(self, name: str, wanted: str, kind: int, known: dict[str, str], nodes: list[Any]) -> str:
        if name not in known:
            known[name] = wanted
            nodes.append(self.onnx.helper.make_node("Cast", [name], [wanted], to=kind))
            self.casts += 1
        return known[name]


def _element_types(graph: Any, onnx: Any, opsets: Any) -> dict[str, int]:
    """Element type of every tensor, by name, as inference finds it.

    Raises:
        ModelError: a node's output has no known type (its name and operator are stated).
    """
    model = onnx.helper.make_model(graph, opset_imports=opsets)
    inferred = onnx.shape_inference.infer_shapes(model).graph
    types = {item.name: item.type.tensor_type.elem_type for item in (*inferred.value_info, *inferred.input)}
    types |= {item.name: item.type.tensor_type.elem_type for item in inferred.output}
    types |= {item.name: item.data_type for item in graph.initializer}
    for node in graph.node:
        for name in node.output:
            if name and not types.get(name):
                raise ModelError(f"node {node.name or name} ({node.op_type}): the type of its output is not known")
    return types
