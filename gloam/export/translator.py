"""A translator to ONNX: uint8 images whose sides are multiples in, images in [-1, 1] out.

Padding and cropping stay with the caller, who finds the rule in the card's profile: half on each side by repeated
reflection, the extra pixel right and bottom, to exactly the next multiple. ``dynamic`` pads to the network's own
multiple, ``fixed`` to the next multiple of 256, the shapes of engines.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gloam.export.graph import batch_axis, flat, full_provenance, side_axis, trace, write_model
from gloam.model_card import ModelCard, SelfTest, TensorSpec, block_means, selftest_images
from gloam.networks.translators import TranslatorNetwork
from gloam.padding import PaddingProfile, next_multiple

SELFTEST_SIDES = (64, 96)  # height and width of a dynamic profile's self-test, raised to the next multiples
TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2}  # of [-1, 1]; fp16 and bf16 from measured generators


class _Graph(nn.Module):
    def __init__(self, model: TranslatorNetwork) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.translate_uint8(images)


def export_translator(
    model: TranslatorNetwork,
    path: str | Path,
    profile: PaddingProfile | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> ModelCard:
    """Export a translator and return the card that the file carries.

    Args:
        model: generator; put in eval mode, on the CPU.
        path: ``.onnx`` file to write, atomically.
        profile: kind, sides and batch; its padding is replaced by the translators' rule. ``dynamic`` by default. A
            generator whose batch norm has no running statistics takes one image at a time, whatever the profile says.
        provenance: ``recipe``, ``data``, ``licence``; the weights' sha256 is computed here.

    Raises:
        ModelError: the sides of a fixed profile are no multiples of 256 and of the network's own, or the graph is
            invalid.
    """
    model = model.eval()
    profile = (profile or PaddingProfile.dynamic()).reflecting(model.multiple, model.minimum)
    if _mixes_images(model):
        profile = dataclasses.replace(profile, batch=(1, 1))
    card = _card(model, profile, provenance or {})
    multiple, least = model.multiple, max(model.minimum, 2 * model.multiple)
    example = torch.zeros((2, *(next_multiple(side, least) for side in SELFTEST_SIDES), model.channels)).byte()
    shape = {
        0: batch_axis(profile.batch[1]),
        1: side_axis("height", multiple, model.minimum),
        2: side_axis("width", multiple, model.minimum),
    }
    proto = trace(_Graph(model), (example,), {"images": shape}, "translated", model.name)
    card = dataclasses.replace(card, selftest=_selftest(model, profile))
    write_model(proto, card, path)
    return card


def _mixes_images(model: TranslatorNetwork) -> bool:
    return any(isinstance(part, nn.BatchNorm2d) and part.running_mean is None for part in model.modules())


def _card(model: TranslatorNetwork, profile: PaddingProfile, provenance: Mapping[str, Any]) -> ModelCard:
    shape = ("batch", "height", "width", model.channels)
    colours = "RGB" if model.channels == 3 else "grey"
    rule = (
        f"{colours}, sides multiples of {profile.multiple}, {profile.minimum} or more; reflect-padded, half each side"
    )
    return ModelCard(
        kind="translator",
        name=model.name,
        inputs=(TensorSpec("images", "uint8", shape, rule),),
        outputs=(TensorSpec("translated", "float32", shape, f"{colours} in [-1, 1]; crop the padding"),),
        profile=profile,
        network={"name": model.name, **model.options},
        mean=(0.5,) * model.channels,
        std=(0.5,) * model.channels,
        provenance=full_provenance(provenance, model),
        metric="none",
    )


def _selftest(model: TranslatorNetwork, profile: PaddingProfile) -> SelfTest:
    if profile.kind == "fixed":
        height, width = profile.heights[0], profile.widths[0]
    else:
        height, width = (next_multiple(max(side, profile.minimum), profile.multiple) for side in SELFTEST_SIDES)
    batch = min(2, profile.batch[1])
    sizes = ((height, width),) * batch
    images = torch.from_numpy(selftest_images((batch, height, width), sizes)[..., : model.channels])
    with torch.no_grad():
        translated = torch.cat([model.translate_uint8(image[None]) for image in images])
    return SelfTest((batch, height, width), sizes, flat(block_means(translated.numpy())), dict(TOLERANCE))
