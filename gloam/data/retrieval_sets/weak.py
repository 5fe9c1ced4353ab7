"""Weak pairs as a set for metric learning: a pair shows one place, a cluster is a part of the map."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from gloam.data.retrieval_sets.pairing import blocks
from gloam.data.retrieval_sets.sets import RetrievalSet
from gloam.data.weak_pairs.pair_file import read_pair_file
from gloam.errors import DataError, UsageError


def read_weak_pairs(
    path: str | Path,
    part: str = "train",
    images: str | Path | None = None,
    side: float = 50.0,
    apart: float = 25.0,
    every: int = 0,
) -> RetrievalSet:
    """Read the file that ``gloam pair`` writes.

    Args:
        path: the ``.json`` file, whose images have positions.
        part: ``train`` or ``test``.
        images: folder that its names are relative to, in place of its own.
        side, apart: of the square blocks that the map is cut into, and of the gaps between them, metres; images of one
            block are no negatives of each other, those in a gap are left out.
        every: n keeps every n-th block, -n all the others, for a validation and a training set; 0 keeps all.

    Raises:
        UsageError: sizes out of range.
        DataError: unreadable, without positions or pairs, or all of one block.
    """
    if not side > 0 or not apart > 0:
        raise UsageError(f"side {side:g}, apart {apart:g}: must be above 0 metres")
    found = read_pair_file(path, part, images=images)
    centers = [image.position for image in found.images]
    if None in centers:
        raise DataError(f"{path}: images have no positions; pair them by `gloam pair`, or take kind pairs")
    labels = blocks(np.array(centers, np.float64), side, apart)
    kept = labels >= 0
    if every:
        kept &= (labels % abs(every) == 0) == (every > 0)
    rows = {image.item.name: row for row, image in enumerate(found.images)}
    both = [(rows[pair.first.item.name], rows[pair.second.item.name]) for pair in found.pairs]
    ordered = np.array(sorted([*both, *(pair[::-1] for pair in both)]), np.int64).reshape(-1, 2)
    same = labels[ordered[:, 0]] == labels[ordered[:, 1]]
    conditions = tuple(found.domains[image.label] for image in found.images)
    items = tuple(image.item for image in found.images)
    whole = RetrievalSet(items, labels, ordered[same, 0], ordered[same, 1], conditions)
    chosen = whole.part(np.flatnonzero(kept))
    if not len(chosen.queries) or chosen.cluster_count < 2:
        raise DataError(
            f"{path}: {len(chosen.queries)} pairs in {chosen.cluster_count} blocks of {side:g} m; pairs in two blocks "
            "are needed, choose a smaller side"
        )
    between = int((labels < 0).sum())
    return replace(chosen, left_out={"in a gap between blocks": between} if between else {})
