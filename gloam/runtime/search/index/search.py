"""Search an index: in memory or memory-mapped, of one file or of several shards, on the CPU or on GPUs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.errors import IncompatibleError, StoreError, UsageError, require
from gloam.model_card import expect_same_space
from gloam.runtime.descriptors.source import DescriptorSource
from gloam.runtime.search.index.card import IndexCard, check_files, read_index_card, read_names
from gloam.runtime.search.index.exact import RERANK, ExactVectors
from gloam.runtime.search.index.gpu import reason, searched_on
from gloam.runtime.search.index.read import expect_neighbours, read_part
from gloam.runtime.search.index.recall import NEIGHBOURS

TUNED = 128_000  # since 1.15, FAISS multiplies matrices where the queries have more values than this
PER_THREAD = 800  # from there on a product is quicker than dot products one by one
DATABASE_BLOCK, LARGE_BLOCK = 1024, 4096  # vectors that FAISS multiplies at once, and that are quicker
APART = 128  # queries of a thread, from which on an exact search is quicker where every thread has its own
MEASURED = NEIGHBOURS + 1  # the queries of the measurement are stored, and find themselves


class DescriptorIndex:
    """An index that is ready to search.

    Attributes:
        card: what it says of itself.
        names: of the images, in the order of the vectors.
        device: where it is searched and why, in words.
    """

    def __init__(
        self,
        folder: Path,
        card: IndexCard,
        names: Sequence[str],
        parts: list[Any],
        faiss: ModuleType,
        device: str = "cpu",
        exact: ExactVectors | None = None,
    ) -> None:
        self.folder, self.card, self.names = folder, card, names
        self._faiss = faiss
        self._vectors = exact
        placed = [searched_on(faiss, part, device) for part in parts]
        self._parts = [part for part, _ in placed]
        self.device = placed[0][1]
        on_cpu = self._parts[0] is parts[0]
        self._parameters = faiss.ParameterSpace() if on_cpu else faiss.GpuParameterSpace()
        self._exact = on_cpu and all(isinstance(part, faiss.IndexFlat) for part in parts)
        self._index = self._parts[0]
        if len(self._parts) > 1:
            # One shard after another, each with all threads; labels follow on, results are merged.
            self._index = faiss.IndexShards(card.dimension, False, True)
            for part in self._parts:
                self._index.add_shard(part)

    @property
    def where(self) -> str:
        """The folder, for people."""
        return str(self.folder)

    @classmethod
    def build(cls, store: DescriptorSource, folder: str | Path, factory: str = "Flat") -> DescriptorIndex:
        """Build an index of a store and open it; :func:`gloam.runtime.search.index.build_index` has more options.

        Args:
            store: descriptors, unit vectors of D values each, e.g. a ``DescriptorStore``.
            folder: of the index; one already there is replaced when the new one is whole.
            factory: FAISS's factory string; ``Flat`` is exact.

        Raises:
            UsageError: FAISS does not know the factory string.
            DataError: no descriptors, or too few to train this factory.
        """
        from gloam.runtime.search.index.build import build_index

        build_index(store, folder, factory)
        return cls.open(folder)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        mmap: bool = False,
        device: str = "cpu",
        trust: bool = False,
        exact: Sequence[Path] | None = None,
    ) -> DescriptorIndex:
        """Open an index and check its files against its card.

        Args:
            folder: written by :func:`build_index`.
            mmap: leave the vectors on the disk and read what a search touches. Of the FAISS files only the sizes are
                checked then, for a checksum would read them whole: a truncated file is found, a flipped bit is not.
                An exact search touches everything; the codes of a fast-scan inverted file are read into memory.
            device: ``cpu``, ``cuda`` or ``auto``.
            trust: compare sizes instead of checksums without ``mmap``, too; a checksum takes about a second a gigabyte.
            exact: where the stores are now that candidates are re-ranked from, where they were moved.

        Raises:
            StoreError: not an index, unfinished, of another schema, or damaged; or the store of its exact vectors is
                gone or another.
            DeviceError: ``cuda`` cannot be had for this index.
            UsageError: ``mmap`` together with ``cuda``.
        """
        if mmap and device == "cuda":
            raise UsageError("an index on a GPU is not memory-mapped; leave out --mmap or --device cuda")
        place = Path(folder)
        faiss = require("faiss", "cpu", "search an index")
        card = read_index_card(place)
        check_files(place, card, sizes_only=mmap or trust)
        names = read_names(place, card)
        flags = getattr(faiss, "IO_FLAG_MMAP_IFC", faiss.IO_FLAG_MMAP) if mmap else 0
        parts = [read_part(faiss, place / name, card, flags) for name in card.files]
        total = sum(part.ntotal for part in parts)
        if not total == len(names) == card.count:
            raise StoreError(f"{place}: {total} vectors for {len(names)} names; build the index again")
        if exact is not None and not card.exact:
            raise UsageError(f"{place}: is not re-ranked from a store; leave out --exact")
        vectors = ExactVectors(card.exact, exact) if card.exact else None
        return cls(place, card, names, parts, faiss, "cpu" if mmap else device, vectors)

    def search(
        self,
        descriptors: npt.NDArray[np.float32],
        k: int = 10,
        *,
        space: str,
        nprobe: int | None = None,
        batch: int = 1024,
    ) -> tuple[list[list[str]], npt.NDArray[np.float32]]:
        """The k most similar images of each query.

        Args:
            descriptors: float32 ``[q, D]``, unit length.
            k: results per query, at most the size of the index.
            space: of the queries; descriptors of another space are refused.
            nprobe: cells visited of an inverted file; by default what the card states, measured at build.
            batch: queries at a time.

        Returns:
            names, q lists of k, best first, and cosines float32 ``[q, k]``. Where an approximate index finds
            fewer, names are empty and scores are ``-inf``.

        Raises:
            IncompatibleError: another space or dimension.
            UsageError: ``k`` is not positive, or ``nprobe`` is given for an index without cells.
            StoreError: FAISS fails, for example where a GPU's memory is too small for ``k``.
        """
        expect_same_space(self.card.space, space, str(self.folder))
        if descriptors.ndim != 2 or descriptors.shape[1] != self.card.dimension:
            raise IncompatibleError(
                f"{self.folder}: queries of shape {list(descriptors.shape)}, [q, {self.card.dimension}] is needed"
            )
        if k < 1:
            raise UsageError(f"results per query must be at least 1, not {k}")
        self._set(nprobe)
        k = min(k, len(self.names))
        # Re-ranking looks at a multiple of the results, so fewer than were measured would be found worse.
        reranked = "k_factor_rf" in self.card.search or self._vectors is not None
        wide = max(k, MEASURED) * self.card.search.get(RERANK, 1) if reranked else k
        wide = min(wide, len(self.names))
        scores = np.empty((len(descriptors), k), np.float32)
        names: list[list[str]] = []
        for start in range(0, len(descriptors), batch):
            rows = np.ascontiguousarray(descriptors[start : start + batch], np.float32)
            try:
                with _quick_products(self._faiss):
                    found, labels = self._neighbours(rows, wide)
            except (RuntimeError, MemoryError) as error:
                raise StoreError(f"{self.folder}: FAISS cannot search it ({reason(error)})") from error
            expect_neighbours(found, labels, len(self.names), self.folder)
            if self._vectors is not None:
                found, labels = self._vectors.ranked(rows, labels)
            found, labels = found[:, :k], labels[:, :k]
            scores[start : start + len(rows)] = np.where(labels >= 0, found, -np.inf)
            # FAISS labels what it did not find -1.
            names += [[self.names[label] if label >= 0 else "" for label in row] for row in labels.tolist()]
        return names, scores

    def _neighbours(self, rows: npt.NDArray[np.float32], k: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """FAISS's scores and labels ``[q, k]``.

        FAISS's threads share every product of an exact search and wait for one another after each block of the
        database; where there are enough queries, each thread searches for its own instead.
        """
        threads = self._faiss.omp_get_max_threads()
        if not self._exact or threads == 1 or len(rows) < APART * threads:
            found, labels = self._index.search(rows, k)
            return found, labels
        alone = self._faiss.omp_set_num_threads  # of the thread that calls it
        with ThreadPoolExecutor(threads, initializer=alone, initargs=(1,)) as pool:
            parts = list(pool.map(lambda part: self._index.search(part, k), np.array_split(rows, threads)))
        return np.concatenate([found for found, _ in parts]), np.concatenate([labels for _, labels in parts])

    def _set(self, nprobe: int | None) -> None:
        if nprobe is not None and nprobe < 1:
            raise UsageError(f"--nprobe {nprobe} must be at least 1")
        asked = self.card.search | ({} if nprobe is None else {"nprobe": nprobe})
        asked.pop(RERANK, None)  # none of FAISS's
        for name, value in asked.items():
            for part in self._parts:
                try:
                    self._parameters.set_index_parameter(part, name, value)
                except RuntimeError as error:
                    raise UsageError(
                        f"{self.folder}: {self.card.factory!r} has no {name} to set to {value}; leave it out"
                    ) from error


@contextlib.contextmanager
def _quick_products(faiss: ModuleType) -> Iterator[None]:
    """Let FAISS multiply matrices for few queries too, and by larger blocks of the database.

    Its limit of queries suits 160 threads, where one thread was up to 6 times slower; blocks of 4096 vectors took 15 %
    less time than its 1024. Both are FAISS's own variables for the process; they are put back, and other values than
    FAISS's are respected.
    """
    wished = {
        "distance_compute_blas_threshold": (TUNED, min(TUNED, PER_THREAD * faiss.omp_get_max_threads())),
        "distance_compute_blas_database_bs": (DATABASE_BLOCK, LARGE_BLOCK),
    }
    changed = {name: old for name, (old, _) in wished.items() if getattr(faiss.cvar, name, None) == old}
    for name in changed:
        setattr(faiss.cvar, name, wished[name][1])
    try:
        yield
    finally:
        for name, old in changed.items():
            setattr(faiss.cvar, name, old)
