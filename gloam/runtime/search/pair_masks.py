"""Which pairs of a query and an image of the map are left out, decided tile by tile while pairs are retrieved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gloam.errors import UsageError

Hidden = npt.NDArray[np.bool_]


class PairMask(Protocol):
    """Hides some of the pairs."""

    def check(self, queries: int, images: int) -> None:
        """Refuse to mask other numbers of queries and images than this mask was made for."""
        ...

    def hidden(self, queries: slice, images: slice) -> Hidden:
        """bool ``[q, m]``, True where a pair of these rows of the two stores is left out."""
        ...


@dataclass(frozen=True)
class GroupMask:
    """Leaves out pairs within one group, for example of the same camera, or keeps these alone.

    Attributes:
        queries: int64 ``[q]``, the group of each query, in the order of the store; -1 where none is known.
        images: int64 ``[m]``, likewise of the map; the numbers mean the same groups.
        only: keep the pairs of one group and leave out the others. What has no group is in the group of nothing: its
            pairs are kept by default and left out with ``only``.
    """

    queries: npt.NDArray[np.int64]
    images: npt.NDArray[np.int64]
    only: bool = False

    def check(self, queries: int, images: int) -> None:
        """See :class:`PairMask`."""
        _expect("groups", len(self.queries), len(self.images), queries, images)

    def hidden(self, queries: slice, images: slice) -> Hidden:
        """See :class:`PairMask`."""
        own = self.queries[queries, None]
        same: Hidden = (own == self.images[None, images]) & (own >= 0)
        return ~same if self.only else same


@dataclass(frozen=True)
class DistanceMask:
    """Leaves out images of the map that were taken nearer to the query than a distance.

    Attributes:
        queries: float64 ``[q, 3]``, positions in metres, NaN where unknown; such pairs are kept.
        images: float64 ``[m, 3]``, likewise of the map, in the same frame.
        minimum: metres.
    """

    queries: npt.NDArray[np.float64]
    images: npt.NDArray[np.float64]
    minimum: float

    def __post_init__(self) -> None:
        if not self.minimum > 0:
            raise UsageError(f"the least distance must be above 0 metres, not {self.minimum:g}")

    def check(self, queries: int, images: int) -> None:
        """See :class:`PairMask`."""
        _expect("positions", len(self.queries), len(self.images), queries, images)

    def hidden(self, queries: slice, images: slice) -> Hidden:
        """See :class:`PairMask`."""
        squared = np.zeros((len(self.queries[queries]), len(self.images[images])))
        for axis in range(3):  # never [q, m, 3]
            squared += (self.queries[queries, None, axis] - self.images[None, images, axis]) ** 2
        near: Hidden = squared < self.minimum**2  # False where one is NaN
        return near


def _expect(what: str, queries: int, images: int, wanted_queries: int, wanted_images: int) -> None:
    if (queries, images) != (wanted_queries, wanted_images):
        raise UsageError(
            f"{what} of {queries} queries and {images} images given, the stores hold {wanted_queries} and "
            f"{wanted_images}"
        )
