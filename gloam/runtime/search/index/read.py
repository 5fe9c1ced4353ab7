"""A FAISS file in memory, and that it is of what its card says: FAISS itself believes most of what a file states."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.errors import StoreError
from gloam.runtime.search.index.card import IndexCard
from gloam.runtime.search.index.gpu import reason


def read_part(faiss: ModuleType, path: Path, card: IndexCard, flags: int = 0) -> Any:
    """One FAISS file of an index.

    Args:
        faiss: the module.
        path: the file; its bytes or its size were compared with the card.
        card: of the index.
        flags: of FAISS, e.g. to map it.

    Raises:
        StoreError: FAISS cannot read it, or it is not of the dimension and metric that the card states.
    """
    try:
        part = faiss.read_index(str(path), flags)
    except (RuntimeError, MemoryError) as error:
        raise StoreError(f"{path}: FAISS cannot read it ({reason(error)}); build it again") from error
    if part.d != card.dimension:
        raise StoreError(f"{path}: vectors of {part.d} values, {card.dimension} are stated; build again")
    if part.metric_type != faiss.METRIC_INNER_PRODUCT or not part.is_trained:
        raise StoreError(f"{path}: not a trained index of inner products, as its card states; build it again")
    return part


def expect_neighbours(found: npt.NDArray[Any], labels: npt.NDArray[Any], count: int, where: Path) -> None:
    """Refuse what no whole index answers.

    Args:
        found, labels: FAISS's scores and labels ``[q, k]``; -1 where it found fewer.
        count: vectors of the index.
        where: folder of the index.

    Raises:
        StoreError: a label that no vector has, or a score that is not finite.
    """
    known = labels >= 0
    if (labels < -1).any() or (labels >= count).any() or not np.isfinite(found[known]).all():
        raise StoreError(f"{where}: FAISS answers with vectors that the index does not have; build it again")
