"""Half precision inside an ONNX file: convolutions in fp16, everything delicate in float32.

Types are stated by Cast nodes and initialisers alone, as strongly typed engines want them (TensorRT 10 and 11); inputs
and outputs keep their types. What stays in float32: powers and means of pooling (x^3 leaves fp16's range at x = 40),
normalisation statistics, L2, whitening, softmax, resizing, and the arithmetic on pixels in front of the network.

Written here because the converters at hand do not keep these promises: onnxconverter-common makes the output half where
the last operator is blocked, ONNX Runtime's gives graphs out of order, and NVIDIA's AutoCast pins an older onnx. bf16
is no matter of the file: opset 20 has no convolution for it, and backends that compute in it take float32 files.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from gloam.errors import ModelError, require

LARGEST_FP16 = 65504.0

COMPUTE = frozenset(("Conv", "ConvTranspose"))  # what half precision is for
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
# Elementwise at the end of the body: where all that reads them is float32, they are its first step (GeM's clamp).
TRIMMED = frozenset(("Add", "Clip", "Identity", "Mul"))


@dataclass(frozen=True)
class HalfReport:
    """What a conversion did.

    Attributes:
        half: nodes that compute in half precision, by operator.
        casts: Cast nodes put in.
    """

    half: dict[str, int]
    casts: int


def to_half(proto: Any) -> tuple[Any, HalfReport]:
    """A float32 graph with its convolutions, and what lies between them, in half precision.

    Args:
        proto: ``ModelProto``; left as it is.

    Returns:
        the converted model and what was done.

    Raises:
        ModelError: nothing to convert; or a weight is outside fp16's range (its tensor is named).
    """
    onnx = require("onnx", "train", "convert a model's precision")
    model = type(proto)()
    model.CopyFrom(proto)
    graph = model.graph
    _constants_to_initializers(graph, onnx)
    converter = _Converter(graph, onnx, model.opset_import)
    chosen = converter.choose()
    if not chosen:
        raise ModelError("the model has no float32 convolution, so there is nothing to convert to half precision")
    converter.rewrite(chosen)
    half = Counter(graph.node[index].op_type for index in converter.moved)
    del graph.value_info[:]
    return onnx.shape_inference.infer_shapes(model), HalfReport(dict(sorted(half.items())), converter.casts)


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

    def __init__(self, graph: Any, onnx: Any, opsets: Any) -> None:
        self.graph, self.onnx = graph, onnx
        self.float32 = onnx.TensorProto.FLOAT
        self.initializers = {item.name: item for item in graph.initializer}
        self.types = _element_types(graph, onnx, opsets)
        self.readers: dict[str, list[int]] = defaultdict(list)
        for index, node in enumerate(graph.node):
            for name in node.input:
                self.readers[name].append(index)
        self.outputs = {item.name for item in graph.output}
        self.casts = 0
        self.moved: list[int] = []  # indices of half nodes in the rewritten graph

    def choose(self) -> set[int]:
        """Indices of the nodes that become half: computing ones, what passes their values on, less the float tail."""
        chosen: set[int] = set()
        halves: set[str] = set()
        for index, node in enumerate(self.graph.node):  # in topological order
            given = self._float_inputs(node)
            computed = [name for name in given if name not in self.initializers]
            passing = node.op_type in PASSING and any(name in halves for name in computed)
            if node.op_type == "Concat":
                passing = passing and all(name in halves for name in computed)
            if given and (node.op_type in COMPUTE or passing):
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
            inner = f"{name}.fp16"
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
            return self._cast(name, f"{name}.fp16", self.onnx.TensorProto.FLOAT16, halves, nodes)
        if name not in halves:
            halves[name] = f"{name}.fp16"
            values = self.onnx.numpy_helper.to_array(self.initializers[name])
            beyond = np.abs(values) > LARGEST_FP16
            if beyond.any() and values.size > 1:  # a single one is a bound of Clip that means "none"
                raise ModelError(f"tensor {name} holds values beyond fp16's {LARGEST_FP16:g}; export it in fp32")
            values = np.where(beyond, np.sign(values) * LARGEST_FP16, values).astype(np.float16)
            tensor = self.onnx.numpy_helper.from_array(values, halves[name])
            self.graph.initializer.append(tensor)
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
