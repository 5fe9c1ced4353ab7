"""A model small enough to make in every test: a unit vector from the summed colours."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from gloam.model_card import METADATA_KEY, ModelCard, SelfTest, TensorSpec
from gloam.padding import PaddingProfile
from gloam.runtime.backends.selftest_formulas import selftest_images

DIMENSION = 6


def write_tiny_embedder(
    path: Path,
    profile: PaddingProfile | None = None,
    kind: str = "embedder",
    weights: str = "tiny",
    gain: float = 0.01,
    name: str = "tiny",
) -> ModelCard:
    """Write an ONNX file whose descriptor is the unit vector of a fixed projection of the summed colours.

    Zero padding adds nothing to a sum, so the fixed profile is exact without masks.
    """
    profile = profile or PaddingProfile.dynamic()
    matrix = np.random.default_rng(3).normal(size=(3, DIMENSION)).astype(np.float32) * gain
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["float", "axes"], ["colours"], keepdims=0),
        helper.make_node("MatMul", ["colours", "matrix"], ["projected"]),
        helper.make_node("LpNormalization", ["projected"], ["descriptors"], axis=1, p=2),
    ]
    inputs = [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", "height", "width", 3])]
    if profile.kind == "fixed":
        inputs.append(helper.make_tensor_value_info("sizes", TensorProto.INT32, ["batch", 2]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        inputs,
        [helper.make_tensor_value_info("descriptors", TensorProto.FLOAT, ["batch", DIMENSION])],
        [
            helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
            helper.make_tensor("matrix", TensorProto.FLOAT, matrix.shape, matrix.flatten()),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    shape = (1, 256, 256) if profile.kind == "fixed" else (1, 40, 50)
    sizes = ((40, 50),)
    image = selftest_images(shape, sizes)[0, :40, :50].astype(np.float64).sum((0, 1)) @ matrix
    card = ModelCard(
        kind=kind,
        name=name,
        inputs=tuple(
            TensorSpec(name, dtype, dims, "")
            for name, dtype, dims in [
                ("images", "uint8", ("batch", "height", "width", 3)),
                ("sizes", "int32", ("batch", 2)),
            ][: len(inputs)]
        ),
        outputs=(TensorSpec("descriptors", "float32", ("batch", DIMENSION), "unit vectors"),),
        profile=profile,
        network={"name": "tiny"},
        mean=(0.0,),
        std=(1.0,),
        provenance={"weights_sha256": weights, "recipe": "test", "data": "none", "licence": "none"},
        dimension=DIMENSION,
    )
    # Beyond a fixed image the self-test is white, which a sum would see; local features have outputs that this lacks.
    if profile.kind == "dynamic" and kind != "local_features":
        card = dataclasses.replace(
            card, selftest=SelfTest(shape, sizes, tuple(float(v) for v in image / np.linalg.norm(image)))
        )
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, card.to_json()
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return card
