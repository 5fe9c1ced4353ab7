"""An edge detector to ONNX: uint8 images of any size in, edge probabilities out.

``dynamic`` only: its bilinear upsampling depends on the size of the image, so padding would change every edge.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gloam.errors import ModelError
from gloam.export.proved import Shapes
from gloam.export.spec import ExportSpec, export_spec
from gloam.model_card import ModelCard, TensorSpec
from gloam.networks.edges import EdgeDetectorNetwork
from gloam.networks.edges.base import MEAN_BGR
from gloam.padding import PaddingProfile

EXAMPLE = (2, 97, 131)  # odd: a wrong upsampling shows, and RCF's last crop does nothing at a multiple of 8
TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2}  # of a probability


def export_edges(
    model: EdgeDetectorNetwork,
    path: str | Path,
    profile: PaddingProfile | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> ModelCard:
    """Export an edge detector and return the card that the file carries.

    Args:
        model: detector; put in eval mode, on the CPU.
        path: ``.onnx`` file to write, atomically.
        profile: ``dynamic``, for its batch.
        provenance: ``recipe``, ``data``, ``licence``; the weights' sha256 is computed here.

    Raises:
        ModelError: a fixed profile, or an invalid graph.
    """
    profile = profile or PaddingProfile.dynamic()
    if profile.kind == "fixed":
        raise ModelError(f"{model.name}: padding would change an edge detector's maps; use the dynamic profile")
    spec = ExportSpec(
        kind="edges",
        model=model,
        graph=model.edges_uint8,
        # Images under the minimum alone are reflected; a larger one keeps its size.
        profile=dataclasses.replace(profile.reflecting(1), minimum=model.minimum),
        example=EXAMPLE,
        outputs=(TensorSpec("edges", "float32", ("batch", "height", "width"), "edge probabilities in [0, 1]"),),
        selftest=Shapes(EXAMPLE),
        facts={
            "mean": tuple(value / 255 for value in reversed(MEAN_BGR)),
            "std": (1 / model.input_scale,) * 3,
            "metric": "none",
        },
        tolerance=TOLERANCE,
        least=model.minimum,
    )
    return export_spec(spec, path, provenance)
