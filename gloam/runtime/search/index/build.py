"""A store of descriptors to a FAISS index."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from gloam.errors import DataError, IncompatibleError, StoreError, UsageError, require
from gloam.files import replaced_when_whole
from gloam.heartbeat import progress_bar
from gloam.runtime.descriptors.reading import marked
from gloam.runtime.descriptors.source import DescriptorSource, finite_blocks
from gloam.runtime.search.index.card import (
    IndexCard,
    new_files,
    package_versions,
    publish,
    sums_and_sizes,
    write_names,
)
from gloam.runtime.search.index.choice import training_size
from gloam.runtime.search.index.compact import LEARNED, fitted
from gloam.runtime.search.index.exact import exact_store
from gloam.runtime.search.index.gpu import inverted_file, reason, trained_on
from gloam.runtime.search.index.recall import RecallProbe, draw, draw_probe, select

BLOCK = 65536


def build_index(
    store: DescriptorSource,
    folder: str | Path,
    factory: str = "Flat",
    *,
    train_samples: int | None = None,
    seed: int = 0,
    shards: int = 1,
    recall: float = 0.95,
    device: str = "cpu",
    progress: bool = False,
    rerank: bool = False,
) -> IndexCard:
    """Stream a store into a new index, and measure its recall where it is not exact.

    Args:
        store: descriptors, unit vectors.
        folder: of the index; an index already there is replaced when the new one is whole.
        factory: FAISS's factory string, for example that of :func:`gloam.runtime.search.index.choice.plan_index`.
        train_samples: vectors that a factory with training learns from, drawn without replacement, at most 256 a
            cell; by default 100 000, or 39 a cell where that is more.
        seed: of that draw, and of the sample whose recall is measured.
        shards: files to write; one is in memory at a time.
        recall: of the 10 nearest, which the default search settings are to reach: the smallest that do, else the best.
        device: ``cpu``, ``cuda`` or ``auto``, for the k-means of an inverted file.
        progress: say how far it is, on stderr, once an index that learns has learned.
        rerank: re-rank candidates by their vectors, which stay in ``store``, a store on a disk; PCA of the factory is
            then a plain projection, see :mod:`gloam.runtime.search.index.compact`.

    Raises:
        UsageError: FAISS does not know the factory string, or there are fewer vectors than shards.
        DataError: no descriptors, or too few to train this factory.
        DeviceError: ``cuda`` cannot be had.
    """
    faiss = require("faiss", "cpu", "build an index")
    place = Path(folder)
    count = len(store.names)
    if not count:
        raise DataError(f"{folder}: the store holds no descriptors, there is nothing to index")
    if not 1 <= shards <= count:
        raise UsageError(f"{count} vectors cannot be in {shards} files; choose 1 to {count} shards")
    if not 0 < recall <= 1:
        raise UsageError(f"the recall to reach must be above 0 and at most 1, not {recall:g}")
    if store.metric != "cosine":
        raise IncompatibleError(f"{folder}: descriptors of metric {store.metric!r}; an index needs cosine")
    try:
        index = faiss.index_factory(store.dimension, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise UsageError(
            f"FAISS refuses the factory {factory!r} for {store.dimension} values ({reason(error)}); try Flat"
        ) from error
    exact = [exact_store(store)] if rerank else []
    if rerank:
        size = training_size(count, _cells(faiss, index), LEARNED if train_samples is None else train_samples)
        with _enough(size, factory):
            index = fitted(faiss, factory, select(store, draw(count, size, seed)), seed)
        training = {"vectors": size, "seed": seed, "device": "CPU: as asked"}
    else:
        training = _train(faiss, index, factory, store, train_samples, seed, device)
    probe = draw_probe(faiss, index, store, seed, rerank)
    with new_files(place, shards) as new:
        ends = [count * (shard + 1) // shards for shard in range(shards)]
        write_names(place / new.names, store.names)
        with progress_bar(count, "indexing", "vectors", shown=progress) as bar:
            write_vectors(faiss, index, store, [place / name for name in new.files], ends, probe, bar.update)
        search, measured = probe.settle(store, recall) if probe else ({}, {})
        sums, sizes = sums_and_sizes(place, [*new.files, new.names])
        card = IndexCard(
            space=store.space,
            fingerprint=store.fingerprint,
            dimension=store.dimension,
            metric=store.metric,
            factory=factory,
            count=count,
            options=stated_options(store),
            versions=package_versions(str(faiss.__version__)),
            sha256=sums,
            files=new.files,
            names=new.names,
            sizes=sizes,
            search=search,
            recall=measured,
            training=training,
            exact=exact,
        )
        publish(place, card)
    return card


def write_vectors(
    faiss: ModuleType,
    index: Any,
    store: DescriptorSource,
    paths: Sequence[Path],
    ends: Sequence[int],
    probe: RecallProbe | None = None,
    done: Callable[[int], object] = lambda count: None,
) -> None:
    """Add a store to a trained index and write it, emptied after each file but the last.

    Args:
        faiss: the module.
        index: trained; vectors already in it belong to the first file.
        store: descriptors.
        paths: FAISS files.
        ends: of each file, the number of vectors in it and the files before it.
        probe: looks at each file's index before it is written.
        done: is told how many vectors are added more.
    """
    written, before = 0, 0
    for _, block in finite_blocks(store, BLOCK):
        start = 0
        while start < len(block):
            stop = min(len(block), start + ends[written] - before - index.ntotal)
            index.add(np.ascontiguousarray(block[start:stop]))
            done(stop - start)
            start = stop
            if before + index.ntotal == ends[written]:
                if probe is not None:
                    probe.look(faiss, index, before)
                write_index(faiss, index, paths[written])
                before = ends[written]
                written += 1
                if written < len(ends):
                    index.reset()  # keeps what was learned


def write_index(faiss: ModuleType, index: Any, path: Path) -> None:
    """Write one FAISS file, whole or not at all.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    with replaced_when_whole(path) as temporary:
        try:
            faiss.write_index(index, str(temporary))
        except RuntimeError as error:
            raise StoreError(f"{path}: FAISS cannot write it, is the disk full? ({reason(error)})") from error


def stated_options(store: DescriptorSource) -> dict[str, Any]:
    """How the images of a store were read, as its manifest states it."""
    return marked(getattr(store, "manifest", {}).get("job", {}).get("options", {}))


def _train(
    faiss: ModuleType, index: Any, factory: str, store: DescriptorSource, asked: int | None, seed: int, device: str
) -> dict[str, Any]:
    """Train in place; what the card says of it."""
    with trained_on(faiss, index, device) as where:
        if index.is_trained:
            return {}
        count = len(store.names)
        size = training_size(count, _cells(faiss, index), asked)
        with _enough(size, factory):
            index.train(select(store, draw(count, size, seed)))
    return {"vectors": size, "seed": seed, "device": where}


def _cells(faiss: ModuleType, index: Any) -> int | None:
    cells = inverted_file(faiss, index)
    return None if cells is None else int(cells.nlist)


@contextlib.contextmanager
def _enough(size: int, factory: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise DataError(
            f"{size} vectors are too few to train {factory!r} ({reason(error)}); "
            "use Flat, or a factory with fewer cells"
        ) from error
