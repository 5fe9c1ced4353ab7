"""A search as it is asked for: a store of queries, or images and a model, against an index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gloam.data.images import decode_image
from gloam.data.sources import find_images
from gloam.errors import ImageError
from gloam.heartbeat import progress_bar
from gloam.model_card import expect_same_space
from gloam.runtime.backends.placement import Placement
from gloam.runtime.descriptors.reading import stated_rule
from gloam.runtime.descriptors.source import search_space
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.search.index import IndexCard


class Searchable(Protocol):
    """What :func:`answer` needs of an index, wherever it is.

    Attributes:
        card: what the index says of itself.
        where: folder, or server and collection.
        device: what searches it, in words.
    """

    card: IndexCard
    device: str

    @property
    def where(self) -> str:
        """See above."""
        ...

    def search(
        self, descriptors: npt.NDArray[np.float32], k: int = 10, *, space: str, nprobe: int | None = None
    ) -> tuple[list[list[str]], npt.NDArray[np.float32]]:
        """See :meth:`gloam.runtime.search.index.DescriptorIndex.search`."""
        ...


@dataclass(frozen=True, eq=False)
class Queries:
    """Described queries.

    Attributes:
        names: of the images.
        descriptors: float32 ``[n, D]``.
        space: in which they are searched for.
        failures: name and reason of each image that could not be described.
    """

    names: list[str]
    descriptors: npt.NDArray[np.float32]
    space: str
    failures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answers:
    """What a search found.

    Attributes:
        results: by query, the images found and their scores, the best first; an approximate index may find fewer than
            asked for.
        failures: see :class:`Queries`.
        about: index, space, device, settings and recall, JSON-ready.
    """

    results: Mapping[str, list[tuple[str, float]]]
    failures: Mapping[str, str]
    about: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        results = {
            query: [{"image": name, "score": score} for name, score in found] for query, found in self.results.items()
        }
        return {**self.about, "results": results, "failures": dict(self.failures)}

    def __str__(self) -> str:
        """Lines for people."""
        lines = []
        for query, found in self.results.items():
            lines += [query, *(f"  {score:.4f}  {name}" for name, score in found)]
        return "\n".join([*lines, *(f"{name}: left out, {reason}" for name, reason in self.failures.items())])


def read_queries(folder: str | Path, card: IndexCard, *, trust: bool = False) -> Queries:
    """Queries of a store; ``trust``: see :meth:`DescriptorStore.open`.

    Raises:
        IncompatibleError: they are of another space than the index.
    """
    store = DescriptorStore.open(folder, trust=trust)
    space = search_space(card.space, store)
    expect_same_space(card.space, space, str(folder), (stated_rule(card.options), store.input_rule))
    return Queries(store.names, store.load(), space)


def describe_queries(
    source: Path, model: Path, card: IndexCard, placement: Placement | None = None, progress: bool = False
) -> Queries:
    """Describe images that are read exactly as those of the index were.

    Args:
        source: folder, list or kapture dataset.
        model: the embedder that described the index.
        card: of the index.
        placement: of the model; it is run on one image at a time, as fast as it can be.
        progress: say how far it is, on stderr.

    Raises:
        IncompatibleError: the model is of another space.
        ModelError: its self-test fails here.
    """
    embedder = Embedder.load(model, replace(placement or Placement(), requests=1)).reading_as(card.options)
    rule = embedder.input_rule
    expect_same_space(card.space, embedder.space, str(model))
    names, rows, failures = [], [], {}
    items = find_images(source)
    with progress_bar(len(items), "describing", shown=progress) as bar:
        for item in items:
            try:
                if item.problem:
                    raise ImageError(item.problem)
                image = decode_image(
                    item.read(),
                    rule=rule,
                    fast=bool(card.options.get("fast_decode")),
                )
                rows.append(embedder([image])[0])
                names.append(item.name)
            except ImageError as error:
                failures[item.name] = str(error)
            bar.update(1)
    descriptors = np.stack(rows) if rows else np.empty((0, embedder.dimension), np.float32)
    return Queries(names, descriptors, embedder.space, failures)


def answer(index: Searchable, queries: Queries, k: int, nprobe: int | None = None) -> Answers:
    """The ``k`` most similar images of each query.

    Args:
        index: to search.
        queries: what to search for.
        k: results of each.
        nprobe: cells visited of an inverted file; as measured at build by default.
    """
    names, scores = index.search(queries.descriptors, k, space=queries.space, nprobe=nprobe)
    results = {
        query: [(name, score) for name, score in zip(row, values, strict=True) if name]
        for query, row, values in zip(queries.names, names, scores.tolist(), strict=True)
    }
    about = {
        "index": index.where,
        "space": queries.space,
        "searched_on": index.device,
        "settings": index.card.search | ({} if nprobe is None else {"nprobe": nprobe}),
        "recall": index.card.recall,
    }
    return Answers(results, queries.failures, about)
