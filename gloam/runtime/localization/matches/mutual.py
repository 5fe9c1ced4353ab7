"""Mutual nearest neighbours of unit descriptors, blocked so that no full similarity matrix exists.

The plain control of every learned matcher, with the same face: :class:`~gloam.runtime.models.matcher.FeatureMatcher`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gloam.errors import IncompatibleError, UsageError
from gloam.runtime.models.matcher import Matched

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

    Raises:
        IncompatibleError: descriptors of two lengths.
    """
    if not len(first) or not len(second):
        return np.zeros((0, 2), np.uint32)
    if first.shape[1] != second.shape[1]:
        raise IncompatibleError(
            f"descriptors of {first.shape[1]} values cannot be matched with those of {second.shape[1]}; extract both "
            "images' features alike"
        )
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


class Described(Protocol):
    """Features of an image: ``descriptors``, float32 ``[n, D]`` of unit length."""

    @property
    def descriptors(self) -> npt.NDArray[np.float32]:
        """See above."""
        ...


@dataclass(frozen=True)
class MutualMatcher:
    """:func:`match_mutual` with the face of every matcher.

    Attributes:
        ratio: of Lowe's test, above 0 and at most 1; None accepts every mutual pair.

    Raises:
        UsageError: another ratio.
    """

    ratio: float | None = None

    def __post_init__(self) -> None:
        if self.ratio is not None and not 0 < self.ratio <= 1:
            raise UsageError(f"a ratio of {self.ratio:g}; Lowe's test takes one above 0 and at most 1")

    @property
    def key(self) -> str:
        """Identity, for caches."""
        return f"mutual neighbours, ratio {self.ratio}"

    def __call__(self, first: Described, second: Described) -> Matched:
        """Match two images.

        Returns:
            uint32 ``[m, 2]`` of rows, ascending in the first; and float32 ``[m]``, the cosine of each pair.

        Raises:
            IncompatibleError: descriptors of two lengths.
        """
        matches = match_mutual(first.descriptors, second.descriptors, ratio=self.ratio)
        cosines = (first.descriptors[matches[:, 0]] * second.descriptors[matches[:, 1]]).sum(1)
        return matches, cosines.astype(np.float32, copy=False)

    def match_pairs(self, pairs: Sequence[tuple[Described, Described]]) -> list[Matched]:
        """Match many pairs of images, one after the other."""
        return [self(*pair) for pair in pairs]
