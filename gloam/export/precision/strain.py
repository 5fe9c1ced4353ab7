"""Where half precision would hurt a transformer: overflow and lost digits in attention and in norms.

Each node of the body is computed a second time beside the float32 graph, from the float32 values as halves hold them:
once exactly, which tells whether halves can say what it is given, and once in the steps of a backend, each rounded,
which tells whether it may be computed in halves. A comparison of outputs alone would miss what a backend of the CPU
does not do: it takes a norm's squares in float32, where 256 squared is beyond fp16.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.errors import require
from gloam.export.precision.half import BODY, NORM, Half, body_of, lifted, narrowed, rounded

ROUNDINGS = 16  # so many units of rounding may be lost by one node, of the length of its output
UNIT = {"fp16": 2.0**-11, "bf16": 2.0**-8}
DELICATE = {NORM: "variance", "Softmax": "total"}  # the step whose overflow the output would hide


def strained(
    proto: Any, precision: Half, feeds: Sequence[Mapping[str, npt.NDArray[Any]]], folder: Path
) -> dict[str, str]:
    """The nodes of a transformer's body that must stay in float32.

    Args:
        proto: ``ModelProto`` in float32; left as it is.
        precision: ``fp16`` or ``bf16``.
        feeds: inputs of the graph, an image or a batch each.
        folder: for a file of its own.

    Returns:
        by the name of a node's output: ``overflow``, or the share of its output's length that is lost; or the node
        that needs what it gives. Empty where there is no transformer.
    """
    model = lifted(proto, precision)
    body = body_of(model.graph)
    nodes = {node.output[0]: node for at, node in enumerate(model.graph.node) if at in body}
    computing = {name: node for name, node in nodes.items() if node.op_type in BODY}
    if not computing:
        return {}
    given, own = _losses(model, computing, precision, feeds, folder)
    kept: dict[str, str] = {}
    allowed = ROUNDINGS * UNIT[precision]
    for name in computing:
        worst = given[name] if not given[name] <= allowed else own[name]
        if not worst <= allowed:
            kept[name] = f"loses {worst:.1e}" if np.isfinite(worst) else "overflow"
        if not given[name] <= allowed:
            _keep_sources(name, nodes, kept)
    return kept


def _keep_sources(name: str, nodes: Mapping[str, Any], kept: dict[str, str]) -> None:
    """Keep what a node is given, back to the products and with them, for they round what they give."""
    waiting = list(nodes[name].input)
    while waiting:
        source = waiting.pop()
        if source not in nodes or source in kept:
            continue
        kept[source] = f"gives {name}"
        if nodes[source].op_type not in BODY:
            waiting.extend(nodes[source].input)


def _losses(
    model: Any,
    computing: Mapping[str, Any],
    precision: Half,
    feeds: Sequence[Mapping[str, npt.NDArray[Any]]],
    folder: Path,
) -> tuple[dict[str, float], dict[str, float]]:
    """By a node's output, the largest loss from rounded inputs, and from those in rounded steps; infinite where a
    value leaves the range."""
    onnx = require("onnx", "train", "convert a model's precision")
    ort = require("onnxruntime", "onnxruntime", "convert a model's precision")
    kind = onnx.TensorProto.FLOAT16 if precision == "fp16" else onnx.TensorProto.BFLOAT16
    graph = model.graph
    added: list[Any] = []
    halves: dict[str, str] = {}

    def half(name: str) -> str:
        if name and name not in halves:
            halves[name] = f"{name}.half"
            added.extend(rounded(name, halves[name], kind))
        return halves.get(name, name)

    def loss(found: str, exact: str, rows: bool, hidden: str | None) -> list[str]:
        """The largest of the rows', or of the whole; and a sum of all, of which no NaN and nothing infinite is lost."""
        lengths = []
        for at, value in (("lost", f"{found}.difference"), ("length", exact)):
            axes = [f"{found}.axes"] if rows else []
            added.append(onnx.helper.make_node("ReduceL2", [value, *axes], [f"{found}.{at}"]))
            lengths.append(f"{found}.{at}")
        added.append(onnx.helper.make_node("Max", [lengths[1], "strain.least"], [f"{found}.divisor"]))
        added.append(onnx.helper.make_node("Div", [lengths[0], f"{found}.divisor"], [f"{found}.share"]))
        sums = [f"{found}.share", *([] if hidden is None else [hidden])]
        ends = [("ReduceMax", sums[0], "loss"), *(("ReduceSum", name, f"sum{at}") for at, name in enumerate(sums))]
        for operator, name, end in ends:
            added.append(onnx.helper.make_node(operator, [name], [f"{found}.{end}"], keepdims=0))
        added.append(onnx.helper.make_node("Sum", [f"{found}.{end}" for _, _, end in ends[1:]], [f"{found}.sum"]))
        return [f"{found}.loss", f"{found}.sum"]

    graph.initializer.append(onnx.numpy_helper.from_array(np.array(1e-20, np.float32), "strain.least"))
    outputs: list[str] = []
    for name, node in computing.items():
        for form in ("given", "own"):
            shadow = type(node)()
            shadow.CopyFrom(node)
            shadow.ClearField("name")
            found = f"{name}.{form}"
            shadow.input[:] = [half(item) for item in node.input]
            shadow.output[:] = [f"{found}.whole" if form == "own" else found]
            hidden = None
            if form == "own":
                steps = narrowed(shadow, kind)
                hidden = f"{found}.whole.{DELICATE[node.op_type]}" if len(steps) > 1 else None
                added.extend([*steps, *rounded(f"{found}.whole", found, kind)])
            else:
                added.append(shadow)
            added.append(onnx.helper.make_node("Sub", [found, name], [f"{found}.difference"]))
            rows = node.op_type in DELICATE
            if rows:
                value = onnx.numpy_helper.from_array(np.array([-1], np.int64))
                added.append(onnx.helper.make_node("Constant", [], [f"{found}.axes"], value=value))
            outputs.extend(loss(found, name, rows, hidden))
    graph.node.extend(added)
    del graph.output[:], graph.value_info[:]
    graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, []) for name in outputs)
    file = folder / "strain.onnx"
    onnx.save_model(model, file, save_as_external_data=True, location="strain.data")
    session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    worst = np.zeros(len(outputs))
    for feed in feeds:
        worst = np.maximum(worst, np.array(session.run(outputs, dict(feed)), np.float64))  # NaN stays
    named = dict(zip(outputs, worst.tolist(), strict=True))

    def worst_of(form: str) -> float:
        return float(named[f"{form}.loss"] if np.isfinite(named[f"{form}.sum"]) else np.inf)

    return (
        {name: worst_of(f"{name}.given") for name in computing},
        {name: worst_of(f"{name}.own") for name in computing},
    )
