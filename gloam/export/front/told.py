"""What a translator takes beside its images, as a graph: a domain's code and zeros of noise, for any batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gloam.errors import require
from gloam.export.graph import OPSET
from gloam.model_card import TensorSpec

AXES = {"batch": 0, "height": 1, "width": 2}  # of the padded images


def telling_graph(specs: Sequence[TensorSpec]) -> Any:
    """The defaults of inputs, as large as the images that they go with.

    Args:
        specs: of a translator's inputs behind its images, each with a default.

    Returns:
        a ``ModelProto`` of the input ``padded`` float32 ``[B, H, W, 3]``, and an output of each input's name.
    """
    onnx = require("onnx", "train", "export a model")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    nodes = [
        helper.make_node("Shape", ["padded"], [axis], start=at, end=at + 1)
        for axis, at in AXES.items()
        if any(axis in spec.shape for spec in specs)
    ]
    constants, outputs = [], []
    for spec in specs:
        parts = []
        for at, axis in enumerate(spec.shape):
            if isinstance(axis, int):
                constants.append(numpy_helper.from_array(np.array([axis], np.int64), f"{spec.name}_side_{at}"))
            parts.append(axis if isinstance(axis, str) else f"{spec.name}_side_{at}")
        default = np.asarray(spec.default, spec.dtype)
        constants.append(numpy_helper.from_array(default, f"{spec.name}_default"))
        nodes.append(helper.make_node("Concat", parts, [f"{spec.name}_shape"], axis=0))
        nodes.append(helper.make_node("Expand", [f"{spec.name}_default", f"{spec.name}_shape"], [spec.name]))
        of = helper.np_dtype_to_tensor_dtype(default.dtype)
        outputs.append(helper.make_tensor_value_info(spec.name, of, list(spec.shape)))
    images = helper.make_tensor_value_info("padded", onnx.TensorProto.FLOAT, [*AXES, 3])
    graph = helper.make_graph(nodes, "tell", [images], outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
