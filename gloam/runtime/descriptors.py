"""What writers, indexes and pair lists need of a set of descriptors, wherever it is kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gloam.errors import DataError, IncompatibleError


class DescriptorSource(Protocol):
    """Named descriptors that can be streamed; :class:`gloam.runtime.store.DescriptorStore` is one.

    Attributes:
        names: of the images, in the order of the rows.
        dimension: D.
        space, fingerprint: the identities of the model that made them.
        metric: ``cosine``; unit vectors compared by inner product.
    """

    names: list[str]
    dimension: int
    space: str
    fingerprint: str
    metric: str

    def blocks(self, rows: int = 65536) -> Iterator[tuple[list[str], npt.NDArray[np.float32]]]:
        """Names and float32 ``[n, D]``, n at most ``rows``, in order."""
        ...


def finite_blocks(source: DescriptorSource, rows: int) -> Iterator[tuple[list[str], npt.NDArray[np.float32]]]:
    """The blocks of a source, refused where a descriptor is NaN or infinite or of another dimension.

    Raises:
        DataError: names the first such image.
        IncompatibleError: another dimension than the source states.
    """
    for names, block in source.blocks(rows):
        if block.ndim != 2 or block.shape[1] != source.dimension:
            raise IncompatibleError(f"descriptors {list(block.shape)} where {source.dimension} values each are stated")
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            raise DataError(f"the descriptor of {names[int(np.argmin(finite))]!r} is not finite; extract it again")
        yield names, block
