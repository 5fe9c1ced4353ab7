"""A foreign graph with what it needs in front and behind, so that it takes 8-bit RGB and gives unit descriptors."""

from __future__ import annotations

from typing import Any

import numpy as np

from gloam.errors import ModelError, require
from gloam.export.adopt.feeding import Feeding
from gloam.export.adopt.foreign import WHY, Foreign
from gloam.export.adopt.sizes import Sizes

INSIDE = "adopted."  # before every name of the foreign graph
LEAST_IR = 8


def written_graph(foreign: Foreign, feeding: Feeding, sizes: Sizes, dimension: int, normalise: bool) -> Any:
    """A ``ModelProto`` of the input ``images``, uint8 RGB ``[B, H, W, 3]``, and the output ``descriptors``.

    The foreign nodes and weights stay as they are, under names of their own. In front stand a Cast (TensorRT takes
    nothing else behind 8 bits), the order of the channels, scale and shift, and the layout.

    Args:
        foreign: as it was read; left as it is.
        feeding: what the graph is fed.
        sizes: that it takes.
        dimension: of the descriptor.
        normalise: whether an L2 follows.

    Raises:
        ModelError: its names cannot be told from gloam's.
    """
    onnx = require("onnx", "train", WHY)
    helper, kinds = onnx.helper, onnx.TensorProto
    whole = onnx.compose.add_prefix(foreign.proto, INSIDE)
    graph = whole.graph
    if not any(value.name == INSIDE + foreign.images.name for value in graph.input):
        raise ModelError(f"{foreign.path}: its input cannot be renamed; export it again")
    constants: list[Any] = []

    def constant(name: str, values: Any) -> str:
        constants.append(onnx.numpy_helper.from_array(np.asarray(values), name))
        return name

    front = [("Cast", ["images"], {"to": kinds.FLOAT})]
    if not (np.allclose(feeding.scale, 1, rtol=1e-6) and not feeding.shift.any()):
        front.append(("Mul", ["", constant("input.scale", feeding.scale)], {}))
        if feeding.shift.any():
            front.append(("Add", ["", constant("input.shift", feeding.shift)], {}))
    if feeding.channels == "bgr":
        front.append(("Gather", ["", constant("input.order", np.array([2, 1, 0], np.int64))], {"axis": 3}))
    if feeding.layout == "nchw":
        front.append(("Transpose", [""], {"perm": [0, 3, 1, 2]}))
    if foreign.images.dtype != "float32":
        front.append(("Cast", [""], {"to": helper.np_dtype_to_tensor_dtype(np.dtype(foreign.images.dtype))}))
    nodes = _chain(helper, front, "input", INSIDE + foreign.images.name)
    found = INSIDE + foreign.output.name
    behind: list[Any] = [("Reshape", [found, constant("output.shape", np.array([-1, dimension], np.int64))], {})]
    if foreign.output.dtype != "float32":
        behind.append(("Cast", [""], {"to": kinds.FLOAT}))
    if normalise:
        behind.append(("LpNormalization", [""], {"axis": 1, "p": 2}))
    tail = _chain(helper, behind, "output", "descriptors")
    inside = list(graph.node)
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend([*nodes, *inside, *tail])
    graph.initializer.extend(constants)
    height, width = sizes.only or ("height", "width")
    batch: Any = "batch" if sizes.batch[1] > 1 else 1
    graph.input.append(helper.make_tensor_value_info("images", kinds.UINT8, [batch, height, width, 3]))
    graph.output.append(helper.make_tensor_value_info("descriptors", kinds.FLOAT, [batch, dimension]))
    del whole.metadata_props[:]
    whole.ir_version = max(whole.ir_version, LEAST_IR)
    return whole


def _chain(helper: Any, steps: list[Any], stem: str, last: str) -> list[Any]:
    """Nodes that each take what the one before gives, in place of ``""``; the last gives ``last``."""
    nodes: list[Any] = []
    for at, (operator, inputs, attributes) in enumerate(steps):
        made = last if at == len(steps) - 1 else f"{stem}.{at}"
        taken = [name or nodes[-1].output[0] for name in inputs]
        nodes.append(helper.make_node(operator, taken, [made], name=f"{stem}.{at}.{operator}", **attributes))
    return nodes
