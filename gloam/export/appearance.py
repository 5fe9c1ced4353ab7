"""The appearance of an example to ONNX: uint8 images of any size in, what MDUIT's or AdaIN's translator takes out.

Its weights are those of the whole network, as in the card of the translator: by them the two files know each other.
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
from gloam.networks.translators import TranslatorNetwork
from gloam.networks.translators.examples import ExampleTranslator
from gloam.padding import PaddingProfile

EXAMPLE = (2, 97, 131)  # odd: a pooling that rounds the other way shows
TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2}  # of a tap, beside the identity's 1


def export_appearance(
    model: TranslatorNetwork,
    path: str | Path,
    profile: PaddingProfile | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> ModelCard:
    """Export the appearance encoder of a translator and return the card that the file carries.

    Args:
        model: ``mduit`` or ``adain``; put in eval mode, on the CPU.
        path: ``.onnx`` file to write, atomically.
        profile: ``dynamic``, for its batch.
        provenance: ``recipe``, ``data``, ``licence``; the weights' sha256 is computed here, of the whole network.

    Raises:
        ModelError: a network without such an encoder, a fixed profile, or an invalid graph.
    """
    if not isinstance(model, ExampleTranslator):
        raise ModelError(f"{model.name} reads no appearance off an example image; mduit and adain do")
    profile = profile or PaddingProfile.dynamic()
    if profile.kind == "fixed":
        raise ModelError(f"{model.name}: padding would change an image's appearance; use the dynamic profile")
    spec = ExportSpec(
        kind="appearance",
        model=model,
        graph=model.appearance_uint8,
        profile=dataclasses.replace(profile, minimum=model.least_example),
        example=EXAMPLE,
        outputs=(
            TensorSpec("appearance", "float32", model.conditions[0].shape, "for the translator of these weights"),
        ),
        selftest=Shapes(EXAMPLE),
        facts={
            "mean": (0.5,) * model.channels,
            "std": (0.5,) * model.channels,
            "metric": "none",
        },
        tolerance=TOLERANCE,
        channels=model.channels,
        least=model.least_example,
    )
    return export_spec(spec, path, provenance)
