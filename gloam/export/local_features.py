"""A network of local features to ONNX: uint8 images of any size in, the features of all scales out, as one graph.

``dynamic`` only: at a scale above 1 a resize reads beyond the valid border of a padded image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from gloam.errors import ModelError
from gloam.export.proved import Shapes
from gloam.export.spec import ExportSpec, export_spec
from gloam.model_card import LITERATURE, InputRule, ModelCard, Photometric, TensorSpec
from gloam.networks.embedders.dinov2 import DinoV2Embedder
from gloam.networks.embedders.how import HOW
from gloam.padding import PaddingProfile, next_multiple

EXAMPLE = (2, 97, 131)  # odd, so that a wrong resize shows
FEWEST = 2  # cells a side of the smallest scale of what is traced: of one cell the graph would hold that there is one
TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 1e-1}  # features are no unit vectors, but whitened: of size 1
SMALLEST = 32  # pixels a side


def export_local_features(
    model: nn.Module,
    path: str | Path,
    *,
    scales: Sequence[float] | None = None,
    profile: PaddingProfile | None = None,
    photometric: Photometric | None = None,
    input_rule: InputRule | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> ModelCard:
    """Export a network's local features and return the card that the file carries.

    Args:
        model: a HOW network, or DINOv2 for its patch tokens; put in eval mode, on the CPU.
        path: ``.onnx`` file to write, atomically.
        scales: of the image; the network's own by default.
        profile: ``dynamic``, for its batch.
        photometric: the normalisation that callers must apply to the decoded image.
        input_rule: the sizes that callers must bring images to; the network's own where it is left out, of which the
            card states none where that is the literature's.
        provenance: ``recipe``, ``data``, ``licence``; the weights' sha256 is computed here.

    Raises:
        ModelError: another network, a fixed profile, bad scales, or an invalid graph.
    """
    profile = profile or PaddingProfile.dynamic()
    name = str(getattr(model, "name", type(model).__name__))
    if not isinstance(model, HOW | DinoV2Embedder):
        raise ModelError(f"{name}: gives no local features; train or import a HOW network")
    if profile.kind == "fixed":
        raise ModelError(f"{name}: padding would change local features of several scales; use the dynamic profile")
    cell = model.cell
    if cell > 1:
        profile = profile.of_cell(cell)
    if input_rule is None and model.input_rule != LITERATURE:
        input_rule = model.input_rule
    scales = model.local_scales if scales is None else scales
    if not scales or len(set(scales)) != len(scales) or not all(0.25 <= scale <= 2 for scale in scales):
        raise ModelError(f"scales {', '.join(map(str, scales)) or 'none'}: different numbers of 0.25..2 are needed")
    scales = tuple(float(scale) for scale in scales)
    times = _times(model.stride, min(scales))
    features = ("batch", "cells", model.dimension)
    spec = ExportSpec(
        kind="local_features",
        model=model,
        graph=partial(model.local_features, scales=scales),
        profile=profile,
        example=(EXAMPLE[0], next_multiple(times * EXAMPLE[1], cell), next_multiple(times * EXAMPLE[2], cell)),
        outputs=(
            TensorSpec("features", "float32", features, "local features of all scales, not normalised"),
            TensorSpec("attention", "float32", ("batch", "cells"), "strength of each, the largest of an image 1"),
            TensorSpec("positions", "float32", ("cells", 2), "x, y of the cells' centres in pixels of the image"),
            TensorSpec("scales", "float32", ("cells",), "scale of the image that each cell is of"),
        ),
        selftest=Shapes((EXAMPLE[0], next_multiple(EXAMPLE[1], cell), next_multiple(EXAMPLE[2], cell))),
        facts={
            "mean": model.mean,
            "std": model.std,
            "input_rule": input_rule,
            "photometric": photometric or Photometric(),
            "scales": scales,
            "dimension": model.dimension,
            "metric": "asmk",
        },
        tolerance=TOLERANCE,
        multiple=cell,
        least=next_multiple(SMALLEST, cell),
    )
    return export_spec(spec, path, provenance)


def _times(stride: int, scale: float) -> int:
    """How many times the example's sides give :data:`FEWEST` cells at a scale; odd, as they are."""
    times = 1
    while int(min(EXAMPLE[1:]) * times * scale) <= (FEWEST - 1) * stride:
        times += 2
    return times
