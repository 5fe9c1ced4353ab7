"""A translator to ONNX: uint8 images whose sides are multiples in, images in [-1, 1] out.

A network of several domains takes a label too, and noise where it was trained with it: inputs of the graph like any
other, whose defaults stand in the card. Nothing is drawn inside the graph.

Padding and cropping stay with the caller, who finds the rule in the card's profile: by repeated reflection to exactly
the next multiple, right and bottom (``top-left``) or half on each side, the extra pixel right and bottom (``center``),
as the network asks for it. ``dynamic`` pads to the network's own multiple, ``fixed`` to the next multiple of 256, the
shapes of engines.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from gloam.export.proved import Shapes
from gloam.export.spec import ExportSpec, export_spec
from gloam.model_card import ModelCard, TensorSpec
from gloam.networks.translators import TranslatorNetwork
from gloam.padding import PaddingProfile, next_multiple

SIDES = (64, 96)  # height and width of the example and of a dynamic profile's self-test, raised to the next multiples
TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2}  # of [-1, 1]; fp16 and bf16 from measured generators


def export_translator(
    model: TranslatorNetwork,
    path: str | Path,
    profile: PaddingProfile | None = None,
    provenance: Mapping[str, Any] | None = None,
    domain: str | None = None,
) -> ModelCard:
    """Export a translator and return the card that the file carries.

    Args:
        model: generator; put in eval mode, on the CPU.
        path: ``.onnx`` file to write, atomically.
        profile: kind, sides and batch; its padding is replaced by the translators' rule, but a profile that reflects
            already keeps its ``anchor``. ``dynamic`` by default. A generator whose batch norm has no running
            statistics takes one image at a time, whatever the profile says.
        provenance: ``recipe``, ``data``, ``licence``; the weights' sha256 is computed here.
        domain: of a network of several domains, the one that callers get who give no label; the network's own choice
            where it is left out.

    Raises:
        ModelError: the sides of a fixed profile are no multiples of 256 and of the network's own, or the graph is
            invalid. A domain that the network does not have, or of a network that has none.
    """
    profile = (profile or PaddingProfile.dynamic()).reflecting(model.multiple, model.minimum, model.anchor)
    if _mixes_images(model):
        profile = dataclasses.replace(profile, batch=(1, 1))
    if profile.kind == "fixed":
        height, width = profile.heights[0], profile.widths[0]
    else:
        height, width = (next_multiple(max(side, profile.minimum), profile.multiple) for side in SIDES)
    least = max(model.minimum, 2 * model.multiple)
    shape = ("batch", "height", "width", model.channels)
    colours = "RGB" if model.channels == 3 else "grey"
    spec = ExportSpec(
        kind="translator",
        model=model,
        graph=model.translate_uint8,
        profile=profile,
        example=(2, next_multiple(SIDES[0], least), next_multiple(SIDES[1], least)),
        outputs=(TensorSpec("translated", "float32", shape, f"{colours} in [-1, 1]; crop the padding"),),
        selftest=Shapes((2, height, width)),
        facts={
            "mean": (0.5,) * model.channels,
            "std": (0.5,) * model.channels,
            "metric": "none",
        },
        conditions=model.conditions if domain is None else model.towards(domain),
        tolerance=TOLERANCE,
        images=f"{colours}, sides multiples of {profile.multiple}, {profile.minimum} or more; "
        f"reflect-padded, {'half each side' if profile.anchor == 'center' else 'right and bottom'}",
        channels=model.channels,
        multiple=model.multiple,
        least=model.minimum,
    )
    return export_spec(spec, path, provenance)


def _mixes_images(model: TranslatorNetwork) -> bool:
    return any(isinstance(part, nn.BatchNorm2d) and part.running_mean is None for part in model.modules())
