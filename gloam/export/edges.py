"""An edge detector to ONNX: uint8 images of any size in, edge probabilities out.

``dynamic`` only: its bilinear upsampling depends on the size of the image, so padding would change every edge.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gloam.errors import ModelError
from gloam.export.graph import batch_axis, flat, full_provenance, side_axis, trace, write_model
from gloam.model_card import ModelCard, SelfTest, TensorSpec, block_means, selftest_images
from gloam.networks.edges import EdgeDetectorNetwork
from gloam.networks.edges.base import MEAN_BGR
from gloam.padding import PaddingProfile

SELFTEST_SHAPE = (2, 97, 131)  # odd, so that a wrong upsampling shows
TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2}  # of a probability


class _Graph(nn.Module):
    def __init__(self, model: EdgeDetectorNetwork) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.edges_uint8(images)


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
    model = model.eval()
    # Images under the minimum alone are reflected; a larger one keeps its size.
    profile = dataclasses.replace(profile.reflecting(1), minimum=model.minimum)
    card = _card(model, profile, provenance or {})
    shape = {
        0: batch_axis(profile.batch[1]),
        1: side_axis("height", minimum=model.minimum),
        2: side_axis("width", minimum=model.minimum),
    }
    # Odd: at a multiple of 8 RCF's last crop does nothing, and the exporter would leave it out for every size.
    example = torch.zeros((*SELFTEST_SHAPE, 3), dtype=torch.uint8)
    proto = trace(_Graph(model), (example,), {"images": shape}, "edges", model.name)
    card = dataclasses.replace(card, selftest=_selftest(model, profile))
    write_model(proto, card, path)
    return card


def _card(model: EdgeDetectorNetwork, profile: PaddingProfile, provenance: Mapping[str, Any]) -> ModelCard:
    return ModelCard(
        kind="edges",
        name=model.name,
        inputs=(TensorSpec("images", "uint8", ("batch", "height", "width", 3), "RGB, straight from the decoder"),),
        outputs=(TensorSpec("edges", "float32", ("batch", "height", "width"), "edge probabilities in [0, 1]"),),
        profile=profile,
        network={"name": model.name, **model.options},
        mean=tuple(value / 255 for value in reversed(MEAN_BGR)),
        std=(1 / model.input_scale,) * 3,
        provenance=full_provenance(provenance, model),
        metric="none",
    )


def _selftest(model: EdgeDetectorNetwork, profile: PaddingProfile) -> SelfTest:
    shape = (min(SELFTEST_SHAPE[0], profile.batch[1]), *SELFTEST_SHAPE[1:])
    sizes = (shape[1:],) * shape[0]
    images = torch.from_numpy(selftest_images(shape, sizes))
    with torch.no_grad():
        maps = model.edges_uint8(images)
    return SelfTest(shape, sizes, flat(block_means(maps.numpy())), dict(TOLERANCE))
