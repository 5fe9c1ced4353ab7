"""Image models small enough to make in every test: an inversion of every pixel, and brightness as edges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from gloam.model_card import METADATA_KEY, ModelCard, SelfTest, TensorSpec
from gloam.padding import PaddingProfile
from gloam.runtime.backends.selftest_formulas import block_means, selftest_images

SHAPE = (1, 64, 96)


def write_tiny_translator(
    path: Path, profile: PaddingProfile | None = None, channels: int = 3, kind: str = "translator", gain: float = -1.0
) -> ModelCard:
    """A translator ``gain * (x / 127.5 - 1)``, or an edge detector that gives the mean of the channels on [0, 1]."""
    profile = (profile or PaddingProfile.dynamic()).reflecting(4, 8)
    dims = ["batch", "height", "width", channels]
    edges = kind == "edges"
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["moved"]),
        helper.make_node("ReduceMean", ["moved", "axes"], ["found"], keepdims=0)
        if edges
        else helper.make_node("Identity", ["moved"], ["found"]),
    ]
    scale, shift = (1 / 255, 0.0) if edges else (gain / 127.5, -gain)
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, dims)],
        [helper.make_tensor_value_info("found", TensorProto.FLOAT, dims[:3] if edges else dims)],
        [
            helper.make_tensor("scale", TensorProto.FLOAT, [], [scale]),
            helper.make_tensor("shift", TensorProto.FLOAT, [], [shift]),
            helper.make_tensor("axes", TensorProto.INT64, [1], [3]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    truth = selftest_images(SHAPE, [SHAPE[1:]])[..., :channels].astype(np.float64) * scale + shift
    means = block_means(truth.mean(3) if edges else truth)
    shape = ("batch", "height", "width")
    card = ModelCard(
        kind=kind,
        name="tiny",
        inputs=(TensorSpec("images", "uint8", (*shape, channels), ""),),
        outputs=(TensorSpec("found", "float32", shape if edges else (*shape, channels), ""),),
        profile=profile,
        network={"name": "tiny"},
        mean=(0.5,) * channels,
        std=(0.5,) * channels,
        provenance={"weights_sha256": f"{gain}", "recipe": "test", "data": "none", "licence": "none"},
        metric="none",
        selftest=SelfTest(SHAPE, (SHAPE[1:],), tuple(means.ravel().tolist())),
    )
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, card.to_json()
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return card
