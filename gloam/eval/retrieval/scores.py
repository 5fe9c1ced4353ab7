"""Retrieval scores: mAP, recall@k and mP@k from a ground-truth file, per condition, beside what chance would give.

**Average precision** is the trapezoid of the Oxford and Paris protocols: junk images are taken out of the ranking,
the n positives are at 0-based ranks ``r_0 < r_1 < ...``, and ``AP = 1/n * sum_j (p0 + p1) / 2`` with ``p0 = 1`` where
``r_j = 0`` and ``j / r_j`` elsewhere, ``p1 = (j + 1) / (r_j + 1)``. **Recall@k** is the share of queries with a
positive among the first k. **mP@k** is the precision among the first ``min(k, rank of the last positive)``.

Scores are dot products of L2-normalised descriptors. Equal scores rank in the order of the ground truth's ``imlist``.
Queries without positives are skipped and counted. Images that could not be described are no excuse: such a query has
found nothing, such a map image is never found, and both are counted beside the score. Ranks come from counting what
lies above each positive, block of queries by block, so nothing is sorted and no dense query x database matrix is made.
Databases larger than memory, and distractors: :mod:`gloam.eval.retrieval.streamed`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import compress
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.errors import DataError, IncompatibleError
from gloam.eval.retrieval.ground_truth import GroundTruth, Indices, read_ground_truth

__all__ = [
    "KS",
    "GroundTruth",
    "RetrievalScores",
    "ScoreTable",
    "Scores",
    "average_precision",
    "chance_average_precision",
    "chance_recall",
    "evaluate",
    "evaluate_scores",
    "positive_ranks",
    "read_ground_truth",
]

Descriptors = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
KS = (1, 5, 10, 20)
BLOCK_VALUES = 1 << 23  # scores held at a time: 32 MiB of float32


@dataclass(frozen=True)
class Scores:
    """Means over queries that have positives; all 0 to 1, NaN where no query counts.

    Attributes:
        mAP: mean average precision.
        recall: recall@k by k.
        precision: mP@k by k.
        queries: how many queries count.
        skipped: how many have no positive.
        failed: how many of those that count have no descriptor; each counts as one that found nothing.
        failed_map: how many images of the database have no descriptor; they are never found.
        chance_mAP, chance_recall: exact expectation under a random ranking of the same database.
    """

    mAP: float
    recall: Mapping[int, float]
    precision: Mapping[int, float]
    queries: int
    skipped: int
    chance_mAP: float
    chance_recall: Mapping[int, float]
    failed: int = 0
    failed_map: int = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON form; NaN becomes None."""
        return {
            "mAP": _number(self.mAP),
            "recall": {str(k): _number(value) for k, value in self.recall.items()},
            "precision": {str(k): _number(value) for k, value in self.precision.items()},
            "queries": self.queries,
            "skipped": self.skipped,
            "failed": self.failed,
            "failed_map": self.failed_map,
            "chance": {
                "mAP": _number(self.chance_mAP),
                "recall": {str(k): _number(value) for k, value in self.chance_recall.items()},
            },
        }


@dataclass(frozen=True)
class RetrievalScores(Scores):
    """Scores over all queries, per condition, and per query.

    Attributes:
        conditions: the same scores over the queries of each condition.
        per_query: average precision by query name; queries without positives are absent.
    """

    conditions: Mapping[str, Scores] = field(default_factory=dict)
    per_query: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON form without the per-query values."""
        return super().to_dict() | {"conditions": {name: item.to_dict() for name, item in self.conditions.items()}}


def average_precision(ranks: npt.ArrayLike, positives: int) -> float:
    """Trapezoid average precision of one query.

    Args:
        ranks: 0-based ranks of the positives that were ranked, junk taken out, ascending.
        positives: number of all positives, ranked or not; at least 1.

    Returns:
        0 to 1.
    """
    rank = np.asarray(ranks, np.float64)
    found = np.arange(len(rank), dtype=np.float64)
    before = np.where(rank == 0, 1.0, found / np.maximum(rank, 1.0))
    after = (found + 1.0) / (rank + 1.0)
    return float(np.sum(before + after) / 2.0 / positives)


def positive_ranks(scores: npt.NDArray[np.floating[Any]], positives: Indices, junk: Indices) -> Indices:
    """0-based ranks of the positives among all that is not junk; a higher score first, equal scores by index.

    Every database item is placed among the distinct scores of the positives (a binary search in that short list), so
    the cost is n log p instead of a sort of the database.

    Args:
        scores: ``[n]``, finite; overwritten at ``junk``.
        positives: indices, at least one.
        junk: indices to leave out.

    Returns:
        int64 ``[p]``, ascending.
    """
    scores[junk] = -np.inf
    levels, level_of = np.unique(scores[positives], return_inverse=True)
    below = np.searchsorted(levels, scores, side="left")  # how many levels lie strictly under each item
    counts = np.bincount(below, minlength=len(levels) + 1)
    strictly_above = counts[::-1].cumsum()[::-1][1:]  # of each level
    tied = np.flatnonzero(levels[np.minimum(below, len(levels) - 1)] == scores)
    keys = np.sort(below[tied] * len(scores) + tied)
    ahead = np.searchsorted(keys, level_of * len(scores) + positives) - np.searchsorted(keys, level_of * len(scores))
    return np.sort(strictly_above[level_of] + ahead).astype(np.int64)


@lru_cache(maxsize=4096)  # many queries share it, and the rankings may be of a million
def chance_average_precision(database: int, positives: int) -> float:
    """Expected average precision of a uniformly random ranking, exactly.

    A positive at rank r has on average ``r (p - 1) / (n - 1)`` positives before it, and every rank is equally likely.

    Args:
        database: n, images in the ranking without junk.
        positives: p, 1 to n.
    """
    rank = np.arange(database, dtype=np.float64)
    density = (positives - 1) / (database - 1) if database > 1 else 0.0
    before = np.where(rank == 0, 1.0, density)
    after = (rank * density + 1.0) / (rank + 1.0)
    return float(np.mean((before + after) / 2.0))


def chance_recall(database: int, positives: int, k: int) -> float:
    """Probability that a uniformly random ranking has a positive among its first k."""
    drawn = np.arange(min(k, database), dtype=np.float64)
    return float(1.0 - np.prod(np.clip((database - positives - drawn) / (database - drawn), 0.0, 1.0)))


def evaluate(
    query_names: Sequence[str],
    query_descriptors: Descriptors,
    map_names: Sequence[str],
    map_descriptors: Descriptors,
    ground_truth: GroundTruth,
    *,
    conditions: Mapping[str, Sequence[str]] | None = None,
    ks: Sequence[int] = KS,
    failed: Collection[str] = (),
) -> RetrievalScores:
    """Score a ranking of the database for each query.

    Args:
        query_names: names of the rows of ``query_descriptors``; more than the ground truth's queries is fine.
        query_descriptors: ``[q, D]``, L2-normalised.
        map_names: names of the rows of ``map_descriptors``; what is not in ``imlist`` is left out.
        map_descriptors: ``[n, D]``, L2-normalised.
        ground_truth: one set.
        conditions: queries by condition, instead of the ground truth's own; names it does not know are left out.
        ks: the k of recall@k and mP@k.
        failed: names of images without a descriptor: queries that found nothing, map images that are never found.

    Raises:
        DataError: another image of the ground truth has no descriptor, or a descriptor is not finite.
        IncompatibleError: the dimensions differ.
    """
    asked = has_descriptor(ground_truth.query_names, query_names, failed)
    shown = has_descriptor(ground_truth.map_names, map_names, failed)
    queries = _rows(query_names, query_descriptors, list(compress(ground_truth.query_names, asked)), "query")
    database = _rows(map_names, map_descriptors, list(compress(ground_truth.map_names, shown)), "map")
    if queries.shape[1] != database.shape[1]:
        raise IncompatibleError(
            f"query descriptors have dimension {queries.shape[1]}, map descriptors {database.shape[1]}; "
            "they come from different models, extract them again with one"
        )
    table = ScoreTable(ground_truth, tuple(ks), asked, shown)
    block, rows = max(1, BLOCK_VALUES // max(len(database), 1)), np.flatnonzero(asked)
    for start in range(0, len(queries), block):
        scores = queries[start : start + block] @ database.T
        for row, values in zip(rows[start : start + block], scores, strict=True):
            table.add_scores(int(row), values)
    return table.scores(conditions)


def evaluate_scores(
    scores: Mapping[str, npt.NDArray[np.floating[Any]]],
    map_names: Sequence[str],
    ground_truth: GroundTruth,
    *,
    conditions: Mapping[str, Sequence[str]] | None = None,
    ks: Sequence[int] = KS,
    failed: Collection[str] = (),
) -> RetrievalScores:
    """Score a ranking that is given by the similarities themselves, as ASMK gives them.

    Args:
        scores: of all map images for each query by name, float ``[n]``, higher is more similar.
        map_names: the map images in the order of ``scores``; what is not in ``imlist`` is left out.
        ground_truth, conditions, ks, failed: as for :func:`evaluate`.

    Raises:
        DataError: another image of the ground truth has no score, or a score is not finite.
    """
    place = {name: row for row, name in enumerate(map_names)}
    asked = has_descriptor(ground_truth.query_names, scores, failed)
    shown = has_descriptor(ground_truth.map_names, place, failed)
    queries, database = (
        list(compress(names, mask))
        for names, mask in ((ground_truth.query_names, asked), (ground_truth.map_names, shown))
    )
    for role, wanted, known in (("query", queries, scores), ("map", database, place)):
        missing = [name for name in wanted if name not in known]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(wanted)} {role} images of the ground truth have no score (the first is "
                f"{missing[0]}); check that names are relative to the same folder"
            )
    columns = np.array([place[name] for name in database], np.int64)
    table = ScoreTable(ground_truth, tuple(ks), asked, shown)
    for row, name in zip(np.flatnonzero(asked), queries, strict=True):
        values = np.asarray(scores[name])[columns]
        if not np.isfinite(values).all():
            raise DataError(f"the scores of query {name} are not finite; search again")
        table.add_scores(int(row), values)
    return table.scores(conditions)


def has_descriptor(wanted: Sequence[str], stored: Collection[str], failed: Collection[str]) -> Mask:
    """Which of some images have a descriptor, bool ``[n]``: all but those that failed.

    What is neither stored nor failed counts as having one, so that its absence is refused and not scored.
    """
    absent = set(failed) - set(stored)
    return np.array([name not in absent for name in wanted], bool)


class ScoreTable:
    """The scores of each query: one row per query, NaN where it has no positive.

    Args:
        ground_truth: one set.
        ks: the k of recall@k and mP@k.
        asked: which queries have a descriptor, bool ``[q]``; the others find nothing.
        shown: which map images have one, bool ``[n]``; the others are never found.
        added: distractors beside them.

    Attributes:
        positives: per query, the positives that can be found; empty for a query that failed.
    """

    def __init__(
        self, ground_truth: GroundTruth, ks: tuple[int, ...], asked: Mask, shown: Mask, added: int = 0
    ) -> None:
        queries = len(ground_truth.query_names)
        self.ground_truth, self.ks, self.added = ground_truth, ks, added
        self._asked, self._shown = asked, shown
        self._column = np.cumsum(shown) - 1  # of a described map image among those alone
        self.ap = np.full(queries, np.nan)
        self.chance_ap = np.full(queries, np.nan)
        self.recall = np.full((queries, len(ks)), np.nan)
        self.chance_recall = np.full((queries, len(ks)), np.nan)
        self.precision = np.full((queries, len(ks)), np.nan)
        self.positives = [
            rows[shown[rows]] if here else rows[:0] for rows, here in zip(ground_truth.positives, asked, strict=True)
        ]
        for row, right in enumerate(ground_truth.positives):
            if len(right) and not len(self.positives[row]):
                self.add(row, np.empty(0, np.int64))

    def add_scores(self, row: int, values: npt.NDArray[np.floating[Any]]) -> None:
        """Score a query by the similarities of the map images that have a descriptor; overwritten at its junk."""
        if len(self.positives[row]):
            junk = self.ground_truth.junk[row]
            ranks = positive_ranks(values, self._column[self.positives[row]], self._column[junk[self._shown[junk]]])
            self.add(row, ranks)

    def add(self, row: int, ranks: Indices) -> None:
        """Score a query: the 0-based ranks of those of its positives that were ranked, ascending, junk taken out."""
        positives = len(self.ground_truth.positives[row])
        database = len(self.ground_truth.map_names) - len(self.ground_truth.junk[row]) + self.added
        self.ap[row] = average_precision(ranks, positives)
        self.chance_ap[row] = chance_average_precision(database, positives)
        last = int(ranks[-1]) if len(ranks) == positives else database - 1  # what is never found is behind all
        for column, k in enumerate(self.ks):
            self.recall[row, column] = float((ranks < k).any())
            self.chance_recall[row, column] = chance_recall(database, positives, k)
            depth = min(k, last + 1)
            self.precision[row, column] = np.count_nonzero(ranks < depth) / depth

    def scores(self, conditions: Mapping[str, Sequence[str]] | None) -> RetrievalScores:
        """Means over all queries of the ground truth, one row each in its order, and over those of each condition."""
        row_of = {name: row for row, name in enumerate(self.ground_truth.query_names)}
        groups = self.ground_truth.conditions if conditions is None else conditions
        per_condition = {
            name: self.mean(np.array([row_of[item] for item in members if item in row_of], np.int64))
            for name, members in groups.items()
        }
        counted = {name: float(self.ap[row]) for name, row in row_of.items() if np.isfinite(self.ap[row])}
        overall = self.mean(np.arange(len(row_of)))
        return RetrievalScores(**vars(overall), conditions=per_condition, per_query=counted)

    def mean(self, rows: Indices) -> Scores:
        """Means over some rows; those without a positive are skipped and counted."""
        counted = rows[np.isfinite(self.ap[rows])]

        def average(values: npt.NDArray[np.float64]) -> float:
            return float(values[counted].mean()) if len(counted) else float("nan")

        def by_k(values: npt.NDArray[np.float64]) -> dict[int, float]:
            return {k: average(values[:, column]) for column, k in enumerate(self.ks)}

        return Scores(
            mAP=average(self.ap),
            recall=by_k(self.recall),
            precision=by_k(self.precision),
            queries=len(counted),
            skipped=len(rows) - len(counted),
            chance_mAP=average(self.chance_ap),
            chance_recall=by_k(self.chance_recall),
            failed=int(np.count_nonzero(~self._asked[counted])),
            failed_map=int(np.count_nonzero(~self._shown)),
        )


def _rows(names: Sequence[str], descriptors: Descriptors, wanted: Sequence[str], role: str) -> Descriptors:
    if len(names) != len(descriptors):
        raise DataError(f"{role} descriptors: {len(descriptors)} rows for {len(names)} names")
    row_of = {name: row for row, name in enumerate(names)}
    missing = [name for name in wanted if name not in row_of]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(wanted)} {role} images of the ground truth have no descriptor "
            f"(the first is {missing[0]}); extract them, or check that names are relative to the same folder"
        )
    selected = np.ascontiguousarray(descriptors[[row_of[name] for name in wanted]], np.float32)
    finite = np.isfinite(selected).all(axis=1)
    if not finite.all():
        raise DataError(f"{role} descriptor of {wanted[int(np.argmin(finite))]} is not finite; extract it again")
    return selected


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
