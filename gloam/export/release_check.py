"""The release check's numeric step: an exported file against the PyTorch original, per shape and batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from gloam.errors import IncompatibleError
from gloam.runtime.embedder import Embedder as ExportedEmbedder
from gloam.training.networks.embedders import Embedder

# (height, width) of each image of a batch: odd, mixed, narrow
DEFAULT_SHAPES: tuple[tuple[tuple[int, int], ...], ...] = (
    ((256, 256),),
    ((255, 257), (200, 131), (33, 256)),
    ((240, 320), (240, 320)),
)


@dataclass(frozen=True)
class Agreement:
    """How one batch agrees: the worst difference and the worst cosine."""

    shapes: tuple[tuple[int, int], ...]
    max_abs: float
    cosine: float


def compare(
    model: Embedder,
    exported: ExportedEmbedder,
    shapes: Sequence[Sequence[tuple[int, int]]] = DEFAULT_SHAPES,
    seed: int = 0,
) -> list[Agreement]:
    """Describe generated photographs-like images by both and compare.

    Args:
        model: the original, at native size.
        exported: the file, in its own profile.
        shapes: batches of (height, width).
        seed: of the images.

    Raises:
        IncompatibleError: the file was exported from other weights.
    """
    from gloam.training.networks.checkpoints import weights_sha256

    expected = weights_sha256(model.state_dict())
    if exported.card.provenance.get("weights_sha256") != expected:
        raise IncompatibleError("the model was exported from other weights than those given with --against")
    rng = np.random.default_rng(seed)
    results = []
    for batch in shapes:
        images = [_textured_image(rng, height, width) for height, width in batch]
        found = exported(images)
        with torch.no_grad():
            truth = np.concatenate([model.describe_uint8(torch.from_numpy(image)[None]).numpy() for image in images])
        cosine = (found * truth).sum(1) / (np.linalg.norm(found, axis=1) * np.linalg.norm(truth, axis=1))
        results.append(Agreement(tuple(batch), float(np.abs(found - truth).max()), float(cosine.min())))
    return results


def _textured_image(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Noise of several scales, uint8 ``[height, width, 3]``: closer to a photograph's spectrum than white noise."""
    image = np.zeros((height, width, 3))
    for scale in (1, 4, 16, 64):
        coarse = rng.normal(size=(height // scale + 2, width // scale + 2, 3))
        image += np.repeat(np.repeat(coarse, scale, 0), scale, 1)[:height, :width] * scale**0.5
    image = 128 + 40 * image / image.std()
    result: npt.NDArray[np.uint8] = image.clip(0, 255).astype(np.uint8)
    return result
