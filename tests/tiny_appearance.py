"""An appearance encoder and its translator, small enough to make in every test: filters are mean colours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from gloam.model_card import METADATA_KEY, ModelCard, SelfTest, TensorSpec
from gloam.padding import PaddingProfile
from gloam.runtime.backends.selftest_formulas import block_means, selftest_conditions, selftest_images

SHAPE = (1, 32, 40)
KEPT = {"day": [0.5, 0.25, 0.25], "night": [-0.5, -0.25, 0.0]}
IMAGES = TensorSpec("images", "uint8", ("batch", "height", "width", 3), "")


def write_tiny_encoder(path: Path, weights: str = "tiny") -> ModelCard:
    """A filter is the mean colour of the image in [-1, 1]."""
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "sides"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["appearance"]),
    ]
    sides = helper.make_tensor("sides", TensorProto.INT64, [2], [1, 2])
    output = TensorSpec("appearance", "float32", ("batch", 3), "")
    truth = selftest_images(SHAPE, [SHAPE[1:]]).mean((1, 2)) / 127.5 - 1
    profile = PaddingProfile("dynamic", minimum=16)
    return _written(path, "appearance", nodes, (IMAGES,), output, profile, truth, weights, [sides], 1.0)


def write_tiny_filtered(path: Path, weights: str = "tiny") -> ModelCard:
    """Half the image in [-1, 1] and half the filter, added to every pixel; the file keeps filters of day and night."""
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["half"]),
        helper.make_node("Unsqueeze", ["appearance", "sides"], ["map"]),
        helper.make_node("Mul", ["map", "share"], ["shade"]),
        helper.make_node("Add", ["half", "shade"], ["translated"]),
    ]
    spec = TensorSpec("appearance", "float32", ("batch", 3), "", default=tuple(KEPT["night"]), choices=KEPT)
    output = TensorSpec("translated", "float32", ("batch", "height", "width", 3), "")
    images = selftest_images(SHAPE, [SHAPE[1:]]) / 127.5 - 1
    given = selftest_conditions((spec,), SHAPE)["appearance"]
    truth = block_means(images / 2 + given[:, None, None] / 2)
    more = [
        helper.make_tensor("sides", TensorProto.INT64, [2], [1, 2]),
        helper.make_tensor("share", TensorProto.FLOAT, [], [0.5]),
    ]
    profile = PaddingProfile.dynamic().reflecting(4, 8)
    return _written(path, "translator", nodes, (IMAGES, spec), output, profile, truth, weights, more, 0.5)


def _written(
    path: Path,
    kind: str,
    nodes: Sequence[Any],
    inputs: tuple[TensorSpec, ...],
    output: TensorSpec,
    profile: PaddingProfile,
    truth: np.ndarray[Any, Any],
    weights: str,
    more: Sequence[Any],
    gain: float,
) -> ModelCard:
    values = [
        helper.make_tensor_value_info(
            spec.name, helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype)), list(spec.shape)
        )
        for spec in (*inputs, output)
    ]
    constants = [
        helper.make_tensor("scale", TensorProto.FLOAT, [], [gain / 127.5]),
        helper.make_tensor("shift", TensorProto.FLOAT, [], [-gain]),
        *more,
    ]
    graph = helper.make_graph(list(nodes), "tiny", values[:-1], values[-1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    card = ModelCard(
        kind=kind,
        name="tiny",
        inputs=inputs,
        outputs=(output,),
        profile=profile,
        network={"name": "tiny", "domains": list(KEPT)},
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        provenance={"weights_sha256": weights, "recipe": "test", "data": "none", "licence": "none"},
        metric="none",
        selftest=SelfTest(SHAPE, (SHAPE[1:],), tuple(map(float, truth.ravel()))),
    )
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, card.to_json()
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return card
