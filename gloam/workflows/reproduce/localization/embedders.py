"""Descriptors of a benchmark's images by the embedder of a table's row, kept by the embedder's content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gloam.data.scene import Scene
from gloam.data.sources import ImageItem
from gloam.errors import DataError
from gloam.eval.localization.benchmark import Descriptors
from gloam.runtime.backends.placement import Placement
from gloam.runtime.bulk.extract import ExtractOptions, extract
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.models.embedder import Embedder
from gloam.workflows.reproduce.models import RowEmbedder


def describe(
    embedder: RowEmbedder, scenes: Mapping[str, Scene], place: Path, max_side: int, placement: Placement | None = None
) -> Descriptors:
    """Unit descriptors of all images of scenes; what an earlier run described is used again.

    Args:
        embedder: of the row.
        scenes: by the name of their store.
        place: folder of stores.
        max_side: longer side that images are reduced to, pixels, where the model does not state its own.
        placement: where the embedder runs.

    Raises:
        DataError: an image that cannot be described.
    """
    loaded = Embedder.load(embedder.model, placement or Placement())
    rows: dict[str, Any] = {}
    side = None if embedder.own_size else max_side
    for name, scene in scenes.items():
        folder = place / f"{loaded.fingerprint[:12]}-{side or 'own'}" / name
        items = [ImageItem(image, scene.image_path(image)) for image in scene.names]
        # float32: halves would round what two processors compute to other sides, and ranks with it.
        extract(items, loaded, folder, ExtractOptions(max_side=side, dtype="float32"), grow=True)
        store = DescriptorStore.open(folder)
        rows |= dict(zip(store.names, store.load(), strict=True))
        missing = sorted(set(scene.names) - set(rows))
        if missing:
            raise DataError(
                f"{scene.root}: {len(missing)} of {len(scene.records)} images could not be described, first "
                f"{missing[0]!r}; {folder / 'failures.csv'} says why"
            )
    return Descriptors(rows)


def by_chance(scenes: Sequence[Scene], seed: int = 0) -> Descriptors:
    """Random unit vectors in the place of descriptors: what retrieval gives that knows nothing."""
    names = [name for scene in scenes for name in scene.names]
    matrix = np.random.default_rng([seed, 606]).normal(size=(len(names), 64)).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    return Descriptors(dict(zip(names, matrix, strict=True)))
