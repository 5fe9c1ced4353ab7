"""An embedder to ONNX: one file with its ModelCard and a stored self-test.

Inputs are uint8 NHWC RGB; normalisation, pooling, L2, and what a pipeline adds (CLAHE, scales, whitening) are in the
graph. A ``dynamic`` profile takes images alone and
has no masks; a ``fixed`` profile also takes each image's valid size and is padding-exact.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gloam.data.images import MIN_SIDE
from gloam.errors import ModelError
from gloam.export.proved import LEVELS_TOLERANCE, Shapes
from gloam.export.spec import ExportSpec, export_spec
from gloam.model_card import LITERATURE, TOLERANCE, InputRule, ModelCard, Photometric, TensorSpec
from gloam.networks.embedders import EmbedderNetwork
from gloam.padding import PaddingProfile, next_multiple

SELFTEST_DYNAMIC = Shapes((2, 97, 131))
SELFTEST_FIXED_SIZES = ((255, 201), (97, 131))  # odd, so that a wrong mask shows


def export_embedder(
    model: EmbedderNetwork,
    path: str | Path,
    *,
    profile: PaddingProfile | None = None,
    photometric: Photometric | None = None,
    input_rule: InputRule | None = None,
    provenance: Mapping[str, Any],
) -> ModelCard:
    """Export an embedder and return the card that the file carries.

    Args:
        model: embedder; put in eval mode.
        path: ``.onnx`` file to write, atomically.
        profile: native sizes (default) or fixed padded shapes.
        photometric: the normalisation that callers must apply to the decoded image; none where the graph does it.
        input_rule: the sizes that callers must bring images to; the network's own where it is left out, of which the
            card states none where that is the literature's.
        provenance: ``recipe``, ``data``, ``licence``; the weights' sha256 is computed here.

    Raises:
        ModelError: a fixed profile for a model that is not padding-exact, a normalisation on top of a baked one, or an
            invalid graph.
    """
    profile = profile or PaddingProfile.dynamic()
    cell, square = model.cell, model.square
    if square is not None and profile.kind == "fixed":
        raise ModelError(
            f"{model.name} takes images of {square}x{square} px alone; use dynamic, which is that one size"
        )
    if square is not None:
        profile = PaddingProfile.square(square, profile.batch)
    elif cell > 1:
        profile = profile.of_cell(cell)
    fixed = profile.kind == "fixed"
    if fixed and not model.padding_exact:
        raise ModelError(
            f"{model.name} is not padding-exact, so a fixed profile would change its descriptors; use dynamic"
        )
    if photometric is not None and photometric.name != "none" and model.photometric.baked:
        raise ModelError(
            f"{model.name}: {model.photometric.name} is inside the graph; no normalisation is left to callers"
        )
    if input_rule is None and model.input_rule != LITERATURE:
        input_rule = model.input_rule
    if model.smallest_side > MIN_SIDE:
        profile = dataclasses.replace(profile, minimum=model.smallest_side)
    least = next_multiple(max(MIN_SIDE, profile.minimum), cell)

    def whole(side: int) -> int:
        return next_multiple(max(side, least), cell)

    if square is not None:
        selftest = Shapes((2, square, square))
    elif fixed:
        shape = (2, profile.heights[0], profile.widths[0])
        sizes = [(min(whole(h), shape[1]), min(whole(w), shape[2])) for h, w in SELFTEST_FIXED_SIZES]
        selftest = Shapes(shape, tuple(sizes))
    else:
        batch, height, width = SELFTEST_DYNAMIC.shape
        selftest = Shapes((batch, whole(height), whole(width)))
    example = (2, whole(256), whole(320)) if fixed else (2, whole(131), whole(163))
    spec = ExportSpec(
        kind="embedder",
        model=model,
        graph=model.describe_uint8,
        profile=profile,
        # Odd: where a pad or a crop does nothing for the example, the exporter would leave it out for every size.
        example=example if square is None else (2, square, square),
        example_sizes=((whole(200), whole(300)), (whole(256), whole(320))) if fixed else (),
        outputs=(TensorSpec("descriptors", "float32", ("batch", model.dimension), "unit vectors"),),
        selftest=selftest,
        facts={
            "mean": model.mean,
            "std": model.std,
            "input_rule": input_rule,
            "photometric": model.photometric if model.photometric.baked else photometric or Photometric(),
            "scales": model.scales,
            "pooling": model.pooling,
            "whitening": model.whitening,
            "dimension": model.dimension,
        },
        tolerance=LEVELS_TOLERANCE if model.photometric.baked else TOLERANCE,
        core=model.core,
        multiple=cell,
        least=least,
    )
    return export_spec(spec, path, provenance)
