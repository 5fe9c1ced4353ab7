"""Recall within a distance: is one of the first N images of the ranking taken within d metres of the query?

With N = 1 and d on the axis this is the curve of weakly-paired multi-domain translation, Figure 7: the nearest
neighbour by descriptor is right where its position is within d of the query's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.data.kapture_io import read_scene
from gloam.data.text import finite, plain_name, table_rows
from gloam.errors import DataError, UsageError
from gloam.eval.retrieval.scores import chance_recall
from gloam.runtime.descriptors.source import DescriptorSource, failures_of
from gloam.runtime.search.pairs import retrieve_pairs

Points = npt.NDArray[np.float64]
DISTANCES = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 25.0, 50.0)  # metres
KS = (1, 5, 10, 20)


@dataclass(frozen=True)
class DistanceRecall:
    """Shares of queries, all 0 to 1.

    Attributes:
        distances: d, metres.
        recall: share with one of the first N within d, ``{N: (one per d)}``.
        reachable: share with any map image within d: what a perfect ranking would have.
        chance: recall@1 of a random ranking, one per d.
        queries: how many.
        conditions: the same by condition of the query.
        failed: how many of the queries have no descriptor; each counts as missed.
        failed_map: how many map images have none; they are neither found nor reachable.
    """

    distances: tuple[float, ...]
    recall: Mapping[int, tuple[float, ...]]
    reachable: tuple[float, ...]
    chance: tuple[float, ...]
    queries: int
    conditions: Mapping[str, DistanceRecall] = field(default_factory=dict)
    failed: int = 0
    failed_map: int = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "distances_m": list(self.distances),
            "recall": {str(k): list(values) for k, values in self.recall.items()},
            "reachable": list(self.reachable),
            "chance": list(self.chance),
            "queries": self.queries,
            "failed": self.failed,
            "failed_map": self.failed_map,
            "conditions": {name: item.to_dict() for name, item in self.conditions.items()},
        }


def read_positions(path: str | Path) -> dict[str, Points]:
    """Positions of images, metres: a kapture dataset with poses, or a CSV of ``image, x, y`` and perhaps ``z``.

    Raises:
        DataError: not readable, or a position is not two or three finite numbers.
    """
    place = Path(path)
    if place.is_dir():
        return {name: pose.center for name, pose in read_scene(place, need_poses=True).poses.items()}
    found: dict[str, Points] = {}
    columns, lines = table_rows(place, "positions")
    wanted = "the columns are image, x, y and perhaps z, in metres"
    if not {"image", "x", "y"} <= set(columns):
        raise DataError(f"{place}, line 1: {wanted}")
    for line, row in lines:
        name = plain_name(row["image"].strip())
        axes = [axis for axis in ("x", "y", "z") if row.get(axis)]
        if not name or axes[:2] != ["x", "y"]:
            raise DataError(f"{place}, line {line}: {wanted}")
        if name in found:
            raise DataError(f"{place}, line {line}: image {name!r} is listed twice; keep one")
        try:
            found[name] = np.array([finite(row[axis]) for axis in axes])
        except ValueError as error:
            raise DataError(f"{place}, line {line}: {name!r} has no position ({error}); correct it") from error
    if not found:
        raise DataError(f"{place}: no positions in it; the columns are image, x, y and perhaps z, in metres")
    return found


def recall_within(
    queries: DescriptorSource,
    database: DescriptorSource,
    query_positions: Mapping[str, Points],
    map_positions: Mapping[str, Points],
    *,
    distances: Sequence[float] = DISTANCES,
    ks: Sequence[int] = KS,
    conditions: Mapping[str, Sequence[str]] | None = None,
) -> DistanceRecall:
    """Score the ranking of the database for each query by positions; a query without a near map image counts as missed.

    So does a query that the source states among its failures, where it has a position.

    Args:
        queries, database: unit descriptors of one space, streamed.
        query_positions, map_positions: metres ``[2]`` or ``[3]``, all of one dimension, of every image.
        distances: d, metres, positive and ascending.
        ks: N, the first of the ranking; N larger than the map is the whole map.
        conditions: query names by condition; names that are no queries are left out.

    Raises:
        UsageError: distances or N that are not positive and ascending.
        DataError: an image has no position or one that is not finite.
        IncompatibleError: descriptors of different spaces or dimensions.
    """
    limits, depths = np.asarray(distances, np.float64), sorted(set(ks))
    if not len(limits) or not (np.diff(limits, prepend=0.0) > 0).all() or not depths or depths[0] < 1:
        raise UsageError("distances must be positive and ascending, and N at least 1")
    stored = set(queries.names)
    failed = sorted(name for name in failures_of(queries) if name in query_positions and name not in stored)
    asked = [*queries.names, *failed]
    here = _stacked(query_positions, asked, "query")
    there = _stacked(map_positions, database.names, "map")
    if here.shape[1] != there.shape[1]:
        raise DataError(f"query positions have {here.shape[1]} axes, map positions {there.shape[1]}; give both alike")
    row_of = {name: row for row, name in enumerate(asked)}
    column_of = {name: column for column, name in enumerate(database.names)}
    nearest = np.full((len(row_of), min(depths[-1], len(column_of))), np.inf)
    filled = np.zeros(len(row_of), np.int64)
    for pair in retrieve_pairs(queries, database, nearest.shape[1]):
        row = row_of[pair.query]
        nearest[row, filled[row]] = np.linalg.norm(here[row] - there[column_of[pair.mapping]])
        filled[row] += 1
    best = np.minimum.accumulate(nearest, axis=1)
    hit = {k: best[:, min(k, best.shape[1]) - 1, None] <= limits for k in depths}  # [q, d]
    near = np.stack(
        [(np.linalg.norm(there - point, axis=1)[:, None] <= limits).sum(axis=0) for point in here]
    )  # [q, d]
    chance = np.array([[chance_recall(len(there), int(count), 1) for count in row] for row in near])

    def score(rows: npt.NDArray[np.int64]) -> DistanceRecall:
        def mean(values: npt.NDArray[Any]) -> tuple[float, ...]:
            return tuple(float(value) for value in values[rows].mean(axis=0)) if len(rows) else (0.0,) * len(limits)

        recall = {k: mean(values) for k, values in hit.items()}
        return DistanceRecall(
            tuple(limits.tolist()),
            recall,
            mean(near > 0),
            mean(chance),
            len(rows),
            failed=int(np.count_nonzero(rows >= len(queries.names))),
            failed_map=unfound,
        )

    shown = set(database.names)
    unfound = sum(name in map_positions and name not in shown for name in failures_of(database))
    overall = score(np.arange(len(row_of)))
    groups = {
        name: score(np.array([row_of[item] for item in members if item in row_of], np.int64))
        for name, members in (conditions or {}).items()
    }
    return DistanceRecall(**{**vars(overall), "conditions": groups})


def _stacked(positions: Mapping[str, Points], names: Sequence[str], role: str) -> Points:
    missing = [name for name in names if name not in positions]
    if missing:
        raise DataError(f"{len(missing)} of {len(names)} {role} images have no position (the first is {missing[0]})")
    if len({np.shape(positions[name]) for name in names}) > 1:
        raise DataError(f"{role} positions mix two and three axes; give all alike")
    stacked = np.stack([np.asarray(positions[name], np.float64) for name in names])
    finite = np.isfinite(stacked).all(axis=1)
    if not finite.all():
        raise DataError(f"the position of {role} image {names[int(np.argmin(finite))]} is not finite; correct it")
    return stacked
