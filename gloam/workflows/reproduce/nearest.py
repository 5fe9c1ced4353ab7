"""Images of weak pairs described for a figure, and where they were taken."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gloam.data.weak_pairs.pair_file import PairedImage
from gloam.errors import DataError
from gloam.eval.retrieval.recall_distance import Points
from gloam.files import sha256_json
from gloam.runtime.bulk.extract import ExtractOptions, extract
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.models.embedder import Embedder


def describe_paired(
    images: Sequence[PairedImage], embedder: Embedder, stores: Path, options: ExtractOptions
) -> DescriptorStore:
    """Descriptors of images, kept in a folder of their own; what an earlier call described is used again.

    Args:
        images: to describe.
        embedder: by what.
        stores: for the folder.
        options: at what size.

    Raises:
        StoreError: the folder cannot be read or written.
    """
    items = [one.item for one in images]
    of = sha256_json([embedder.fingerprint, options.stretch or options.max_side, [item.name for item in items]])
    extract(items, embedder, stores / of[:20], options)
    return DescriptorStore.open(stores / of[:20])


def positions_of(images: Sequence[PairedImage]) -> dict[str, Points]:
    """Metres ``[3]`` by name.

    Raises:
        DataError: an image of which the pair file has none.
    """
    absent = [one.item.name for one in images if one.position is None]
    if absent:
        raise DataError(f"{absent[0]}: the pair file has no position of it; pair the images by `gloam pair`")
    return {one.item.name: np.array(one.position, np.float64) for one in images}
