"""The release check's numeric step for translators and edge detectors: a file against the PyTorch original."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from gloam.errors import IncompatibleError
from gloam.export.precision.release_check import DEFAULT_SHAPES, Agreement, textured_image
from gloam.networks.checkpoints import weights_sha256
from gloam.networks.edges import EdgeDetectorNetwork
from gloam.networks.translators import TranslatorNetwork
from gloam.padding import crop_back, reflect_pad
from gloam.runtime.models.image_model import ImageModel


def compare_maps(
    model: TranslatorNetwork | EdgeDetectorNetwork,
    exported: ImageModel,
    shapes: Sequence[Sequence[tuple[int, int]]] = DEFAULT_SHAPES,
    seed: int = 0,
) -> list[Agreement]:
    """Run the same generated images through both, one by one through the original.

    Args:
        model: the original; its images are padded by the rule of the file's profile.
        exported: the file, in its own profile.
        shapes: batches of (height, width), pixels; cut to the profile's largest shape.
        seed: of the images.

    Raises:
        IncompatibleError: the file was exported from other weights.
    """
    profile = exported.card.profile
    if exported.card.provenance.get("weights_sha256") != weights_sha256(model.state_dict()):
        raise IncompatibleError("the model was exported from other weights than those given with --against")
    rng = np.random.default_rng(seed)
    results = []
    for batch in shapes:
        sizes = [_fitting(size, profile.heights, profile.widths) for size in batch]
        images = [textured_image(rng, *size)[..., : exported.channels] for size in sizes]
        worst = 0.0
        for image, found in zip(images, exported.maps(images), strict=True):
            padded, corner = reflect_pad(image, profile.multiple, profile.minimum, profile.anchor)
            given = torch.from_numpy(np.ascontiguousarray(padded))[None]
            conditions = [
                torch.from_numpy(spec.filled(1, given.shape[1], given.shape[2])) for spec in exported.card.inputs[1:]
            ]
            with torch.no_grad():
                if isinstance(model, TranslatorNetwork):
                    truth = model.translate_uint8(given, *conditions)
                else:
                    truth = model.edges_uint8(given)
            expected = crop_back(truth[0].numpy(), corner, (image.shape[0], image.shape[1]))
            worst = max(worst, float(np.abs(found - expected).max()))
        results.append(Agreement(tuple(sizes), worst))
    return results


def _fitting(size: tuple[int, int], heights: Sequence[int], widths: Sequence[int]) -> tuple[int, int]:
    return min(size[0], heights[-1] if heights else size[0]), min(size[1], widths[-1] if widths else size[1])
