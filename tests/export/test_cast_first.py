"""TensorRT takes a uint8 tensor as an input, or into a Cast, and nowhere else; its Shape may be asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from gloam.export.edges import export_edges
from gloam.export.embedder import export_embedder
from gloam.export.front.put import put_in_front
from gloam.export.local_features import export_local_features
from gloam.export.translator import export_translator
from gloam.networks.clahe import ClaheLayer
from gloam.networks.edges import create_detector
from gloam.networks.embedders import DescriptorPipeline, create_embedder
from gloam.networks.translators import create_generator
from gloam.padding import PaddingProfile
from tests.networks.embedders.test_how import tiny

PROVENANCE = {"recipe": "test", "data": "none", "licence": "none"}
ALLOWED = {"Cast", "Shape"}
REDUCING = ("ScatterElements", "ScatterND")


def embedder(path: Path, **options: Any) -> None:
    clahe = ClaheLayer() if options.pop("lit", False) else None
    model = DescriptorPipeline(create_embedder("gem_vgg16", stages=((8, 1), (16, 2))), clahe=clahe)
    export_embedder(model, path, provenance=PROVENANCE, **options)


def fronted(path: Path, **options: Any) -> None:
    inner, generator = path.with_name("inner.onnx"), path.with_name("generator.onnx")
    embedder(inner)
    if options.pop("translate", False):
        export_translator(create_generator("resnet", width=4, blocks=1), generator, provenance=PROVENANCE)
        put_in_front(inner, path, translator=generator, max_side=None)
    else:
        put_in_front(inner, path, translator=None, max_side=64)


FIXED = PaddingProfile.fixed((256,), (256,))
FILES: dict[str, Callable[[Path], Any]] = {
    "dynamic": embedder,
    "fixed": lambda path: embedder(path, profile=FIXED),
    "clahe": lambda path: embedder(path, lit=True),
    "clahe fixed": lambda path: embedder(path, lit=True, profile=FIXED),
    "local features": lambda path: export_local_features(tiny(), path, provenance=PROVENANCE, scales=(1.0, 0.5)),
    "translator": lambda path: export_translator(
        create_generator("resnet", width=4, blocks=1), path, provenance=PROVENANCE
    ),
    "domains": lambda path: export_translator(
        create_generator("weakly_paired", width=2, base=(2, 2), latent=4), path, provenance=PROVENANCE
    ),
    "edges": lambda path: export_edges(create_detector("hed", width=4), path, provenance=PROVENANCE),
    "resized": fronted,
    "translated": lambda path: fronted(path, translate=True),
}


SLOW = ("clahe fixed", "translated", "domains")  # of parts that are here one by one


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in FILES])
def test_no_uint8_is_moved_and_nothing_is_added_by_scatter(name: str, tmp_path: Path) -> None:
    FILES[name](tmp_path / "m.onnx")
    model = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "m.onnx"))
    values = [*model.graph.input, *model.graph.value_info]
    levels = {value.name for value in values if value.type.tensor_type.elem_type == onnx.TensorProto.UINT8}
    assert levels
    for node in model.graph.node:
        moved = levels & set(node.input)
        assert not moved or node.op_type in ALLOWED, f"{node.op_type} {node.name} takes {moved}"
        reduction = next((item.s for item in node.attribute if item.name == "reduction"), b"none")
        assert node.op_type not in REDUCING or reduction == b"none", node.name
