"""Retrieval scores where the database streams from disk: a million distractors beside the ground truth's images.

The scores are those of :mod:`gloam.eval.retrieval.scores`. The database is read twice, in blocks: first for the scores
of the positives, then to count, for every positive, what ranks above it. Distractors are right for no query, follow
the ground truth's images where scores are equal, and are read once. What a source states among its failures has found
nothing, or is never found. What is held are the queries, one block, and one
number per positive.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
import numpy.typing as npt

from gloam.errors import DataError, IncompatibleError, UsageError
from gloam.eval.retrieval.ground_truth import GroundTruth, Indices
from gloam.eval.retrieval.scores import KS, RetrievalScores, ScoreTable, has_descriptor
from gloam.runtime.descriptors.source import (
    DescriptorSource,
    expect_searchable,
    failures_of,
    finite_blocks,
    input_rule_of,
)

BLOCK_ROWS = 32768  # of the database at a time: 64 MiB of 512 float32
BLOCK_VALUES = 1 << 23  # scores at a time: 32 MiB of float32

Scores = npt.NDArray[np.float32]


def evaluate_stores(
    queries: DescriptorSource,
    database: DescriptorSource,
    ground_truth: GroundTruth,
    *,
    distractors: Sequence[DescriptorSource] = (),
    conditions: Mapping[str, Sequence[str]] | None = None,
    ks: Sequence[int] = KS,
) -> RetrievalScores:
    """Score one set; see :func:`evaluate_streamed`."""
    return evaluate_streamed(
        queries, database, {"": ground_truth}, distractors=distractors, conditions=conditions, ks=ks
    )[""]


def evaluate_streamed(
    queries: DescriptorSource,
    database: DescriptorSource,
    truths: Mapping[str, GroundTruth],
    *,
    distractors: Sequence[DescriptorSource] = (),
    conditions: Mapping[str, Sequence[str]] | None = None,
    ks: Sequence[int] = KS,
) -> dict[str, RetrievalScores]:
    """Score several sets over one database, e.g. a benchmark's three protocols, reading it no oftener than for one.

    Args:
        queries: unit descriptors; more than the ground truth's queries is fine.
        database: unit descriptors; what is not in ``imlist`` is left out.
        truths: sets by name, all of one ``imlist``; their queries may differ.
        distractors: more unit descriptors to rank, none of them right.
        conditions: queries by condition, instead of each set's own; names that a set does not know are left out.
        ks: the k of recall@k and mP@k.

    Returns:
        scores by the name of the set.

    Raises:
        DataError: an image of the ground truth has no descriptor and is no failure either, or one is not finite.
        IncompatibleError: descriptors of different spaces or dimensions.
        UsageError: no set, or sets of different databases.
    """
    names = _common_database(truths)
    for source in (database, *distractors):
        expect_searchable(source.space, queries, "query descriptors", input_rule_of(source))
        if source.dimension != queries.dimension:
            raise IncompatibleError(
                f"query descriptors have dimension {queries.dimension}, map descriptors {source.dimension}; "
                "they come from different models, extract them again with one"
            )
    shown = has_descriptor(names, database.names, failures_of(database))
    asked = {
        name: has_descriptor(truth.query_names, queries.names, failures_of(queries)) for name, truth in truths.items()
    }
    added = sum(len(source.names) for source in distractors)
    tables = {name: ScoreTable(truth, tuple(ks), asked[name], shown, added) for name, truth in truths.items()}
    wanted = list(
        dict.fromkeys(query for name, truth in truths.items() for query in compress(truth.query_names, asked[name]))
    )
    vectors = gather(queries, wanted, "query")
    row_of = {name: row for row, name in enumerate(wanted)}
    found = database_index(database.names, list(compress(names, shown)))
    place = np.append(np.flatnonzero(shown), -1)[found]  # among all of the ground truth; -1 stays
    counters = [
        _Counter(set_name, number, row_of[query], tables[set_name].positives[number], truth.junk[number])
        for set_name, truth in truths.items()
        for number, query in enumerate(truth.query_names)
        if len(tables[set_name].positives[number])
    ]
    of_query: list[list[_Counter]] = [[] for _ in wanted]
    for counter in counters:
        of_query[counter.query].append(counter)
    for row, scores, index in _score_rows(vectors, database, place):
        for counter in of_query[row]:
            counter.take_levels(scores, index)
    for counter in counters:
        counter.sort_levels()
    for row, scores, index in _score_rows(vectors, database, place):
        for counter in of_query[row]:
            counter.count(scores, index)
    for source in distractors:
        for row, scores, _ in _score_rows(vectors, source, np.full(len(source.names), -1)):
            for counter in of_query[row]:
                counter.count_distractors(scores)
    for counter in counters:
        tables[counter.set_name].add(counter.number, counter.ranks())
    return {name: table.scores(conditions) for name, table in tables.items()}


def gather(source: DescriptorSource, wanted: Sequence[str], role: str) -> Scores:
    """The descriptors of some images of a source, float32 ``[n, D]`` in the order asked for.

    Raises:
        DataError: one is not there, or not finite.
    """
    found = np.empty((len(wanted), source.dimension), np.float32)
    place = database_index(source.names, wanted, role)
    start = 0
    for names, block in source.blocks(BLOCK_ROWS):
        index = place[start : start + len(names)]
        found[index[index >= 0]] = block[index >= 0]
        start += len(names)
    finite = np.isfinite(found).all(axis=1)
    if not finite.all():
        raise DataError(f"{role} descriptor of {wanted[int(np.argmin(finite))]} is not finite; extract it again")
    return found


def database_index(stored: Sequence[str], wanted: Sequence[str], role: str = "map") -> Indices:
    """For each stored image its index among the wanted ones, -1 where it is none of them; int64 ``[len(stored)]``.

    Raises:
        DataError: a wanted image is not stored.
    """
    index_of = {name: index for index, name in enumerate(wanted)}
    place = np.full(len(stored), -1, np.int64)
    seen = np.zeros(len(wanted), bool)
    for row, name in enumerate(stored):
        index = index_of.get(name, -1)
        if index >= 0 and not seen[index]:  # a name twice in a source: its first row
            place[row], seen[index] = index, True
    if not seen.all():
        raise DataError(
            f"{int((~seen).sum())} of {len(wanted)} {role} images of the ground truth have no descriptor (the first is "
            f"{wanted[int(np.argmin(seen))]}); extract them, or check that names are relative to the same folder"
        )
    return place


def _common_database(truths: Mapping[str, GroundTruth]) -> tuple[str, ...]:
    if not truths:
        raise UsageError("no set of ground truth to score; give at least one")
    first, *others = truths.values()
    if any(other.map_names != first.map_names for other in others):
        raise UsageError("sets of ground truth over different databases cannot be scored in one pass; score each alone")
    return first.map_names


def _score_rows(queries: Scores, source: DescriptorSource, place: Indices) -> Iterator[tuple[int, Scores, Indices]]:
    """Query, its scores against a block, and the block's place in the ground truth; block by block."""
    step, start = max(1, BLOCK_VALUES // BLOCK_ROWS), 0
    for names, block in finite_blocks(source, BLOCK_ROWS):
        index = place[start : start + len(names)]
        start += len(names)
        for first in range(0, len(queries), step):
            for row, scores in enumerate(queries[first : first + step] @ block.T, first):
                yield row, scores, index


@dataclass
class _Counter:
    """Counts, for each positive of a query in one set, the images that rank above it.

    Positives and junk are known and not counted: positives are ranked among themselves, so that no rounding between
    two passes can put one above itself.
    """

    set_name: str
    number: int  # of the query in its set
    query: int  # row of the query's descriptor
    positives: Indices
    junk: Indices

    def __post_init__(self) -> None:
        self._known = np.union1d(self.positives, self.junk)
        self._scores = np.full(len(self.positives), np.nan, np.float32)

    def take_levels(self, scores: Scores, index: Indices) -> None:
        """First pass: remember the scores of the positives in a block."""
        rows = np.flatnonzero(_among(self.positives, index))
        self._scores[np.searchsorted(self.positives, index[rows])] = scores[rows]

    def sort_levels(self) -> None:
        """Between the passes."""
        self._levels, self._level_of = np.unique(self._scores, return_inverse=True)
        self._counts = np.zeros(len(self._levels) + 1, np.int64)  # by how many levels lie strictly under
        self._ahead = np.zeros(len(self.positives), np.int64)  # of equal score and smaller index

    def count(self, scores: Scores, index: Indices) -> None:
        """Second pass: add a block of the database."""
        rows = np.flatnonzero(scores >= self._levels[0])
        rows = rows[(index[rows] >= 0) & ~_among(self._known, index[rows])]
        values = scores[rows]
        below = self._add(values)
        tied = np.flatnonzero(self._levels[np.minimum(below, len(self._levels) - 1)] == values)
        if len(tied):
            span = int(index.max()) + int(self.positives[-1]) + 2
            keys = np.sort(below[tied] * span + index[rows[tied]])
            base = self._level_of * span
            self._ahead += np.searchsorted(keys, base + self.positives) - np.searchsorted(keys, base)

    def count_distractors(self, scores: Scores) -> None:
        """Second pass: add a block of distractors; of equal score, they come after the database."""
        self._add(scores[scores >= self._levels[0]])

    def _add(self, values: Scores) -> Indices:
        below = np.searchsorted(self._levels, values, side="left")
        self._counts += np.bincount(below, minlength=len(self._counts))
        return below

    def ranks(self) -> Indices:
        """0-based ranks of the positives, junk taken out, ascending."""
        above = self._counts[::-1].cumsum()[::-1][1:]
        order = np.lexsort((self.positives, -self._scores))
        among = np.empty(len(order), np.int64)
        among[order] = np.arange(len(order))
        return np.sort(among + above[self._level_of] + self._ahead).astype(np.int64)


def _among(known: Indices, index: Indices) -> npt.NDArray[np.bool_]:
    """Which of ``index`` are in ``known``, which is ascending."""
    if not len(known):
        return np.zeros(len(index), bool)
    place = np.minimum(np.searchsorted(known, index), len(known) - 1)
    return np.asarray(known[place] == index)
