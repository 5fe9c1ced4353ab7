"""The release check's numeric step: an exported file against the PyTorch original, per shape and batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from gloam.errors import IncompatibleError
from gloam.model_card import ModelCard
from gloam.networks.checkpoints import weights_sha256
from gloam.networks.embedders import DescriptorPipeline, EmbedderNetwork
from gloam.padding import PaddingProfile, next_multiple
from gloam.runtime.models.embedder import Embedder as ExportedEmbedder

if TYPE_CHECKING:
    from gloam.runtime.descriptors.whitening import Whitening

# Largest 1 - cosine between a descriptor and the original's, by the file's precision
COSINE_LOSS = {"fp32": 1e-6, "fp16": 1e-3, "bf16": 1e-3, "int8": 1e-3}
Images = Sequence[npt.NDArray[np.uint8]]
# (height, width) of each image of a batch: odd, mixed, narrow
DEFAULT_SHAPES: tuple[tuple[tuple[int, int], ...], ...] = (
    ((256, 256),),
    ((255, 257), (200, 131), (33, 256)),
    ((240, 320), (240, 320)),
)


@dataclass(frozen=True)
class Agreement:
    """How one batch agrees.

    Attributes:
        shapes: (height, width) of each image, pixels.
        max_abs: largest difference of a value: of a descriptor, of an image in [-1, 1], of edges in [0, 1].
        cosine: smallest cosine between the two descriptors of an image; None where the model gives images or edges.
    """

    shapes: tuple[tuple[int, int], ...]
    max_abs: float
    cosine: float | None = None

    def within(self, precision: str, tolerance: float) -> bool:
        """Whether it is as near as a file's precision and the largest difference that is allowed ask for."""
        lost = 0.0 if self.cosine is None else 1 - self.cosine
        return lost <= COSINE_LOSS[precision] and self.max_abs <= tolerance

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        found = {"shapes": self.shapes, "max_abs": self.max_abs}
        return found if self.cosine is None else found | {"cosine": self.cosine}


def compare(
    model: EmbedderNetwork,
    exported: ExportedEmbedder,
    shapes: Sequence[Sequence[tuple[int, int]]] = DEFAULT_SHAPES,
    seed: int = 0,
) -> list[Agreement]:
    """Describe the same generated images by both. The graphs alone are compared: no photometric normalisation.

    Args:
        model: the original, run on one image at a time at native size.
        exported: the file, in its own profile.
        shapes: batches of (height, width), pixels; cut to the profile's largest shape.
        seed: of the images.

    Raises:
        IncompatibleError: the file was exported from other weights, or with other scales or another whitening.
    """
    expected = weights_sha256(model.core.state_dict())
    if exported.card.provenance.get("weights_sha256") != expected:
        raise IncompatibleError("the model was exported from other weights than those given with --against")
    card = exported.card
    if (card.scales, card.whitening) != (model.scales, model.whitening):
        raise IncompatibleError(
            f"the model was exported with scales {card.scales} and {_whitening_name(card.whitening)}, but the original "
            f"has {model.scales} and {_whitening_name(model.whitening)}"
        )
    results = []
    for images in _generated_batches(exported.card.profile, shapes, seed):
        groups = _groups(exported, images)
        found = np.concatenate([exported.run_batch(group) for group in groups])
        ordered = [image for group in groups for image in group]
        with torch.no_grad():
            truth = np.concatenate([model.describe_uint8(torch.from_numpy(image)[None]).numpy() for image in ordered])
        cosine = (found * truth).sum(1) / (np.linalg.norm(found, axis=1) * np.linalg.norm(truth, axis=1))
        sizes = tuple((image.shape[0], image.shape[1]) for image in ordered)
        results.append(Agreement(sizes, float(np.abs(found - truth).max()), float(cosine.min())))
    return results


def _whitening_name(whitening: Mapping[str, str] | None) -> str:
    """For messages."""
    return "no whitening" if whitening is None else f"whitening {whitening['name']} ({whitening['sha256'][:12]})"


def as_exported(model: EmbedderNetwork, card: ModelCard, whitening: Whitening | None = None) -> EmbedderNetwork:
    """The original inside the pipeline that a card states; as it is where the card states none or it has one itself.

    Raises:
        IncompatibleError: the file has a whitening that is not the one given.
        ModelError: the whitening is of another dimension.
    """
    baked = card.photometric.baked
    if model.core is not model or not (card.scales != (1.0,) or card.whitening is not None or whitening or baked):
        return model
    stated = None if whitening is None else {"name": whitening.name, "sha256": whitening.sha256}
    if card.whitening != stated:
        raise IncompatibleError(
            f"the model was exported with {_whitening_name(card.whitening)}, but {_whitening_name(stated)} is given; "
            "name its file with --whitening"
        )
    clahe = None
    if baked:
        from gloam.networks.clahe import ClaheLayer

        clahe = ClaheLayer(clip=card.photometric.clip, grid=card.photometric.grid)
    power = (card.pooling or {}).get("scale_power")
    return DescriptorPipeline(model, scales=card.scales, power=power, whitening=whitening, clahe=clahe).eval()


def _generated_batches(
    profile: PaddingProfile, shapes: Sequence[Sequence[tuple[int, int]]], seed: int
) -> list[list[npt.NDArray[np.uint8]]]:
    rng = np.random.default_rng(seed)
    tallest = profile.heights[-1] if profile.heights else None
    widest = profile.widths[-1] if profile.widths else None

    def whole(side: int, largest: int | None) -> int:
        if profile.kind == "square":
            return profile.heights[0]
        least = next_multiple(profile.minimum, profile.cell)
        return max(min(side, largest or side) // profile.cell * profile.cell, least)

    return [[textured_image(rng, whole(h, tallest), whole(w, widest)) for h, w in batch] for batch in shapes]


def _groups(exported: ExportedEmbedder, images: Images) -> list[list[npt.NDArray[np.uint8]]]:
    """Images that run together: one padded shape, and no more than the profile's batch."""
    buckets: dict[tuple[int, int], list[npt.NDArray[np.uint8]]] = {}
    for image in images:
        buckets.setdefault(exported.shape_for(image), []).append(image)
    largest = exported.card.profile.batch[1]
    return [bucket[at : at + largest] for bucket in buckets.values() for at in range(0, len(bucket), largest)]


def textured_image(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Noise of several scales, uint8 ``[height, width, 3]``: closer to a photograph's spectrum than white noise."""
    image = np.zeros((height, width, 3))
    for scale in (1, 4, 16, 64):
        coarse = rng.normal(size=(height // scale + 2, width // scale + 2, 3))
        image += np.repeat(np.repeat(coarse, scale, 0), scale, 1)[:height, :width] * scale**0.5
    image = 128 + 40 * image / image.std()
    result: npt.NDArray[np.uint8] = image.clip(0, 255).astype(np.uint8)
    return result
