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

import torch
from torch import Tensor, nn

from gloam.data.images import MIN_SIDE
from gloam.errors import ModelError
from gloam.export.graph import batch_axis, flat, full_provenance, side_axis, trace, write_model
from gloam.model_card import ModelCard, Photometric, SelfTest, TensorSpec, selftest_images
from gloam.networks.embedders import EmbedderNetwork
from gloam.padding import PaddingProfile

SELFTEST_DYNAMIC = ((2, 97, 131), ((97, 131), (97, 131)))
SELFTEST_FIXED_SIZES = ((255, 201), (97, 131))  # odd, so that a wrong mask shows


class _Dynamic(nn.Module):
    def __init__(self, model: EmbedderNetwork) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.describe_uint8(images)


class _Fixed(_Dynamic):
    def forward(self, images: Tensor, sizes: Tensor) -> Tensor:  # type: ignore[override]  # one more graph input
        return self.model.describe_uint8(images, sizes)


def export_embedder(
    model: EmbedderNetwork,
    path: str | Path,
    *,
    profile: PaddingProfile | None = None,
    photometric: Photometric | None = None,
    provenance: Mapping[str, Any],
) -> ModelCard:
    """Export an embedder and return the card that the file carries.

    Args:
        model: embedder; put in eval mode.
        path: ``.onnx`` file to write, atomically.
        profile: native sizes (default) or fixed padded shapes.
        photometric: the normalisation that callers must apply to the decoded image; none where the graph does it.
        provenance: ``recipe``, ``data``, ``licence``; the weights' sha256 is computed here.

    Raises:
        ModelError: a fixed profile for a model that is not padding-exact, a normalisation on top of a baked one, or an
            invalid graph.
    """
    profile = profile or PaddingProfile.dynamic()
    fixed = profile.kind == "fixed"
    if fixed and not model.padding_exact:
        raise ModelError(
            f"{model.name} is not padding-exact, so a fixed profile would change its descriptors; use dynamic"
        )
    if photometric is not None and photometric.name != "none" and model.photometric.baked:
        raise ModelError(
            f"{model.name}: {model.photometric.name} is inside the graph; no normalisation is left to callers"
        )
    if model.smallest_side > MIN_SIDE:
        profile = dataclasses.replace(profile, minimum=model.smallest_side)
    model = model.eval()
    card = _card(model, profile, model.photometric if model.photometric.baked else photometric, provenance)
    proto = _trace(model, profile)
    # The card's own size is no part of the graph: the self-test comes from torch, the truth the file must reproduce.
    card = dataclasses.replace(card, selftest=_selftest(model, profile))
    write_model(proto, card, path)
    return card


def _trace(model: EmbedderNetwork, profile: PaddingProfile) -> Any:
    batch = batch_axis(profile.batch[1])
    fixed = profile.kind == "fixed"
    # Odd: where a pad or a crop does nothing for the example, the exporter would leave it out for every size.
    images = torch.zeros((2, 256, 320, 3) if fixed else (2, 131, 163, 3), dtype=torch.uint8)
    least = max(MIN_SIDE, profile.minimum)
    shape = {0: batch, 1: side_axis("height", minimum=least), 2: side_axis("width", minimum=least)}
    if fixed:
        wrapper: nn.Module = _Fixed(model)
        arguments: tuple[Tensor, ...] = (images, torch.tensor(((200, 300), (256, 320)), dtype=torch.int32))
        shapes: dict[str, Any] = {"images": shape, "sizes": {0: batch}}
    else:
        wrapper, arguments, shapes = _Dynamic(model), (images,), {"images": shape}
    return trace(wrapper, arguments, shapes, "descriptors", model.name)


def _card(
    model: EmbedderNetwork, profile: PaddingProfile, photometric: Photometric | None, provenance: Mapping[str, Any]
) -> ModelCard:
    inputs = [TensorSpec("images", "uint8", ("batch", "height", "width", 3), "RGB, straight from the decoder")]
    if profile.kind == "fixed":
        inputs.append(TensorSpec("sizes", "int32", ("batch", 2), "valid height and width of each image"))
    return ModelCard(
        kind="embedder",
        name=model.name,
        inputs=tuple(inputs),
        outputs=(TensorSpec("descriptors", "float32", ("batch", model.dimension), "unit vectors"),),
        profile=profile,
        network={"name": model.name, **model.core.options},
        mean=model.mean,
        std=model.std,
        provenance=full_provenance(provenance, model.core),
        photometric=photometric or Photometric(),
        scales=model.scales,
        pooling=model.pooling,
        whitening=model.whitening,
        dimension=model.dimension,
    )


def _selftest(model: EmbedderNetwork, profile: PaddingProfile) -> SelfTest:
    if profile.kind == "fixed":
        shape = (2, profile.heights[0], profile.widths[0])
        sizes = tuple((min(h, shape[1]), min(w, shape[2])) for h, w in SELFTEST_FIXED_SIZES)
    else:
        shape, sizes = SELFTEST_DYNAMIC
    rows_allowed = min(shape[0], profile.batch[1])
    shape, sizes = (rows_allowed, *shape[1:]), sizes[:rows_allowed]
    images = torch.from_numpy(selftest_images(shape, sizes))
    with torch.no_grad():
        rows = [model.describe_uint8(images[row : row + 1, :h, :w])[0] for row, (h, w) in enumerate(sizes)]
    return SelfTest(shape, sizes, flat(torch.stack(rows)))
