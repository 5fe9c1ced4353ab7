"""Mutual nearest neighbours of unit descriptors, blocked so that no full similarity matrix exists."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BLOCK = 4096  # rows per block: 4096 x 20k float32 similarities are 320 MB


def match_mutual(
    first: npt.NDArray[np.float32],
    second: npt.NDArray[np.float32],
    *,
    ratio: float | None = None,
    block: int = BLOCK,
) -> npt.NDArray[np.uint32]:
    """Mutual nearest neighbours by dot product.

    Args:
        first, second: float32 ``[n, D]`` and ``[m, D]``, unit length.
        ratio: Lowe's test on Euclidean distances, of each row of ``first`` to its two nearest of ``second``, so that
            the order of the two counts; None accepts every mutual pair.
        block: rows of ``first`` per block.

    Returns:
        uint32 ``[k, 2]`` of row numbers, ascending in the first; ties go to the lower row.
    """
    if not len(first) or not len(second):
        return np.zeros((0, 2), np.uint32)
    forward = np.empty(len(first), np.int64)
    passes = np.ones(len(first), bool)
    best = np.full(len(second), -np.inf, np.float32)
    backward = np.zeros(len(second), np.int64)
    for start in range(0, len(first), block):
        similarity = first[start : start + block] @ second.T
        rows = slice(start, start + len(similarity))
        forward[rows] = similarity.argmax(1)
        column = similarity.argmax(0)
        value = similarity[column, np.arange(len(second))]
        better = value > best
        backward[better], best[better] = column[better] + start, value[better]
        if ratio is not None and len(second) > 1:
            own = np.arange(len(similarity)), forward[rows]
            nearest = similarity[own]
            similarity[own] = -np.inf
            near, far = (np.sqrt(np.maximum(2 - 2 * cosine, 0)) for cosine in (nearest, similarity.max(1)))
            passes[rows] = near <= ratio * far
    keep = (backward[forward] == np.arange(len(first))) & passes
    index = np.flatnonzero(keep)
    return np.stack([index, forward[index]], axis=1).astype(np.uint32)
