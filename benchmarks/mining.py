"""Seconds to choose 2000 diverse anchors of 10000, and to mine the negatives of 2000 anchors in 22000 images.

The twin of the anchors keeps every similarity column and sorts all of them again each round, as the reference does.
Both run whole; the twin's rows hold 512 values as well.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.shared.result import Result
from gloam.training.embedders.tuples.diverse_anchors import WINDOW, diverse_anchors, rank_window
from gloam.training.embedders.tuples.hard_negatives import hard_negatives

ITEMS, ANCHORS, POOL, DIMENSION, NEGATIVES = 10_000, 2_000, 22_000, 512, 5
CLUSTERS = (700, 5_000)  # 700 is about Retrieval-SfM's number of 3D models
SECONDS, RATIO, NEGATIVE_SECONDS = 4.0, 15.0, 2.0
REPEATS = 3

Descriptors = npt.NDArray[np.float32]


def unit(items: int, seed: int) -> Descriptors:
    """Random unit rows around some centres, so that similarities spread as those of places do."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(500, DIMENSION))[random.integers(500, size=items)]
    rows += random.normal(size=rows.shape)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def resorting(descriptors: Descriptors, count: int, random: np.random.Generator) -> list[int]:
    """One more column each round, the maximum over all columns, a full sort, a draw from the window."""
    chosen = [0]
    columns = descriptors @ descriptors[:1].T
    for step in range(1, count):
        order = np.argsort(columns.max(axis=1), kind="stable")
        first, last = rank_window(len(descriptors) - step, WINDOW, len(descriptors))
        chosen.append(int(order[random.integers(first, last)]))
        columns = np.concatenate([columns, descriptors @ descriptors[chosen[-1:]].T], axis=1)
    return chosen


def nearest_neighbour(descriptors: Descriptors, chosen: npt.ArrayLike) -> float:
    """Mean similarity of each chosen item to the most similar other one."""
    rows = descriptors[np.asarray(chosen)]
    similarity = rows @ rows.T
    np.fill_diagonal(similarity, -1)
    return float(similarity.max(axis=1).mean())


def run() -> Result:
    """Time both, whole."""
    pool = unit(ITEMS, 0)
    times = []
    for repeat in range(REPEATS):
        began = time.perf_counter()
        chosen = diverse_anchors(pool, ANCHORS, np.random.default_rng(repeat))
        times.append(time.perf_counter() - began)
    seconds = float(np.median(times))
    began = time.perf_counter()
    plain = resorting(pool, ANCHORS, np.random.default_rng(0))
    plain_seconds = time.perf_counter() - began
    images = unit(POOL, 1)
    negatives: dict[str, Any] = {}
    for clusters in CLUSTERS:
        labels = np.random.default_rng(2).integers(clusters, size=POOL)
        anchors = np.random.default_rng(3).permutation(POOL)[:ANCHORS]
        rows = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            found = hard_negatives(images[anchors], labels[anchors], images, labels, NEGATIVES)
            rows.append(time.perf_counter() - began)
        assert (labels[found] != labels[anchors][:, None]).all()
        negatives[f"{clusters} clusters"] = float(np.median(rows))
    began = time.perf_counter()
    images[anchors] @ images.T
    product = time.perf_counter() - began
    worst = max(negatives.values())
    random_choice = np.random.default_rng(4).permutation(ITEMS)[:ANCHORS]
    met = seconds < SECONDS and plain_seconds >= RATIO * seconds and worst < NEGATIVE_SECONDS
    detail: dict[str, Any] = {
        "diverse anchors": {
            "seconds": times,
            "re-sorting twin, seconds": plain_seconds,
            "twin over ours": plain_seconds / seconds,
            "mean similarity to the nearest chosen": {
                "ours": nearest_neighbour(pool, chosen),
                "twin": nearest_neighbour(pool, plain),
                "random": nearest_neighbour(pool, random_choice),
            },
        },
        "hard negatives, seconds": negatives,
        "the matrix product alone, seconds": product,
        "sizes": {
            "anchors": f"{ANCHORS} of {ITEMS} x {DIMENSION}",
            "negatives": f"{NEGATIVES} each in {POOL} x {DIMENSION}",
        },
    }
    target = f"< {SECONDS:g} s, twin >= {RATIO:g} times, negatives < {NEGATIVE_SECONDS:g} s"
    return Result(seconds, "s", target, met, detail)
