"""Hard negatives: the images of other places that the current network takes for the anchor's place."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BLOCK_VALUES = 1 << 23  # similarities held at a time


def mine_negatives(
    anchors: npt.NDArray[np.int64],  # [T]
    descriptors: npt.NDArray[np.float32],  # [n, D]
    places: npt.NDArray[np.int64],  # [n]
    count: int,
    candidates: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[np.int64]:
    """The ``count`` most similar images of other places for each anchor, at most one per place.

    Args:
        anchors: indices of the anchors.
        descriptors: unit descriptors of all images.
        places: label of each image's place; equal labels are never negatives of each other.
        count: negatives per anchor; there must be more than ``count`` places among the candidates.
        candidates: indices that may be chosen; all images by default.

    Returns:
        int64 ``[T, count]``, most similar first; equal similarities in the order of the candidates.

    Raises:
        ValueError: too few places.
    """
    pool = np.arange(len(places)) if candidates is None else candidates
    labels, place = np.unique(places[pool], return_inverse=True)
    if len(labels) <= count:
        raise ValueError(f"{count} negatives need more than {count} places to choose from, there are {len(labels)}")
    # Grouped by place, the best image of each place is one segmented maximum, and one per place comes for free.
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    grouped = pool[order]
    chosen = np.empty((len(anchors), count), np.int64)
    block = max(1, BLOCK_VALUES // len(grouped))
    for first in range(0, len(anchors), block):
        rows = anchors[first : first + block]
        similarity = descriptors[rows] @ descriptors[grouped].T
        best = np.maximum.reduceat(similarity, starts, axis=1)
        best[labels[None, :] == places[rows][:, None]] = -np.inf
        nearest = np.argsort(-best, axis=1, kind="stable")[:, :count]
        for row, groups in enumerate(nearest):
            for column, group in enumerate(groups):
                stop = starts[group + 1] if group + 1 < len(starts) else len(grouped)
                member = int(np.argmax(similarity[row, starts[group] : stop]))
                chosen[first + row, column] = grouped[starts[group] + member]
    return chosen
