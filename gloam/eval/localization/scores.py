"""Errors of estimated poses and recalls at the benchmarks' thresholds, per condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gloam.data.scene import Pose, position_error, rotation_error
from gloam.errors import DataError

THRESHOLDS = ((0.25, 2.0), (0.5, 5.0), (5.0, 10.0))  # metres, degrees: the long-term localization benchmark


@dataclass(frozen=True)
class PoseErrors:
    """Errors of one method's poses; nan where a query was not localized.

    Attributes:
        names: queries, in order.
        position: metres between camera centres.
        rotation: degrees, geodesic.
    """

    names: tuple[str, ...]
    position: tuple[float, ...]
    rotation: tuple[float, ...]


@dataclass(frozen=True)
class ConditionScores:
    """Scores of one condition.

    Attributes:
        queries, localized: counts.
        recalls: share of the queries within each of the thresholds; a query without a pose is a failure.
        median_position, median_rotation: over all queries, a failure counting as infinite.
        mean_position, mean_rotation: over the localized ones.
    """

    queries: int
    localized: int
    recalls: tuple[float, ...]
    median_position: float
    median_rotation: float
    mean_position: float
    mean_rotation: float


@dataclass(frozen=True)
class Aggregate:
    """Recalls over several conditions, by both readings of a table that does not say which is its own.

    Attributes:
        queries: in all.
        recalls: share of all the queries within each of the thresholds, as servers print ``day-all`` and ``night-all``.
        mean_of_conditions: plain mean of the conditions' own recalls.
    """

    queries: int
    recalls: tuple[float, ...]
    mean_of_conditions: tuple[float, ...]


def aggregate(scores: Mapping[str, ConditionScores], conditions: Sequence[str]) -> Aggregate:
    """Scores of several conditions as one.

    Args:
        scores: by condition.
        conditions: to take together; those without queries are left out.

    Raises:
        DataError: none of them has queries.
    """
    chosen = [scores[name] for name in conditions if name in scores]
    queries = sum(item.queries for item in chosen)
    if not queries:
        raise DataError(f"no queries of the conditions {', '.join(conditions) or 'of none'} to score")
    columns = list(zip(*(item.recalls for item in chosen), strict=True))
    counts = [item.queries for item in chosen]
    over = tuple(sum(n * recall for n, recall in zip(counts, column, strict=True)) / queries for column in columns)
    return Aggregate(queries, over, tuple(sum(column) / len(column) for column in columns))


def pose_errors(estimated: Mapping[str, Pose | None], truth: Mapping[str, Pose]) -> PoseErrors:
    """Errors of every query of the truth; one that is absent from ``estimated`` was not localized.

    Raises:
        DataError: a pose for a query that the truth does not know.
    """
    unknown = sorted(set(estimated) - set(truth))
    if unknown:
        raise DataError(f"{len(unknown)} estimated poses have no ground truth, first {unknown[0]!r}")
    names = sorted(truth)
    position, rotation = [], []
    for name in names:
        pose = estimated.get(name)
        position.append(float("nan") if pose is None else position_error(pose, truth[name]))
        rotation.append(float("nan") if pose is None else rotation_error(pose, truth[name]))
    return PoseErrors(tuple(names), tuple(position), tuple(rotation))


def score(errors: PoseErrors, thresholds: Sequence[tuple[float, float]] = THRESHOLDS) -> ConditionScores:
    """Recalls and averages of a set of errors."""
    position, rotation = np.array(errors.position), np.array(errors.rotation)
    found = np.isfinite(position)
    if not len(position):
        raise DataError("no queries to score")
    recalls = tuple(float(np.mean(found & (position <= m) & (rotation <= d))) for m, d in thresholds)
    return ConditionScores(
        queries=len(position),
        localized=int(found.sum()),
        recalls=recalls,
        median_position=float(np.median(np.where(found, position, np.inf))),
        median_rotation=float(np.median(np.where(found, rotation, np.inf))),
        mean_position=float(position[found].mean()) if found.any() else float("nan"),
        mean_rotation=float(rotation[found].mean()) if found.any() else float("nan"),
    )


def score_conditions(
    errors: PoseErrors,
    conditions: Mapping[str, Sequence[str]],
    thresholds: Sequence[tuple[float, float]] = THRESHOLDS,
) -> dict[str, ConditionScores]:
    """Scores per condition, and ``all`` where there are several.

    Raises:
        DataError: a condition lists a query without ground truth.
    """
    rows = {name: row for row, name in enumerate(errors.names)}
    result = {}
    for condition, names in conditions.items():
        unknown = [name for name in names if name not in rows]
        if unknown:
            raise DataError(f"condition {condition!r}: query {unknown[0]!r} has no ground-truth pose")
        chosen = [rows[name] for name in names]
        part = PoseErrors(
            tuple(names), tuple(errors.position[row] for row in chosen), tuple(errors.rotation[row] for row in chosen)
        )
        result[condition] = score(part, thresholds)
    if len(conditions) != 1:
        result["all"] = score(errors, thresholds)
    return result
