"""The recall of an approximate index against the exact neighbours, and the cheapest settings that reach a target."""

from __future__ import annotations

import itertools
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.runtime.descriptors.source import DescriptorSource, finite_blocks
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.search.index.card import IndexCard, resident_bytes
from gloam.runtime.search.index.exact import RERANK
from gloam.runtime.search.index.gpu import inverted_file

QUERIES = 200
NEIGHBOURS = 10
BLOCK = 16384  # scores of 200 queries with a block take 13 MB
MOST_CELLS = 512  # visited at most; more is slower than exact search of the sizes that fit a machine
EF_SEARCH = (16, 32, 64, 128, 256, 512)
K_FACTORS = (2, 4, 8, 16)  # candidates per result that are re-ranked
RERANKS = (1, 2, 4, 8, 16, 32)  # likewise, by vectors that are read from the disk

Scores = npt.NDArray[np.float32]


def search_settings(faiss: ModuleType, index: Any) -> list[dict[str, int]]:
    """What may be set when an index is searched, from cheap to dear; one empty setting where there is nothing."""
    space = faiss.ParameterSpace()
    space.initialize(index)
    known = {space.parameter_ranges.at(item).name for item in range(space.parameter_ranges.size())}
    choices: dict[str, list[int]] = {}
    cells = inverted_file(faiss, index)
    if "nprobe" in known and cells is not None:
        choices["nprobe"] = [2**power for power in range(min(int(cells.nlist), MOST_CELLS).bit_length())]
    if "efSearch" in known:
        choices["efSearch"] = list(EF_SEARCH)
    if "k_factor_rf" in known:
        choices["k_factor_rf"] = list(K_FACTORS)
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


def apply_settings(faiss: ModuleType, index: Any, settings: dict[str, int]) -> None:
    """Set the search parameters of one FAISS index on the CPU."""
    for name, value in settings.items():
        faiss.ParameterSpace().set_index_parameter(index, name, value)


class RecallProbe:
    """Stored vectors that are searched for with every setting while an index is built, shard by shard.

    Args:
        rows: places of the sample in the store, ascending; an image is never counted as its own neighbour.
        queries: the sample, float32 ``[q, D]``.
        settings: of :func:`search_settings`.
        neighbours: k.
        reranks: candidates per result that are re-ranked by their exact vectors; none where FAISS's order stands.
    """

    def __init__(
        self,
        rows: npt.NDArray[np.int64],
        queries: Scores,
        settings: list[dict[str, int]],
        neighbours: int,
        reranks: tuple[int, ...] = (),
    ) -> None:
        self.rows, self.queries, self.settings, self.neighbours = rows, queries, settings, neighbours
        self.reranks = reranks
        self.wide = (neighbours + 1) * max(reranks, default=1)  # one more than asked: the query itself
        shape = (len(settings), len(rows), self.wide)
        self._scores = np.full(shape, -np.inf, np.float32)
        self._found = np.full(shape, -1, np.int64)

    def look(self, faiss: ModuleType, index: Any, first: int) -> None:
        """Search one shard whose vectors start at place ``first`` of the store."""
        for number, settings in enumerate(self.settings):
            apply_settings(faiss, index, settings)
            scores, labels = index.search(self.queries, min(self.wide, index.ntotal))
            scores = np.concatenate([self._scores[number], np.where(labels >= 0, scores, -np.inf)], axis=1)
            labels = np.concatenate([self._found[number], np.where(labels >= 0, labels + first, -1)], axis=1)
            best = np.argsort(-scores, axis=1, kind="stable")[:, : self.wide]
            self._scores[number] = np.take_along_axis(scores, best, axis=1)
            self._found[number] = np.take_along_axis(labels, best, axis=1)

    def settle(self, store: DescriptorSource, target: float) -> tuple[dict[str, int], dict[str, float]]:
        """Compare with the exact neighbours, streamed once over the store.

        A found image counts where its exact score is at least that of the k-th exact neighbour, so that equal scores
        count alike.

        Args:
            store: what the index was built from.
            target: recall@k to reach.

        Returns:
            the first setting that reaches the target, else the first of those with the best recall, and its figures.
        """
        exact = np.full((len(self.rows), self.neighbours), -np.inf, np.float32)
        true = np.full(self._found.shape, -np.inf, np.float32)
        start = 0
        for names, block in finite_blocks(store, BLOCK):
            tile = self.queries @ block.T
            inside = np.flatnonzero((self.rows >= start) & (self.rows < start + len(names)))
            tile[inside, self.rows[inside] - start] = -np.inf
            both = np.concatenate([exact, tile], axis=1)
            exact = np.partition(both, -self.neighbours, axis=1)[:, -self.neighbours :]
            here = np.nonzero((self._found >= start) & (self._found < start + len(names)))
            true[here] = tile[here[1], self._found[here] - start]
            start += len(names)
        own = self._found == self.rows[None, :, None]
        settings = self.settings
        if self.reranks:
            true[own] = -np.inf
            parts = [-np.sort(-true[:, :, : (self.neighbours + 1) * factor], axis=2) for factor in self.reranks]
            right = np.concatenate([part[:, :, : self.neighbours] for part in parts])
            settings = [kept | {RERANK: factor} for factor in self.reranks for kept in settings]
        else:
            others = np.argsort(own, axis=2, kind="stable")[:, :, : self.neighbours]
            right = np.take_along_axis(true, others, axis=2)
        at_k = (right >= exact.min(axis=1)[None, :, None]).mean(axis=(1, 2))
        at_1 = (right[:, :, 0] >= exact.max(axis=1)[None, :]).mean(axis=1)
        reached = np.flatnonzero(at_k >= target)
        chosen = int(reached[0]) if len(reached) else int(np.argmax(at_k))
        figures = {f"recall@{self.neighbours}": float(at_k[chosen]), "recall@1": float(at_1[chosen])}
        return settings[chosen], figures | {"queries": len(self.rows), "vectors": start, "target": target}


def draw_probe(
    faiss: ModuleType, index: Any, store: DescriptorSource, seed: int, rerank: bool = False
) -> RecallProbe | None:
    """A probe of stored vectors; None where the index is exact or there is no second image."""
    count = len(store.names)
    if isinstance(index, faiss.IndexFlat) or count < 2:
        return None
    rows = draw(count, min(QUERIES, count), seed + 1)  # not the draw that the index learns from
    return RecallProbe(
        rows, select(store, rows), search_settings(faiss, index), min(NEIGHBOURS, count - 1), RERANKS if rerank else ()
    )


def draw(count: int, size: int, seed: int) -> npt.NDArray[np.int64]:
    """``size`` places of ``count``, without replacement, ascending."""
    return np.sort(np.random.default_rng(seed).choice(count, size, replace=False)).astype(np.int64)


def select(store: DescriptorSource, rows: npt.NDArray[np.int64]) -> Scores:
    """The descriptors at some places, ascending, float32 ``[n, D]``: read where they lie in a store on a disk, streamed
    from any other source."""
    if isinstance(store, DescriptorStore):
        return store.take(rows)
    chosen = np.empty((len(rows), store.dimension), np.float32)
    start = 0
    for names, block in finite_blocks(store, BLOCK):
        first, last = np.searchsorted(rows, [start, start + len(names)])
        chosen[first:last] = block[rows[first:last] - start]
        start += len(names)
    return chosen


def said(card: IndexCard) -> list[str]:
    """What a card says of its training and recall, in lines for people."""
    lines = [f"{len(card.files)} files"] if len(card.files) > 1 else []
    if card.exact:
        size = resident_bytes(card)
        lines.append(
            f"{size} bytes with its names, {size / card.count:.1f} an image; exact vectors stay in "
            f"{card.exact[0].folder}"
        )
    if card.training:
        lines.append(f"learned from {card.training['vectors']} vectors, k-means on {card.training['device']}")
    if not card.recall:
        return lines if card.factory == "Flat" else [*lines, "recall: not measured for this whole"]
    at_k = next((key for key in card.recall if key.startswith("recall@") and key != "recall@1"), "recall@1")
    settings = ", ".join(f"{name} {value}" for name, value in card.search.items()) or "no settings"
    lines.append(
        f"recall against exact, {card.recall['queries']:.0f} queries, {settings}: "
        f"{at_k} {card.recall[at_k]:.3f}, recall@1 {card.recall['recall@1']:.3f}"
    )
    if card.recall[at_k] < card.recall["target"]:
        lines.append(f"below the {card.recall['target']:g} asked for, and the best of the settings tried")
    if card.recall["vectors"] != card.count:
        lines.append(f"measured on {card.recall['vectors']:.0f} vectors, before the others were added")
    return lines
