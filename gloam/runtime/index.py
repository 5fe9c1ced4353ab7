"""A FAISS index of descriptors, with its names and identities beside it.

The folder holds ``index.faiss``, ``names.txt`` (a name per line, in the order of the vectors) and ``index.json``,
which carries the checksums of both and is written last: without it there is no index.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.artifact import expect_same_space
from gloam.errors import DataError, IncompatibleError, StoreError, UsageError, require
from gloam.files import atomic_write, bad_name, sha256_file, write_json
from gloam.runtime.descriptors import DescriptorSource, finite_blocks
from gloam.runtime.writers import replaced_when_whole

SCHEMA = 1
BLOCK = 65536
INDEX, NAMES, CARD = "index.faiss", "names.txt", "index.json"


@dataclass(frozen=True)
class IndexCard:
    """What an index says of itself.

    Attributes:
        space, fingerprint, dimension, metric: of the descriptors.
        factory: FAISS's factory string.
        count: number of vectors.
        options: how the images were read before the model (size, normalisation), as the store states it.
        versions: of the packages that built it.
        sha256: of ``index.faiss`` and ``names.txt``.
    """

    space: str
    fingerprint: str
    dimension: int
    metric: str
    factory: str
    count: int
    options: dict[str, Any]
    versions: dict[str, str]
    sha256: dict[str, str]
    schema: int = SCHEMA


def build_index(
    store: DescriptorSource,
    folder: str | Path,
    factory: str = "Flat",
    *,
    train_samples: int = 100_000,
    seed: int = 0,
) -> IndexCard:
    """Stream a store into a new index.

    Args:
        store: descriptors, unit vectors.
        folder: of the index; an index already there is replaced.
        factory: FAISS's factory string. ``Flat`` is exact and right below about 200 000 images; above,
            for example ``IVF1024,PQ128x4fs,RFlat``.
        train_samples: vectors that a factory with training learns from, drawn without replacement.
        seed: of that draw.

    Raises:
        UsageError: FAISS does not know the factory string.
        DataError: no descriptors, or too few to train this factory.
    """
    faiss = require("faiss", "cpu", "build an index")
    count = len(store.names)
    if not count:
        raise DataError(f"{folder}: the store holds no descriptors, there is nothing to index")
    if store.metric != "cosine":
        raise IncompatibleError(f"{folder}: descriptors of metric {store.metric!r}; an index needs cosine")
    try:
        index = faiss.index_factory(store.dimension, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise UsageError(
            f"FAISS refuses the factory {factory!r} for {store.dimension} values ({_reason(error)}); try Flat"
        ) from error
    if not index.is_trained:
        sample = _sample(store, min(train_samples, count), seed)
        try:
            index.train(sample)
        except RuntimeError as error:
            raise DataError(
                f"{len(sample)} vectors are too few to train {factory!r} ({_reason(error)}); "
                "use Flat, or a factory with fewer cells"
            ) from error
    place = Path(folder)
    (place / CARD).unlink(missing_ok=True)  # never an old card beside new vectors
    with atomic_write(place / NAMES) as handle:
        for names, block in finite_blocks(store, BLOCK):
            for name in names:
                if reason := bad_name(name):
                    raise DataError(f"{place}: image name {name!r} {reason}; rename the image and extract again")
            index.add(np.ascontiguousarray(block))
            handle.write("".join(f"{name}\n" for name in names).encode())
    with replaced_when_whole(place / INDEX) as temporary:
        faiss.write_index(index, str(temporary))
    job = getattr(store, "manifest", {}).get("job", {})
    card = IndexCard(
        space=store.space,
        fingerprint=store.fingerprint,
        dimension=store.dimension,
        metric=store.metric,
        factory=factory,
        count=count,
        options=dict(job.get("options", {})),
        versions={"gloam": metadata.version("gloam"), "faiss": str(faiss.__version__), "numpy": np.__version__},
        sha256={name: sha256_file(place / name) for name in (INDEX, NAMES)},
    )
    write_json(place / CARD, asdict(card))
    return card


class DescriptorIndex:
    """An index that is ready to search.

    Attributes:
        card: what it says of itself.
        names: of the images, in the order of the vectors.
    """

    def __init__(self, folder: Path, card: IndexCard, names: list[str], index: Any, faiss: ModuleType) -> None:
        self.folder, self.card, self.names = folder, card, names
        self._index, self._faiss = index, faiss

    @classmethod
    def open(cls, folder: str | Path) -> DescriptorIndex:
        """Open an index and check it against its checksums.

        Raises:
            StoreError: not an index, unfinished, of another schema, or damaged.
        """
        place = Path(folder)
        faiss = require("faiss", "cpu", "search an index")
        card = _read_card(place)
        for name, expected in card.sha256.items():
            try:
                found = sha256_file(place / name)
            except OSError as error:
                raise StoreError(f"{place / name}: cannot be read ({error.strerror}); build the index again") from error
            if found != expected:
                raise StoreError(f"{place / name}: damaged, its checksum differs; build the index again")
        names = (place / NAMES).read_text(encoding="utf-8").split("\n")[:-1]
        try:
            index = faiss.read_index(str(place / INDEX))
        except RuntimeError as error:
            raise StoreError(f"{place / INDEX}: FAISS cannot read it ({_reason(error)}); build it again") from error
        if index.ntotal != len(names) or index.d != card.dimension:
            raise StoreError(f"{place}: {index.ntotal} vectors for {len(names)} names; build the index again")
        return cls(place, card, names, index, faiss)

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
            nprobe: cells visited of an inverted file; FAISS's default otherwise.
            batch: queries at a time.

        Returns:
            names, q lists of k, best first, and cosines float32 ``[q, k]``. Where an approximate index finds
            fewer, names are empty and scores are ``-inf``.

        Raises:
            IncompatibleError: another space or dimension.
            UsageError: ``k`` is not positive, or ``nprobe`` is given for an index without cells.
        """
        expect_same_space(self.card.space, space, str(self.folder))
        if descriptors.ndim != 2 or descriptors.shape[1] != self.card.dimension:
            raise IncompatibleError(
                f"{self.folder}: queries of shape {list(descriptors.shape)}, [q, {self.card.dimension}] is needed"
            )
        if k < 1:
            raise UsageError(f"results per query must be at least 1, not {k}")
        if nprobe is not None:
            try:
                self._faiss.ParameterSpace().set_index_parameter(self._index, "nprobe", nprobe)
            except RuntimeError as error:
                raise UsageError(f"{self.folder}: {self.card.factory!r} has no cells, leave nprobe out") from error
        k = min(k, len(self.names))
        scores = np.empty((len(descriptors), k), np.float32)
        names: list[list[str]] = []
        for start in range(0, len(descriptors), batch):
            rows = np.ascontiguousarray(descriptors[start : start + batch], np.float32)
            found, labels = self._index.search(rows, k)
            scores[start : start + len(rows)] = np.where(labels >= 0, found, -np.inf)
            names += [[self.names[label] if label >= 0 else "" for label in row] for row in labels.tolist()]
        return names, scores


def _sample(store: DescriptorSource, size: int, seed: int) -> npt.NDArray[np.float32]:
    chosen = np.sort(np.random.default_rng(seed).choice(len(store.names), size, replace=False))
    sample = np.empty((size, store.dimension), np.float32)
    start = 0
    for names, block in finite_blocks(store, BLOCK):
        first, last = np.searchsorted(chosen, [start, start + len(names)])
        sample[first:last] = block[chosen[first:last] - start]
        start += len(names)
    return sample


def _read_card(folder: Path) -> IndexCard:
    path = folder / CARD
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["schema"] != SCHEMA:
            raise StoreError(f"{path}: an index of schema {value['schema']!r}, this gloam reads {SCHEMA}; build again")
        return IndexCard(**value)
    except OSError as error:
        raise StoreError(f"{folder}: not an index, or one that was not finished; run `gloam index` again") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: damaged ({error}); build the index again") from error


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[-1][-160:]
