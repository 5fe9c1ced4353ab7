"""Tokyo 24/7 as an image retrieval benchmark: every scene by day, at sunset and by night.

1125 images show 375 scenes in three lightings; every image is a query, the two other lightings of its scene are right,
and the query itself and what else was taken at the spot are junk. Six further sets (Dark Side Augmentation, ICCV 2023,
Table 6) ask from one lighting for one other: the third image of the scene is then junk too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from gloam.errors import DataError, UsageError
from gloam.eval.retrieval.ground_truth import GroundTruth, read_ground_truth

LIGHTINGS = ("day", "sunset", "night")
# Query and what is right for it, in the order of the paper's columns.
COMBINATIONS = (
    ("day", "sunset"),
    ("sunset", "day"),
    ("sunset", "night"),
    ("night", "sunset"),
    ("day", "night"),
    ("night", "day"),
)


def read_tokyo(path: str | Path) -> GroundTruth:
    """Read ``gnd_247tokyo1k.pkl`` (or the same as JSON) and check that it is of this benchmark's form.

    Raises:
        DataError: queries that are not the database, a query that is not junk for itself, or a scene that is not three
            images that are right for each other; the first such query is named.
    """
    truth = read_ground_truth(path)
    if truth.query_names != truth.map_names:
        raise DataError(f"{path}: queries and database differ, and in Tokyo 24/7 every image is both; check the file")
    for index, name in enumerate(truth.query_names):
        if index not in truth.junk[index]:
            raise DataError(f"{path}: query {name} would retrieve itself; list its own index {index} as junk")
        scene = {index, *truth.positives[index].tolist()}
        if len(scene) != len(LIGHTINGS):
            raise DataError(f"{path}: query {name} has {len(scene) - 1} positives, and a scene has two; check the file")
        if any(scene != {other, *truth.positives[other].tolist()} for other in scene):
            raise DataError(f"{path}: the scene of query {name} is another for its positives; check the file")
    return truth


def lightings_by_order(truth: GroundTruth, order: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Which images are by day, at sunset and by night, where the names of each scene's three images sort in that order.

    Args:
        truth: as :func:`read_tokyo` gives it.
        order: the three lightings, first name first; what it is in a copy of the dataset must be looked up there.

    Returns:
        image names by lighting.

    Raises:
        UsageError: ``order`` is not the three lightings.
    """
    if sorted(order) != sorted(LIGHTINGS):
        raise UsageError(f"lightings {', '.join(order)}: give day, sunset and night, in the order of a scene's names")
    found: dict[str, list[str]] = {lighting: [] for lighting in LIGHTINGS}
    for index, name in enumerate(truth.query_names):
        scene = sorted([name, *(truth.map_names[other] for other in truth.positives[index])])
        found[order[scene.index(name)]].append(name)
    return {lighting: tuple(names) for lighting, names in found.items()}


def combinations(truth: GroundTruth, conditions: Mapping[str, Iterable[str]]) -> dict[str, GroundTruth]:
    """The six sets of Table 6, named ``day>sunset`` and so on, in the order of its columns.

    Args:
        truth: as :func:`read_tokyo` gives it.
        conditions: image names of ``day``, ``sunset`` and ``night``.

    Raises:
        DataError: a lighting is absent, or an image has none or two.
    """
    missing = [lighting for lighting in LIGHTINGS if lighting not in conditions]
    if missing:
        raise DataError(f"conditions: no list of {missing[0]}; Tokyo 24/7 needs day.txt, sunset.txt and night.txt")
    names = {lighting: set(conditions[lighting]) for lighting in LIGHTINGS}
    for name in truth.query_names:
        held = [lighting for lighting in LIGHTINGS if name in names[lighting]]
        if len(held) != 1:
            raise DataError(f"conditions: {name} is in {' and '.join(held) or 'no list'}; each image has one lighting")
    return {f"{query}>{right}": between(truth, names[query], names[right]) for query, right in COMBINATIONS}


def condition_matrix(
    truth: GroundTruth, query_conditions: Mapping[str, Iterable[str]], map_conditions: Mapping[str, Iterable[str]]
) -> dict[str, GroundTruth]:
    """One set for every condition of the queries against every condition of the map, named ``query>map``."""
    return {
        f"{query}>{right}": between(truth, set(asked), set(shown))
        for query, asked in query_conditions.items()
        for right, shown in map_conditions.items()
    }


def between(truth: GroundTruth, queries: set[str], right: set[str]) -> GroundTruth:
    """The same database asked by some of the queries; of their positives only some count, the others are junk.

    Args:
        truth: a set.
        queries: names of the queries to keep; those it does not know are left out.
        right: names of the map images that may be right.

    Raises:
        DataError: none of the queries is in the set.
    """
    kept = [index for index, name in enumerate(truth.query_names) if name in queries]
    if not kept:
        raise DataError("ground truth: none of the queries of a condition is in it; check the names of the lists")
    allowed = np.array([name in right for name in truth.map_names])
    return replace(
        truth,
        query_names=tuple(truth.query_names[index] for index in kept),
        positives=tuple(truth.positives[index][allowed[truth.positives[index]]] for index in kept),
        junk=tuple(
            np.union1d(truth.junk[index], truth.positives[index][~allowed[truth.positives[index]]]) for index in kept
        ),
        conditions={},
        boxes=tuple(truth.boxes[index] for index in kept) if truth.boxes else (),
    )
