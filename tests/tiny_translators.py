"""Image models small enough to make in every test: an inversion of every pixel, and brightness as edges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from gloam.model_card import METADATA_KEY, ModelCard, SelfTest, TensorSpec
from gloam.padding import PaddingProfile
from gloam.runtime.backends.selftest_formulas import block_means, selftest_conditions, selftest_images

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


DOMAINS = ("day", "night", "snow")


def write_tiny_domains(path: Path, noisy: bool = True, profile: PaddingProfile | None = None) -> ModelCard:
    """A translator into three domains: half the image, -0.3, 0 or 0.3 by the label, a tenth of the map of noise and a
    twentieth of the noise's mean. Its own choice is night."""
    profile = (profile or PaddingProfile.dynamic()).reflecting(4, 8)
    dims = ["batch", "height", "width"]
    inputs = [
        TensorSpec("images", "uint8", (*dims, 3), ""),
        TensorSpec("label", "float32", ("batch", 3), "", default=(0.0, 1.0, 0.0)),
    ]
    if noisy:
        inputs.append(TensorSpec("noise", "float32", ("batch", 4), "", default=(0.0,)))
        inputs.append(TensorSpec("alignment", "float32", ("batch", 1, "height", "width"), "", default=(0.0,)))
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["half"]),
        helper.make_node("MatMul", ["label", "shades"], ["shade"]),
        helper.make_node("Unsqueeze", ["shade", "sides"], ["shade_map"]),
        helper.make_node("Add", ["half", "shade_map"], ["shaded"]),
    ]
    if noisy:
        nodes += [
            helper.make_node("ReduceMean", ["noise", "one"], ["mean"], keepdims=1),
            helper.make_node("Mul", ["mean", "twentieth"], ["little"]),
            helper.make_node("Unsqueeze", ["little", "sides"], ["little_map"]),
            helper.make_node("Transpose", ["alignment"], ["turned"], perm=[0, 2, 3, 1]),
            helper.make_node("Mul", ["turned", "tenth"], ["grain"]),
            helper.make_node("Add", ["little_map", "grain"], ["noises"]),
            helper.make_node("Add", ["shaded", "noises"], ["found"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["shaded"], ["found"]))
    floats = {"scale": ([], [0.5 / 127.5]), "shift": ([], [-0.5]), "shades": ([3, 1], [-0.3, 0.0, 0.3])}
    floats |= {"twentieth": ([], [0.05]), "tenth": ([], [0.1])} if noisy else {}
    graph = helper.make_graph(
        nodes,
        "domains",
        [
            helper.make_tensor_value_info(
                spec.name, helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype)), list(spec.shape)
            )
            for spec in inputs
        ],
        [helper.make_tensor_value_info("found", TensorProto.FLOAT, [*dims, 3])],
        [
            *(helper.make_tensor(name, TensorProto.FLOAT, shape, values) for name, (shape, values) in floats.items()),
            helper.make_tensor("sides", TensorProto.INT64, [2], [2, 3]),
            *([helper.make_tensor("one", TensorProto.INT64, [1], [1])] if noisy else []),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    fed = selftest_conditions(inputs, SHAPE)
    truth = selftest_images(SHAPE, [SHAPE[1:]]).astype(np.float64) * 0.5 / 127.5 - 0.5
    truth += (fed["label"] @ [-0.3, 0.0, 0.3])[:, None, None, None]
    if noisy:
        truth += fed["alignment"].transpose(0, 2, 3, 1) * 0.1 + fed["noise"].mean(1)[:, None, None, None] * 0.05
    card = ModelCard(
        kind="translator",
        name="tiny",
        inputs=tuple(inputs),
        outputs=(TensorSpec("found", "float32", (*dims, 3), ""),),
        profile=profile,
        network={"name": "tiny", "domains": list(DOMAINS), "codes": None, "target": "night"},
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        provenance={"weights_sha256": f"{noisy}", "recipe": "test", "data": "none", "licence": "none"},
        metric="none",
        selftest=SelfTest(SHAPE, (SHAPE[1:],), tuple(block_means(truth).ravel().tolist())),
    )
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, card.to_json()
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return card
