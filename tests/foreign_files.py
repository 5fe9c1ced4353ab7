"""Embedders as other programs export them, small and without a card: right ones, and each with one mistake."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DIMENSION = 8
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PATCH = 14


@dataclass(frozen=True)
class Shape:
    """What a foreign file is like.

    Attributes:
        layout: of its input, which is normalised float32 unless ``scaled`` says otherwise.
        scaled: ``imagenet`` of [0, 1] or ``bytes`` of 0..255, inside the graph; None for neither.
        size: (height, width) of its only size, declared in its shapes; None for free ones.
        baked: that size is not declared but needed by a Reshape.
        kernel: cells of the pooling's sides; the whole map by default.
        batch: declared batch; a name for a free one.
        l2: how many L2 are behind one another.
        resize: side in pixels that the graph stretches images to.
        half: weights and input in fp16, an overflow at strong contrasts with ``loud``.
        coupled: descriptors have the mean of their batch in them.
        dropout: training mode.
        scramble: a Reshape in place of the transpose behind channels last.
        tokens: patches with positions, added (``frozen``) or cut (``cut``).
        outputs: names of the outputs, the first is the descriptor.
    """

    layout: str = "nchw"
    scaled: str | None = None
    size: tuple[int, int] | None = None
    baked: bool = False
    kernel: int | None = None
    batch: str | int = "batch"
    l2: int = 1
    resize: int | None = None
    half: bool = False
    loud: bool = False
    coupled: bool = False
    dropout: bool = False
    scramble: bool = False
    tokens: str | None = None
    dtype: int = TensorProto.FLOAT
    outputs: tuple[str, ...] = ("out",)


PLAIN = Shape()


class _Graph:
    def __init__(self, half: bool) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.real = np.float16 if half else np.float32

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def value(self, values: Any, whole: bool = False) -> str:
        name = f"c{len(self.constants)}"
        array = np.asarray(values, np.int64 if whole else self.real)
        self.constants.append(numpy_helper.from_array(array, name))
        return name


def foreign_model(shape: Shape = PLAIN, seed: int = 0) -> Any:
    """A ``ModelProto``: a convolution, a mean of its absolute values over the image, a projection."""
    draw = np.random.default_rng(seed)
    graph = _Graph(shape.half)
    height, width = shape.size or ("height", "width")
    axes = [shape.batch, 3, height, width] if shape.layout == "nchw" else [shape.batch, height, width, 3]
    if shape.baked:
        axes = [axis if axis in (shape.batch, 3) else f"side{at}" for at, axis in enumerate(axes)]
    dtype = TensorProto.FLOAT16 if shape.half else shape.dtype
    x = "image"
    if shape.dtype == TensorProto.UINT8:
        x = graph.add("Cast", x, to=TensorProto.FLOAT)
    if shape.layout == "nhwc":
        if shape.scramble:
            first = graph.add("Shape", x)
            n, h, w = (graph.add("Gather", first, graph.value([at], whole=True)) for at in (0, 1, 2))
            x = graph.add("Reshape", x, graph.add("Concat", n, graph.value([3], whole=True), h, w, axis=0))
        else:
            x = graph.add("Transpose", x, perm=[0, 3, 1, 2])
    if shape.scaled == "bytes":
        x = graph.add("Div", x, graph.value(255.0))
    if shape.scaled in ("bytes", "imagenet"):
        mean, std = (np.reshape(values, (1, 3, 1, 1)) for values in IMAGENET)
        x = graph.add("Div", graph.add("Sub", x, graph.value(mean)), graph.value(std))
    if shape.resize is not None:
        n = graph.add("Slice", graph.add("Shape", x), *(graph.value([at], whole=True) for at in (0, 2)))
        sizes = graph.add("Concat", n, graph.value([shape.resize] * 2, whole=True), axis=0)
        x = graph.add("Resize", x, "", "", sizes, mode="linear")
    if shape.tokens:
        x = _transformer(graph, x, shape, draw)
    else:
        weights = draw.normal(size=(16, 3, 3, 3)) * (20.0 if shape.loud else 0.4)
        x = graph.add("Conv", x, graph.value(weights), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        if shape.loud:
            x = graph.add("Mul", graph.add("Mul", x, x), x)
        x = graph.add("Abs", x)
        if shape.baked:
            assert shape.size is not None
            cells = -(-shape.size[0] // 2) * -(-shape.size[1] // 2)
            x = graph.add("Reshape", x, graph.value([-1, 16, cells], whole=True))
            x = graph.add("ReduceMean", x, graph.value([2], whole=True), keepdims=0)
        else:
            sides = {} if shape.kernel is None else {"kernel_shape": [shape.kernel] * 2, "strides": [shape.kernel] * 2}
            x = graph.add("Flatten", graph.add("AveragePool" if sides else "GlobalAveragePool", x, **sides))
    if shape.coupled:
        mean = graph.add("ReduceMean", x, graph.value([0], whole=True), keepdims=1)
        x = graph.add("Sub", x, graph.add("Mul", mean, graph.value(0.5)))
    if shape.dropout:
        graph.constants.append(helper.make_tensor("training", TensorProto.BOOL, [], [True]))
        x = graph.add("Dropout", x, graph.value(0.3), "training")
    x = graph.add("MatMul", x, graph.value(draw.normal(size=(16, DIMENSION))))
    for _ in range(shape.l2):
        length = graph.add("ReduceL2", x, graph.value([1], whole=True), keepdims=1)
        x = graph.add("Div", x, graph.add("Max", length, graph.value(1e-6)))
    for name in shape.outputs:
        graph.nodes.append(helper.make_node("Identity", [x], [name]))
    made = helper.make_graph(
        graph.nodes,
        "foreign",
        [helper.make_tensor_value_info("image", dtype, axes)],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT16 if shape.half else 1, [shape.batch, DIMENSION])
            for name in shape.outputs
        ],
        graph.constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10, producer_name="other")
    onnx.checker.check_model(model)
    return model


def _transformer(graph: _Graph, x: str, shape: Shape, draw: np.random.Generator) -> str:
    weights = draw.normal(size=(16, 3, PATCH, PATCH)) * 0.1
    x = graph.add("Conv", x, graph.value(weights), kernel_shape=[PATCH] * 2, strides=[PATCH] * 2)
    x = graph.add("Transpose", graph.add("Reshape", x, graph.value([0, 16, -1], whole=True)), perm=[0, 2, 1])
    positions = graph.value(draw.normal(size=(1, 1024 if shape.tokens == "cut" else 64, 16)))
    if shape.tokens == "cut":
        count = graph.add("Slice", graph.add("Shape", x), *(graph.value([at], whole=True) for at in (1, 2)))
        axis = graph.value([1], whole=True)
        positions = graph.add("Slice", positions, graph.value([0], whole=True), count, axis)
    x = graph.add("Tanh", graph.add("Add", x, positions))
    return graph.add("ReduceMean", x, graph.value([1], whole=True), keepdims=0)


def write_foreign(path: Path, shape: Shape = PLAIN, seed: int = 0) -> Path:
    """Write :func:`foreign_model` and give the path back."""
    path.write_bytes(foreign_model(shape, seed).SerializeToString())
    return path
