"""Pairs and clusters where a source gives only one of them, and where both come from positions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from gloam.errors import DataError, UsageError

Indices = npt.NDArray[np.int64]
Positions = npt.NDArray[np.float64]
Singles = Literal["refuse", "keep", "drop"]
SHOWN = 5  # bad entries that a message names
AT_ONCE = 1 << 20  # pairs whose distances are computed at once


def dropped(singles: int) -> dict[str, int]:
    """What a set says that it left out: so many images, each alone in its cluster."""
    return {"alone in its cluster": singles} if singles else {}


def pairs_within(clusters: Indices, pairs_per_image: int = 2, seed: int = 0) -> tuple[Indices, Indices]:
    """Every image with up to ``pairs_per_image`` others of its cluster, drawn without replacement.

    Args:
        clusters: int64 ``[n]``.
        pairs_per_image: pairs that an image is the query of.
        seed: of the draw.

    Returns:
        queries and positives, int64 ``[q]`` each, ascending by query.
    """
    if pairs_per_image < 1:
        raise UsageError(f"pairs per image {pairs_per_image}: must be at least 1")
    rng = np.random.default_rng([seed, 707])
    queries, positives = [], []
    order = np.argsort(clusters, kind="stable")
    bounds = np.flatnonzero(np.diff(clusters[order])) + 1
    for members in np.split(order, bounds) if len(order) else []:
        size = len(members)
        for place in range(size if size > 1 else 0):
            steps = 1 + rng.choice(size - 1, min(pairs_per_image, size - 1), replace=False)
            queries.append(np.full(len(steps), members[place], np.int64))
            positives.append(members[(place + steps) % size].astype(np.int64))
    if not queries:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    q, p = np.concatenate(queries), np.concatenate(positives)
    sorted_rows = np.argsort(q, kind="stable")
    return q[sorted_rows], p[sorted_rows]


def choose_pairs(queries: Indices, positives: Indices, pairs_per_image: int, seed: int = 0) -> tuple[Indices, Indices]:
    """Of many pairs, up to ``pairs_per_image`` of each query, drawn without replacement; ascending by query."""
    if pairs_per_image < 1:
        raise UsageError(f"pairs per image {pairs_per_image}: must be at least 1")
    order = np.random.default_rng([seed, 708]).permutation(len(queries))
    order = order[np.argsort(queries[order], kind="stable")]
    q = queries[order]
    begins = np.flatnonzero(np.concatenate([[True], q[1:] != q[:-1]])) if len(q) else np.empty(0, np.int64)
    rank = np.arange(len(q)) - np.repeat(begins, np.diff(np.append(begins, len(q))))
    kept = order[rank < pairs_per_image]
    return queries[kept], positives[kept]


def components(count: int, first: Indices, second: Indices) -> Indices:
    """Connected components of a graph, int64 ``[count]``, numbered 0.. in the order of their smallest node.

    Args:
        count: nodes.
        first, second: ends of each edge, int64 ``[e]``.
    """
    labels = np.arange(count, dtype=np.int64)
    while len(first):
        least = np.minimum(labels[first], labels[second])
        before = labels.copy()
        np.minimum.at(labels, labels[first], least)
        np.minimum.at(labels, labels[second], least)
        np.minimum.at(labels, first, least)
        np.minimum.at(labels, second, least)
        labels = labels[labels]
        if np.array_equal(labels, before):
            break
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def neighbours(first: Positions, second: Positions, distance: float) -> Iterator[tuple[Indices, Indices]]:
    """Rows of two lists of positions that are at most ``distance`` metres apart, int64 ``[q]`` each, in parts,
    ascending by the first row and the second.

    Args:
        first, second: float64 ``[n, d]`` and ``[m, d]``, metres.
    """
    if not len(first) or not len(second):
        return
    axis = int(np.argmax(np.ptp(np.concatenate([first, second]), axis=0)))
    order = np.argsort(second[:, axis], kind="stable")
    along, reach = second[order, axis], distance + 1e-6 * (1.0 + distance)  # candidates; the distance decides
    low = np.searchsorted(along, first[:, axis] - reach)
    counts = np.searchsorted(along, first[:, axis] + reach, side="right") - low
    begin = 0
    while begin < len(first):
        end = begin + max(1, int(np.searchsorted(np.cumsum(counts[begin:]), AT_ONCE, side="right")))
        rows = np.repeat(np.arange(begin, end), counts[begin:end])
        starts = np.cumsum(counts[begin:end]) - counts[begin:end]
        columns = order[np.repeat(low[begin:end] - starts, counts[begin:end]) + np.arange(len(rows))]
        close = ((first[rows] - second[columns]) ** 2).sum(axis=1) <= distance**2
        rows, columns = rows[close], columns[close]
        sorted_rows = np.lexsort((columns, rows))
        yield rows[sorted_rows].astype(np.int64), columns[sorted_rows].astype(np.int64)
        begin = end


def regions(centers: Positions, apart: float) -> Indices:
    """Groups of positions such that positions of different groups are more than ``apart`` from each other.

    Positions are put into cells of side ``apart``; cells that touch belong together.

    Args:
        centers: float64 ``[n, 3]``, metres.
        apart: metres, above 0.
    """
    cells = np.floor(centers / apart).astype(np.int64)
    unique, inverse = np.unique(cells, axis=0, return_inverse=True)
    index = {tuple(cell): row for row, cell in enumerate(unique.tolist())}
    edges = []
    for step in itertools.product((-1, 0, 1), repeat=3):
        if step > (0, 0, 0):
            for row, cell in enumerate(unique.tolist()):
                other = index.get((cell[0] + step[0], cell[1] + step[1], cell[2] + step[2]))
                if other is not None:
                    edges.append((row, other))
    ends = np.array(edges, np.int64).reshape(-1, 2)
    return components(len(unique), ends[:, 0], ends[:, 1])[inverse.reshape(-1)]


def blocks(centers: Positions, side: float, gap: float) -> Indices:
    """Square blocks with gaps between them, over the two axes along which positions spread most.

    Args:
        centers: float64 ``[n, 3]``, metres.
        side, gap: of the blocks, metres.

    Returns:
        block of each position, int64 ``[n]``; -1 in a gap. Different blocks are at least ``gap`` from each other.
    """
    axes = np.argsort(-np.ptp(centers, axis=0), kind="stable")[:2]
    offsets = centers[:, axes] - centers[:, axes].min(axis=0)
    cells, within = np.divmod(offsets, side + gap)
    labels = np.unique(cells, axis=0, return_inverse=True)[1].astype(np.int64).reshape(-1)
    labels[(within > side).any(axis=1)] = -1
    return labels


def settle_singles(labels: Sequence[str], names: Sequence[str], singles: Singles, where: str) -> list[int]:
    """Rows to keep, given what to do with clusters of one image, which have no positive.

    Args:
        labels: cluster of each image.
        names: of the images, for the message.
        singles: ``refuse``; ``keep`` (they serve as negatives); ``drop``.
        where: the source, for the message.

    Raises:
        DataError: ``refuse`` and there are such clusters; the first are named.
    """
    if singles not in ("refuse", "keep", "drop"):
        raise UsageError(f"unknown way {singles!r} with clusters of one image; choose refuse, keep or drop")
    counts: dict[str, int] = {}
    for label in labels:
        counts[label] = counts.get(label, 0) + 1
    alone = [row for row, label in enumerate(labels) if counts[label] == 1]
    if alone and singles == "refuse":
        shown = ", ".join(f"{labels[row]} ({names[row]})" for row in alone[:SHOWN])
        raise DataError(
            f"{where}: {len(alone)} clusters have one image, so no positive: {shown}"
            f"{', ...' if len(alone) > SHOWN else ''}; add images, or choose --singles keep (negatives only) or drop"
        )
    return [row for row, label in enumerate(labels) if counts[label] > 1 or singles == "keep"]


def number(labels: Sequence[str]) -> Indices:
    """Whole numbers for labels, in the order of their first image, int64 ``[n]``."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(label, len(known)) for label in labels], np.int64)
