"""Searches whose first images are known to be right or wrong: what calibrations are learned from and judged on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.errors import UsageError
from gloam.eval.retrieval.calibration import BINS, CalibrationScores, right_first, score_calibration
from gloam.eval.retrieval.ground_truth import GroundTruth, read_ground_truth
from gloam.runtime.search.calibration import EVIDENCE, Calibration, gathered
from gloam.runtime.search.index import DescriptorIndex, IndexCard
from gloam.runtime.search.queries import answer, read_queries
from gloam.runtime.search.verified import Found, MatchKind, VerifiedMatches, rerank


@dataclass(frozen=True)
class SearchedMap:
    """One map and the queries that were matched with it.

    Attributes:
        index: folder of the map's index.
        store: folder of the queries' descriptors.
        matches: verified, of every query with the images that a search finds for it.
        ground_truth: file of ``ok`` and ``junk``.
        set: of a file of several.
    """

    index: Path
    store: Path
    matches: Path
    ground_truth: Path
    set: str | None = None


@dataclass(frozen=True, eq=False)
class JudgedSearch:
    """Queries with what was found for them, and whether its first image is right.

    Attributes:
        names: of the queries.
        ranked: of each its images, the most verified matches first; one at least.
        right: bool ``[q]``.
        conditions: names of queries by condition.
        junk: names of queries that are left out, their first images being neither right nor wrong.
    """

    names: Sequence[str]
    ranked: Sequence[Sequence[Found]]
    right: npt.NDArray[np.bool_]
    conditions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    junk: Sequence[str] = ()

    def rows(self, condition: str) -> npt.NDArray[np.int64]:
        """Rows of a condition's queries."""
        members = set(self.conditions[condition])
        return np.array([row for row, name in enumerate(self.names) if name in members], np.int64)


def judge(ranked: Mapping[str, Sequence[Found]], truth: GroundTruth) -> JudgedSearch:
    """Queries of a search by its ground truth; those for which nothing was found are left out.

    Raises:
        DataError: the ground truth is of other queries or another map.
    """
    verdicts = right_first(truth, {query: found[0].image for query, found in ranked.items() if found})
    names = [query for query, verdict in verdicts.items() if verdict is not None]
    junk = [query for query, verdict in verdicts.items() if verdict is None]
    right = np.array([bool(verdicts[query]) for query in names], bool)
    return JudgedSearch(names, [ranked[query] for query in names], right, truth.conditions, junk)


def search_map(searched: SearchedMap, k: int, *, trust: bool = False) -> tuple[JudgedSearch, IndexCard, MatchKind]:
    """Search a map, put the images in the order of their verified matches, and judge the first.

    Args:
        searched: the map's files.
        k: images a query.
        trust: do not compare stores, index and matches with their checksums.

    Returns:
        the search, the card of the index and how its matches are made.

    Raises:
        StoreError, IncompatibleError, DataError, UsageError: what cannot be read or does not belong together.
    """
    if k < 2:
        raise UsageError(f"-k {k}: a calibration compares the first image with others, give 2 or more")
    index = DescriptorIndex.open(searched.index, trust=trust)
    matches = VerifiedMatches.open(searched.matches, trust=trust)
    truth = read_ground_truth(searched.ground_truth, searched.set)
    found = answer(index, read_queries(searched.store, index.card, trust=trust), k)
    return judge(rerank(found.results, matches.count), truth), index.card, matches.kind


@dataclass(frozen=True)
class EvaluationRequest:
    """A calibration to judge on one map.

    Attributes:
        calibration: its file.
        index, store, matches, ground_truth, set: see :class:`SearchedMap`.
        precision: of which the coverage is asked for, above 0 and at most 1.
        bins: of the expected calibration error.
        trust: see :func:`search_map`.

    Raises:
        UsageError: values that mean nothing.
    """

    calibration: Path
    index: Path
    store: Path
    matches: Path
    ground_truth: Path
    set: str | None = None
    precision: float = 0.95
    bins: int = BINS
    trust: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.precision <= 1:
            raise UsageError(f"--precision {self.precision:g}: must be above 0 and at most 1")
        if self.bins < 1:
            raise UsageError(f"--bins {self.bins}: must be at least 1")


@dataclass(frozen=True)
class CalibrationEvaluation:
    """How a calibration did on a map.

    Attributes:
        calibration: its file; k: images a query.
        conditions: scores of the queries of each condition, and of ``all``.
    """

    calibration: Path
    k: int
    conditions: Mapping[str, CalibrationScores]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        conditions = {name: scores.to_dict() for name, scores in self.conditions.items()}
        return {"calibration": str(self.calibration), "k": self.k, "conditions": conditions}

    def __str__(self) -> str:
        """A table for people."""
        rows = [["condition", "queries", "right", "said", "ECE", "calibrated has", "coverage", "best single score"]]
        for name, scores in self.conditions.items():
            single, coverage = scores.best_single
            least = f"{scores.ece_calibrated[0]:.3f}"
            numbers = [f"{value:.3f}" for value in (scores.right, scores.said, scores.ece)]
            best = f"{coverage:.3f} {single}"
            rows.append([name, str(scores.queries), *numbers, least, f"{scores.coverage:.3f}", best])
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        promised = next(iter(self.conditions.values())).promised
        junk = self.conditions["all"].junk
        lines.append(f"coverage: share of queries answered at {100 * promised:g} % right; {junk} left out as junk")
        return "\n".join(lines)


def evaluate_calibration(request: EvaluationRequest) -> CalibrationEvaluation:
    """Search a map as a calibration was learned, and judge its probabilities.

    Raises:
        ModelError: no calibration.
        StoreError, IncompatibleError, DataError, UsageError: see :func:`search_map`; or a search that the calibration
            does not speak of.
    """
    calibration = Calibration.load(request.calibration)
    searched = SearchedMap(request.index, request.store, request.matches, request.ground_truth, request.set)
    search, card, kind = search_map(searched, calibration.k, trust=request.trust)
    calibration.expect(card.space, calibration.k, kind, str(request.calibration))
    conditions = score_search(calibration, search, request.precision, request.bins)
    return CalibrationEvaluation(request.calibration, calibration.k, conditions)


def score_search(
    calibration: Calibration, search: JudgedSearch, precision: float = 0.95, bins: int = BINS
) -> dict[str, CalibrationScores]:
    """Scores of all queries of a search, and of each condition that has any.

    Args:
        calibration: that is judged.
        search: by ground truth.
        precision, bins: see :func:`score_calibration`.

    Raises:
        DataError: every query is left out.
    """
    said = np.array([calibration.probability(found) for found in search.ranked])
    single = gathered(search.ranked, tuple(EVIDENCE))
    scores = {}
    for name in ("all", *search.conditions):
        rows = np.arange(len(search.names)) if name == "all" else search.rows(name)
        members = set(search.junk) if name == "all" else set(search.junk) & set(search.conditions[name])
        if len(rows) or name == "all":
            by_name = {what: single[rows, column] for column, what in enumerate(EVIDENCE)}
            scores[name] = score_calibration(
                said[rows], search.right[rows], by_name, bins=bins, precision=precision, junk=len(members)
            )
    return scores
