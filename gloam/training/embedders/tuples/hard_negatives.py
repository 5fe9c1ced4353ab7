"""Hard negatives: the images of other places that the current network takes for the anchor's place."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gloam.errors import DataError

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
        int64 ``[T, count]``, most similar first; of equal images of a place the first.

    Raises:
        ValueError: too few places.
    """
    pool = np.arange(len(places)) if candidates is None else candidates
    found = len(np.unique(places[pool]))
    if found <= count:
        raise ValueError(f"{count} negatives need more than {count} places to choose from, there are {found}")
    return pool[hard_negatives(descriptors[anchors], places[anchors], descriptors[pool], places[pool], count)]


def hard_negatives(
    anchors: npt.NDArray[np.float32],  # [T, D]
    anchor_places: npt.NDArray[np.int64],  # [T]
    pool: npt.NDArray[np.float32],  # [n, D]
    pool_places: npt.NDArray[np.int64],  # [n]
    count: int,
) -> npt.NDArray[np.int64]:
    """Rows of the pool: for each anchor the most similar of other places, at most one per place.

    Grouped by place, the best image of each place is one segmented maximum, so the anchor's place is one column to
    leave out, no two negatives share a place, and nothing is ranked but the places.

    Args:
        anchors: unit descriptors, float32 ``[T, D]``; of translated images where anchors are translated.
        anchor_places, pool_places: labels, int64 ``[T]`` and ``[n]``.
        pool: unit descriptors, float32 ``[n, D]``.
        count: negatives per anchor.

    Returns:
        int64 ``[T, count]``, most similar first; of equal images of a place the first.

    Raises:
        DataError: an anchor has too few other places in the pool.
    """
    labels, place, sizes = np.unique(pool_places, return_inverse=True, return_counts=True)
    others = len(labels) - np.isin(anchor_places, labels)
    if len(anchors) and others.min() < count:
        raise DataError(
            f"{count} negatives need images of as many other places, there are {others.min()} in a pool of "
            f"{len(pool_places)}; lower negatives or enlarge negative_pool"
        )
    order = np.argsort(place, kind="stable")
    starts = np.cumsum(sizes) - sizes
    own = np.searchsorted(labels, anchor_places)
    own_known = own < len(labels)
    own_known[own_known] = labels[own[own_known]] == anchor_places[own_known]
    columns = np.ascontiguousarray(pool[order].T)
    chosen = np.empty((len(anchors), count), np.int64)
    block = max(1, BLOCK_VALUES // max(len(order), 1))
    for first in range(0, len(anchors), block):
        rows = slice(first, first + block)
        similarity = anchors[rows] @ columns
        best = np.maximum.reduceat(similarity, starts, axis=1)
        known = np.flatnonzero(own_known[rows])
        best[known, own[rows][known]] = -np.inf
        groups = _most_similar(best, count)
        chosen[rows] = order[_members(similarity, best, groups, starts, sizes)]
    return chosen


def _most_similar(best: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.int64]:  # [T, count]
    """Columns of the largest values of each row, largest first."""
    spare = min(best.shape[1], 4 * count + 8)  # a few more than asked for, so that ties at the edge are rare
    if spare == best.shape[1]:
        return np.argsort(-best, axis=1, kind="stable")[:, :count]
    near = np.sort(np.argpartition(-best, spare - 1, axis=1)[:, :spare], axis=1)
    ranked = np.argsort(-np.take_along_axis(best, near, axis=1), axis=1, kind="stable")[:, :count]
    return np.take_along_axis(near, ranked, axis=1)


def _members(
    similarity: npt.NDArray[np.float32],  # [T, n], grouped by place
    best: npt.NDArray[np.float32],  # [T, places]
    groups: npt.NDArray[np.int64],  # [T, count]
    starts: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:  # [T, count]
    """Column of the first image of each chosen place that has the place's best similarity."""
    rows, columns = groups.shape
    lengths = sizes[groups].ravel()
    firsts = np.cumsum(lengths) - lengths
    within = np.arange(int(lengths.sum())) - np.repeat(firsts, lengths)
    members = np.repeat(starts[groups].ravel(), lengths) + within
    row = np.repeat(np.repeat(np.arange(rows), columns), lengths)
    top = np.repeat(np.take_along_axis(best, groups, axis=1).ravel(), lengths)
    none = np.iinfo(np.int64).max
    hit = np.minimum.reduceat(np.where(similarity[row, members] == top, within, none), firsts)
    hit[hit == none] = 0  # NaN equals nothing; the loss will say so
    found = starts[groups] + hit.reshape(rows, columns)
    return np.asarray(found, np.int64)
