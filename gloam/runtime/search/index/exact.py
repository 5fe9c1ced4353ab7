"""The exact vectors of an index whose codes alone are in memory: they stay in stores on disk, where a few are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.errors import StoreError, UsageError
from gloam.files import sha256_file
from gloam.runtime.descriptors.source import DescriptorSource
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.output_folder import MANIFEST

RERANK = "rerank"  # the search setting: candidates per result whose vectors are read


@dataclass(frozen=True)
class ExactStore:
    """One store behind an index.

    Attributes:
        folder: where it was at build, absolute.
        manifest_sha256: of its manifest, which states the checksums of its shards.
        count: vectors of it, which follow those of the stores before.
    """

    folder: str
    manifest_sha256: str
    count: int


def exact_store(store: DescriptorSource) -> ExactStore:
    """What a card says of a store that is re-ranked from.

    Raises:
        UsageError: descriptors that are in no store on a disk.
    """
    if not isinstance(store, DescriptorStore):
        raise UsageError("candidates are re-ranked from a store on a disk; these descriptors are in none")
    return ExactStore(str(store.folder.resolve()), sha256_file(store.folder / MANIFEST), len(store))


class ExactVectors:
    """Reads the vectors of candidates; sizes are checked, not checksums, which would read the stores whole.

    Args:
        stated: of the card, in the order of the vectors.
        moved: where the stores are now, in that order; None where they were.

    Raises:
        StoreError: a store is gone, or is not what the index was built from.
        UsageError: another number of stores.
    """

    def __init__(self, stated: Sequence[ExactStore], moved: Sequence[Path] | None = None) -> None:
        places = [Path(item.folder) for item in stated] if moved is None else list(moved)
        if len(places) != len(stated):
            raise UsageError(f"--exact names {len(places)} stores; the index was built from {len(stated)}")
        self._stores = [self._open(place, item) for place, item in zip(places, stated, strict=True)]
        self._ends = np.cumsum([item.count for item in stated])

    @staticmethod
    def _open(place: Path, stated: ExactStore) -> DescriptorStore:
        try:
            same = sha256_file(place / MANIFEST) == stated.manifest_sha256
        except OSError as error:
            raise StoreError(
                f"{place}: the store of the exact vectors is not there; say where it is now with --exact, or build "
                "the index again"
            ) from error
        if not same:
            raise StoreError(f"{place}: not the store that the index was built from; build the index again")
        store = DescriptorStore.open(place, trust=True)
        if len(store) != stated.count:
            raise StoreError(f"{place}: {len(store)} descriptors, the index states {stated.count}; build it again")
        store.drop_names()  # the index has them
        return store

    def take(self, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """The vectors ``[n, D]`` at some places of the index."""
        holder = np.searchsorted(self._ends, labels, side="right")
        found = np.empty((len(labels), self._stores[0].dimension), np.float32)
        for number in np.unique(holder).tolist():
            here = holder == number
            start = int(self._ends[number]) - len(self._stores[number])
            found[here] = self._stores[number].take(labels[here] - start)
        return found

    def ranked(
        self, queries: npt.NDArray[np.float32], labels: npt.NDArray[Any]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Candidates by their exact scores, the best first.

        Args:
            queries: ``[q, D]``.
            labels: of the candidates ``[q, c]``; -1 where there are fewer.

        Returns:
            scores and labels ``[q, c]``; a query's candidates alone are in memory.
        """
        scores = np.full(labels.shape, -np.inf, np.float32)
        for row, query in enumerate(queries):
            known = np.flatnonzero(labels[row] >= 0)
            known = known[np.argsort(labels[row][known], kind="stable")]  # in the order of the disk
            scores[row, known] = self.take(labels[row][known]) @ query
        best = np.argsort(-scores, axis=1, kind="stable")
        return np.take_along_axis(scores, best, axis=1), np.take_along_axis(labels, best, axis=1).astype(np.int64)
