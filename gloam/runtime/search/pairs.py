"""Pair lists by retrieval: for each query the k most similar images of the map, without a dense score matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.data.pairs import Pair, PairFormat, write_pairs
from gloam.errors import IncompatibleError, UsageError
from gloam.heartbeat import progress_bar
from gloam.runtime.descriptors.source import DescriptorSource, expect_searchable, finite_blocks, input_rule_of
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.output_folder import MANIFEST
from gloam.runtime.search.pair_masks import PairMask
from gloam.runtime.search.pair_rules import PairRules

BLOCK = 4096  # a tile of scores is at most BLOCK x BLOCK float32, 64 MiB

Scores = npt.NDArray[np.float32]
Ranks = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PairsRequest:
    """A list of pairs to write.

    Attributes:
        query, map: folders of descriptor stores.
        output, format: text file to write.
        rules: pairs to leave out by what is known of the images.
        k, exclude_self, min_score: see :func:`retrieve_pairs`.
        trust: see :meth:`gloam.runtime.descriptors.store.DescriptorStore.open`.
    """

    query: Path
    map: Path
    output: Path
    rules: PairRules
    format: PairFormat = "kapture"
    k: int = 20
    exclude_self: bool = False
    min_score: float | None = None
    trust: bool = False

    def __post_init__(self) -> None:
        if any((self.output.parent / name).is_file() for name in (MANIFEST, "index.json")):
            raise UsageError(f"{self.output}: lies inside a store or an index; choose another folder for the list")


@dataclass(frozen=True)
class PairList:
    """A list that was written.

    Attributes:
        output: the file.
        pairs, queries, map_images: numbers of them.
        unknown: how many images a rule knows nothing of, by its column or ``pose``.
    """

    output: Path
    pairs: int
    queries: int
    map_images: int
    unknown: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "pairs": self.pairs,
            "queries": self.queries,
            "map_images": self.map_images,
            "output": str(self.output),
            **({"images_without": dict(self.unknown)} if self.unknown else {}),
        }

    def __str__(self) -> str:
        """Lines for people."""
        text = f"{self.output}: {self.pairs} pairs of {self.queries} queries with {self.map_images} images of the map"
        unknown = [f"{number} images without a {what}" for what, number in self.unknown.items() if number]
        return "\n".join([text, *unknown])


def list_pairs(request: PairsRequest, progress: bool = False) -> PairList:
    """Retrieve and write, both streamed.

    Args:
        request: stores, rules and the file.
        progress: say how far it is, on stderr.

    Raises:
        StoreError, IncompatibleError, UsageError: see :func:`retrieve_pairs` and :meth:`DescriptorStore.open`.
        DataError: a rule's file cannot be read or knows none of the images, or a name cannot be written.
    """
    queries, mapping = (DescriptorStore.open(folder, trust=request.trust) for folder in (request.query, request.map))
    masks, unknown = request.rules.masks(queries.names, mapping.names)
    with progress_bar(len(queries) * len(mapping), "comparing", "pairs", shown=progress) as bar:
        pairs = retrieve_pairs(
            queries,
            mapping,
            request.k,
            exclude_self=request.exclude_self,
            min_score=request.min_score,
            masks=masks,
            done=bar.update,
        )
        count = write_pairs(request.output, pairs, request.format)
    return PairList(request.output, count, len(queries), len(mapping), unknown)


def retrieve_pairs(
    query_store: DescriptorSource,
    map_store: DescriptorSource,
    k: int = 20,
    *,
    block: int = BLOCK,
    exclude_self: bool = False,
    min_score: float | None = None,
    masks: Sequence[PairMask] = (),
    done: Callable[[int], object] = lambda count: None,
) -> Iterator[Pair]:
    """The k best images of the map for each query, sorted by query name, then by score from best to worst.

    Both sides are streamed; what is held is one tile of ``block x block`` scores and the best k so far of every
    query (12 bytes each). Equal scores are ordered by the name of the map's image.

    Args:
        query_store, map_store: descriptors of one space.
        k: pairs per query; fewer where the map is smaller.
        block: rows of either side in memory at once.
        exclude_self: leave out the image of the map that has the query's own name.
        min_score: leave out pairs below this cosine.
        masks: leave out what any of them hides; see :mod:`gloam.runtime.search.pair_masks`.
        done: is told how many pairs are compared more, tile by tile.

    Raises:
        IncompatibleError: the descriptors are of different spaces or dimensions.
        UsageError: ``k`` or ``block`` is not positive, or a mask is of other numbers of images.
    """
    if k < 1 or block < 1:
        raise UsageError(f"pairs per query ({k}) and block ({block}) must be at least 1")
    if min_score is not None and not -1 <= min_score <= 1:
        raise UsageError(f"--min-score {min_score:g}: a cosine is from -1 to 1")
    expect_searchable(map_store.space, query_store, "queries", input_rule_of(map_store))
    if query_store.dimension != map_store.dimension or map_store.metric != "cosine":
        raise IncompatibleError(
            f"queries of {query_store.dimension} values, map of {map_store.dimension} by {map_store.metric}; "
            "pairs need one dimension and the metric cosine"
        )
    for mask in masks:
        mask.check(len(query_store.names), len(map_store.names))
    return _ranked(query_store, map_store, k, block, exclude_self, min_score, masks, done)


def _ranked(
    query_store: DescriptorSource,
    map_store: DescriptorSource,
    k: int,
    block: int,
    exclude_self: bool,
    min_score: float | None,
    masks: Sequence[PairMask],
    done: Callable[[int], object],
) -> Iterator[Pair]:
    order = sorted(range(len(map_store.names)), key=map_store.names.__getitem__)
    rank = np.empty(len(order), np.int64)  # an image is its name's place in the alphabet: ties need no strings
    rank[order] = np.arange(len(order))
    rank_of = {name: int(rank[row]) for row, name in enumerate(map_store.names)} if exclude_self else {}
    best: list[tuple[str, Scores, Ranks]] = []
    start = 0
    for names, queries in finite_blocks(query_store, block):
        place = slice(start, start + len(names))
        start += len(names)
        own = np.array([rank_of.get(name, -1) for name in names], np.int64)
        scores, ranks = _best_of_block(queries, place, own, map_store, rank, k, block, min_score, masks, done)
        best += zip(names, scores, ranks, strict=True)
    best.sort(key=lambda entry: entry[0])
    for name, scores, ranks in best:
        for score, place in zip(scores.tolist(), ranks.tolist(), strict=True):
            if place >= 0:
                yield Pair(name, map_store.names[order[place]], score)


def _best_of_block(
    queries: Scores,  # [q, D]
    query_place: slice,  # of these rows in their store
    own: Ranks,  # [q] rank of the query's own name in the map, or -1
    map_store: DescriptorSource,
    rank: Ranks,  # [m]
    k: int,
    block: int,
    min_score: float | None,
    masks: Sequence[PairMask],
    done: Callable[[int], object],
) -> tuple[Scores, Ranks]:
    """Running top-k of one block of queries: scores and ranks ``[q, k]``, -inf and -1 where there are fewer."""
    best = np.full((len(queries), k), -np.inf, np.float32)
    places = np.full((len(queries), k), -1, np.int64)
    start = 0
    for names, rows in finite_blocks(map_store, block):
        place = slice(start, start + len(names))
        tile_rank = rank[place]
        start += len(names)
        tile = queries @ rows.T
        if (own >= 0).any():
            tile[own[:, None] == tile_rank[None, :]] = -np.inf
        for mask in masks:
            tile[mask.hidden(query_place, place)] = -np.inf
        if min_score is not None:
            tile[tile < min_score] = -np.inf
        # What ties with the k-th best so far may still precede it by name, hence >= and not >.
        floor = best[:, -1].copy()
        if tile.shape[1] > k:
            floor = np.maximum(floor, np.partition(tile, -k, axis=1)[:, -k])
        row, column = np.nonzero((tile >= floor[:, None]) & (tile > -np.inf))
        kept, slot = np.nonzero(places >= 0)
        _merge(
            best,
            places,
            np.concatenate([kept, row]),
            np.concatenate([best[kept, slot], tile[row, column]]),
            np.concatenate([places[kept, slot], tile_rank[column]]),
        )
        done(tile.size)
    return best, places


def _merge(best: Scores, places: Ranks, row: Ranks, score: Scores, place: Ranks) -> None:
    """Write the k first candidates of each row, by score and then by place, into ``best`` and ``places``."""
    order = np.lexsort((place, -score, row))
    row, score, place = row[order], score[order], place[order]
    nth = np.arange(len(row)) - np.searchsorted(row, row)
    keep = nth < best.shape[1]
    best[row[keep], nth[keep]] = score[keep]
    places[row[keep], nth[keep]] = place[keep]
