"""Labelled training images, and the batches drawn from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gloam.errors import DataError


@dataclass(frozen=True)
class PlaceImages:
    """Images of places under several conditions, all of one size.

    Attributes:
        images: uint8 RGB ``[n, H, W, 3]``.
        places: int64 ``[n]``; equal labels show the same place.
        conditions: condition of each image, e.g. ``day`` or ``night``.
        names: a name of each image, for messages.
    """

    images: npt.NDArray[np.uint8]
    places: npt.NDArray[np.int64]
    conditions: tuple[str, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)


def draw_batch(
    places: npt.NDArray[np.int64], batch_places: int, images_per_place: int, random: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Draw several images of each of several places.

    Args:
        places: int64 ``[n]`` labels; places with fewer than ``images_per_place`` images are not drawn.
        batch_places: P, different places.
        images_per_place: K, different images of each.
        random: source of all choices.

    Returns:
        Indices, int64 ``[P, K]``.

    Raises:
        DataError: fewer than P places have K images.
    """
    labels, place, seen = np.unique(places, return_inverse=True, return_counts=True)
    usable = np.flatnonzero(seen >= images_per_place)
    if len(usable) < batch_places:
        raise DataError(
            f"a batch needs {batch_places} places of {images_per_place} images each, but only {len(usable)} of "
            f"{len(labels)} places have as many; render more or lower batch_places or images_per_place"
        )
    rows = [
        random.choice(np.flatnonzero(place == label), images_per_place, replace=False)
        for label in random.choice(usable, batch_places, replace=False)
    ]
    return np.stack(rows).astype(np.int64)
