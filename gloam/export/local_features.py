"""A network of local features to ONNX: uint8 images of any size in, the features of all scales out, as one graph.

``dynamic`` only: at a scale above 1 a resize reads beyond the valid border of a padded image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gloam.errors import ModelError
from gloam.export.graph import batch_axis, flat, full_provenance, side_axis, trace, write_model
from gloam.model_card import ModelCard, Photometric, SelfTest, TensorSpec, selftest_images, weighted_mean
from gloam.networks.local_features.how import HOW, SCALES
from gloam.padding import PaddingProfile

SELFTEST_SHAPE = (2, 97, 131)  # odd, so that a wrong resize shows
TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 1e-1}  # features are no unit vectors, but whitened: of size 1
SMALLEST = 32  # pixels a side
OUTPUTS = (
    TensorSpec("features", "float32", ("batch", "cells", 0), "local features of all scales, not normalised"),
    TensorSpec("attention", "float32", ("batch", "cells"), "strength of each, the largest of an image 1"),
    TensorSpec("positions", "float32", ("cells", 2), "x, y of the cells' centres in pixels of the image"),
    TensorSpec("scales", "float32", ("cells",), "scale of the image that each cell is of"),
)


class _Graph(nn.Module):
    def __init__(self, model: HOW, scales: tuple[float, ...]) -> None:
        super().__init__()
        self.model = model
        self.scales = scales

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.model.local_features(images, self.scales)


def export_local_features(
    model: nn.Module,
    path: str | Path,
    *,
    scales: Sequence[float] = SCALES,
    profile: PaddingProfile | None = None,
    photometric: Photometric | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> ModelCard:
    """Export a HOW network and return the card that the file carries.

    Args:
        model: a HOW network; put in eval mode, on the CPU.
        path: ``.onnx`` file to write, atomically.
        scales: of the image; the published evaluation's by default.
        profile: ``dynamic``, for its batch.
        photometric: the normalisation that callers must apply to the decoded image.
        provenance: ``recipe``, ``data``, ``licence``; the weights' sha256 is computed here.

    Raises:
        ModelError: another network, a fixed profile, bad scales, or an invalid graph.
    """
    profile = profile or PaddingProfile.dynamic()
    name = str(getattr(model, "name", type(model).__name__))
    if not isinstance(model, HOW):
        raise ModelError(f"{name}: gives no local features; train or import a HOW network")
    if profile.kind == "fixed":
        raise ModelError(f"{name}: padding would change local features of several scales; use the dynamic profile")
    if not scales or len(set(scales)) != len(scales) or not all(0.25 <= scale <= 2 for scale in scales):
        raise ModelError(f"scales {', '.join(map(str, scales)) or 'none'}: different numbers of 0.25..2 are needed")
    model = model.eval()
    scales = tuple(float(scale) for scale in scales)
    card = _card(model, scales, profile, photometric or Photometric(), provenance or {})
    sides = {1: side_axis("height", minimum=SMALLEST), 2: side_axis("width", minimum=SMALLEST)}
    example = torch.zeros((*SELFTEST_SHAPE, 3), dtype=torch.uint8)
    shapes = {"images": {0: batch_axis(profile.batch[1]), **sides}}
    proto = trace(_Graph(model, scales), (example,), shapes, [spec.name for spec in card.outputs], name)
    card = dataclasses.replace(card, selftest=_selftest(model, scales, profile))
    write_model(proto, card, path)
    return card


def _card(
    model: HOW,
    scales: tuple[float, ...],
    profile: PaddingProfile,
    photometric: Photometric,
    provenance: Mapping[str, Any],
) -> ModelCard:
    features = dataclasses.replace(OUTPUTS[0], shape=("batch", "cells", model.dimension))
    return ModelCard(
        kind="local_features",
        name=model.name,
        inputs=(TensorSpec("images", "uint8", ("batch", "height", "width", 3), "RGB, straight from the decoder"),),
        outputs=(features, *OUTPUTS[1:]),
        profile=profile,
        network={"name": model.name, **model.options},
        mean=model.mean,
        std=model.std,
        provenance=full_provenance(provenance, model),
        photometric=photometric,
        scales=scales,
        dimension=model.dimension,
        metric="asmk",
    )


def _selftest(model: HOW, scales: tuple[float, ...], profile: PaddingProfile) -> SelfTest:
    shape = (min(SELFTEST_SHAPE[0], profile.batch[1]), *SELFTEST_SHAPE[1:])
    sizes = (shape[1:],) * shape[0]
    with torch.no_grad():
        features, attention, *_ = model.local_features(torch.from_numpy(selftest_images(shape, sizes)), scales)
    return SelfTest(shape, sizes, flat(weighted_mean(features.numpy(), attention.numpy())), dict(TOLERANCE))
