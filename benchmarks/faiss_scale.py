"""1000 queries, the 100 best of 100 000 descriptors of 512 values: a full sort in numpy against gloam's exact search.

The control is the usual ``dot`` followed by an ``argsort`` of every score, all queries at once; the same with
contiguous rows and with ``argpartition`` stands beside it. Approximate indexes, chosen and tuned as ``gloam index``
does, are shown with their recall against the exact ten. Every method is timed in every round, each round in another
order: threads that wait for more work slow down whatever comes next.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from benchmarks.shared.result import Result
from gloam.runtime.descriptors.source import DescriptorArray
from gloam.runtime.search.index import DescriptorIndex, build_index, plan_index

IMAGES, QUERIES, DIMENSION, NEIGHBOURS = 100_000, 1000, 512, 100
ROUNDS = 7
RATIO = 10.0
CLUSTER, RANK = 60, 64  # images of one place; a place and its views differ along few directions
VIEWS, NOISE = 0.6, 0.15  # of a view within its place along those, and in every direction
KINDS = ("flat", "ivfpq", "hnsw")
PRODUCT = "numpy dot alone, nothing found"

Descriptors = npt.NDArray[np.float32]


def places(images: int, queries: int) -> tuple[Descriptors, Descriptors]:
    """Unit vectors ``[images, D]`` in clusters, and unseen members of the same clusters ``[queries, D]``."""
    random = np.random.default_rng(0)
    basis = random.standard_normal((2 * RANK, DIMENSION), np.float32) / np.sqrt(2 * RANK, dtype=np.float32)
    clusters = -(-images // CLUSTER)
    centres = random.standard_normal((clusters, RANK), np.float32)

    def views(members: npt.NDArray[np.int64]) -> Descriptors:
        offsets = VIEWS * random.standard_normal((len(members), RANK), np.float32)
        rows = np.concatenate([centres[members], offsets], axis=1) @ basis
        rows += NOISE * random.standard_normal(rows.shape, np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    return views(random.permutation(images) % clusters), views(random.integers(clusters, size=queries))


def by_columns(images: Descriptors, queries: Descriptors) -> npt.NDArray[np.int64]:
    """Scores ``[images, queries]``, every column sorted."""
    scores = np.dot(images, queries.T)
    return np.argsort(-scores, axis=0)[:NEIGHBOURS].T.copy()  # not a view of every rank


def product_alone(images: Descriptors, queries: Descriptors) -> npt.NDArray[np.int64]:
    """The scores and no order: what no exact search in float32 can be much quicker than."""
    np.dot(queries, images.T)
    return np.zeros((len(queries), NEIGHBOURS), np.int64)


def by_rows(images: Descriptors, queries: Descriptors) -> npt.NDArray[np.int64]:
    """Scores ``[queries, images]``, every row sorted."""
    scores = np.dot(queries, images.T)
    return np.argsort(-scores, axis=1)[:, :NEIGHBOURS].copy()


def by_partition(images: Descriptors, queries: Descriptors) -> npt.NDArray[np.int64]:
    """The best of every row, and only these sorted."""
    scores = np.dot(queries, images.T)
    best = np.argpartition(-scores, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    return np.take_along_axis(best, np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1), axis=1)


def shared(found: npt.NDArray[np.int64], exact: npt.NDArray[np.int64], k: int) -> float:
    """Share of the exact k that are among the k found."""
    rows = zip(found[:, :k].tolist(), exact[:, :k].tolist(), strict=True)
    return float(np.mean([len(set(a) & set(b)) / k for a, b in rows]))


def run(images: int = IMAGES, queries: int = QUERIES, rounds: int = ROUNDS) -> Result:
    """Build the indexes, time every method in turn, compare what they found."""
    database, asked = places(images, queries)
    source = DescriptorArray([str(row) for row in range(images)], database, space="places")
    control = "numpy dot + argsort(axis=0)"
    methods: dict[str, Callable[[], Any]] = {
        control: lambda: by_columns(database, asked),
        "numpy dot + argsort(axis=1)": lambda: by_rows(database, asked),
        "numpy dot + argpartition": lambda: by_partition(database, asked),
        PRODUCT: lambda: product_alone(database, asked),
    }
    rows: dict[str, dict[str, Any]] = {name: {} for name in methods}
    ours: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="gloam-faiss-") as temporary:
        for kind in KINDS:
            plan = plan_index(images, DIMENSION, kind=kind)
            began = time.perf_counter()
            card = build_index(source, Path(temporary) / kind, plan.factory)
            built = time.perf_counter() - began
            index = DescriptorIndex.open(Path(temporary) / kind)
            ours[kind] = name = f"gloam {plan.factory}"
            rows[name] = {
                "build_seconds_with_recall": built,
                "bytes": sum(card.sizes[file] for file in card.files),
                "bytes_estimated": plan.nbytes,
                "settings": card.search,
                "recall_in_the_card": card.recall,
            }
            methods[name] = lambda index=index: index.search(asked, NEIGHBOURS, space="places")[0]
    times: dict[str, list[float]] = {name: [] for name in methods}
    found: dict[str, Any] = {}
    order = np.random.default_rng(0)
    for _ in range(rounds):
        for name in order.permutation(list(methods)).tolist():
            began = time.perf_counter()
            found[name] = methods[name]()
            times[name].append(time.perf_counter() - began)
    exact = found[control]
    medians = {name: float(np.median(values)) for name, values in times.items()}
    for name, row in rows.items():
        answer = np.array([[int(image or -1) for image in names] for names in found[name]], np.int64)
        row |= {"seconds": medians[name], "every_round": times[name]}
        row |= {"control_over_this": medians[control] / medians[name]}
        if name != PRODUCT:
            row |= {f"recall@{k}": shared(answer, exact, k) for k in (1, 10, NEIGHBOURS)}
    flat = rows[ours["flat"]]
    ratio = flat["control_over_this"]
    same = min(flat[f"recall@{k}"] for k in (1, 10, NEIGHBOURS)) > 0.999  # float32 may swap near-equal scores
    detail = {
        "rows": rows,
        "judged": f"median seconds of {control} over those of {ours['flat']}, {rounds} rounds, each in another order",
        "the exact search finds what the full sort finds": same,
        "sizes": f"{queries} queries, the {NEIGHBOURS} best of {images} x {DIMENSION}, whole in every method and round",
        "data": f"{-(-images // CLUSTER)} clusters of about {CLUSTER}; places and views of rank {RANK}, and noise",
        "threads": {"faiss": faiss.omp_get_max_threads(), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS")},
    }
    return Result(ratio, "ratio", f">= {RATIO:g}", ratio >= RATIO and same, detail)
