"""Compact indexes: codes of a few hundred directions in memory, the exact vectors in the store on disk.

Candidates are found by FAISS's int8 scalar codes or RaBitQ (1, 2 or 4 bits a value) of projected descriptors, and
re-ranked by their own vectors. FAISS's PCA keeps all its eigenvectors, hundreds of megabytes for descriptors of 8448
values, and subtracts the mean, which changes the order of inner products; here the projection is the strongest
directions of the descriptors as they are, and nothing else is kept.

Recall is predicted before anything is built. The exact neighbours of queries from the store are found in one pass; the
rank of a neighbour by the codes is estimated as ``1 + n / m`` times the vectors, of a sample of m, that are scored
above it. It is among c candidates where that rank is at most c.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.errors import DataError, UsageError
from gloam.runtime.descriptors.source import DescriptorSource, finite_blocks
from gloam.runtime.search.index.card import ENDS
from gloam.runtime.search.index.choice import SMALLEST_TRAINING, IndexPlan, in_words
from gloam.runtime.search.index.recall import NEIGHBOURS, QUERIES, RERANKS, select

COMPACT = {
    "compact": ("SQ8", "RaBitQ4", "RaBitQ2", "RaBitQ"),
    "sq8": ("SQ8",),
    "rabitq": ("RaBitQ4", "RaBitQ2", "RaBitQ"),
}
DIRECTIONS = (1024, 768, 512, 384, 256, 192, 128, 96, 64, 48, 32)
LEARNED, SCORED, BLOCK = 8192, 32768, 4096  # vectors: to learn from, to predict the recall with, in memory at a time
SPARE, ROUNDS = 16, 3  # directions beside those wanted, and passes, of subspace iteration

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CompactPlan(IndexPlan):
    """A compact index that was chosen.

    Attributes:
        recall: predicted, of the 10 nearest, with so many candidates.
        rerank: candidates per result whose vectors are read.
    """

    recall: float = 0.0
    rerank: int = 1


def compact_factory(code: str, directions: int, dimension: int) -> str:
    """FAISS's factory string; RaBitQ's bits need directions of like strength, so they are rotated at random (PCAR)."""
    if directions == dimension:
        return code
    return f"PCA{'R' if code.startswith('RaBitQ') else ''}{directions},{code}"


def compact_bytes(faiss: ModuleType, code: str, directions: int, count: int, dimension: int) -> int:
    """Bytes of the codes, the projection, and what the codes are measured by (two values a direction); not of the
    names, see :func:`names_bytes`."""
    inner = faiss.index_factory(directions, code, faiss.METRIC_INNER_PRODUCT)
    projection = 4 * directions * dimension if directions < dimension else 0
    return count * int(inner.sa_code_size()) + projection + 8 * directions


def names_bytes(names: Sequence[str]) -> int:
    """Bytes of the images' names in an opened index."""
    return sum(len(name.encode()) for name in names) + (1 + ENDS) * len(names)


def principal(sample: Matrix, directions: int, seed: int = 0) -> Matrix:
    """The strongest directions of descriptors, not centred: orthonormal rows ``[d, D]``, the strongest first.

    Subspace iteration (Halko, Martinsson and Tropp 2011), for an exact decomposition of thousands of values takes
    minutes.
    """
    if not 1 <= directions <= sample.shape[1]:
        raise UsageError(f"descriptors of {sample.shape[1]} values have no {directions} directions to keep")
    width = min(directions + SPARE, *sample.shape)
    if width < directions:
        raise DataError(f"{len(sample)} descriptors span fewer than the {directions} directions that are asked for")
    basis = np.random.default_rng(seed).normal(size=(sample.shape[1], width)).astype(np.float32)
    for _ in range(ROUNDS):
        basis = np.linalg.qr(sample.T @ (sample @ np.linalg.qr(basis)[0]))[0]
    rows = np.linalg.svd(sample @ basis, full_matrices=False)[2] @ basis.T
    return np.ascontiguousarray(rows[:directions], np.float32)


def fitted(faiss: ModuleType, factory: str, sample: Matrix, seed: int, rows: Matrix | None = None) -> Any:
    """A trained index of a factory string that may begin with PCA or PCAR, with a plain projection instead.

    Args:
        faiss: the module.
        factory: of FAISS.
        sample: ``[m, D]`` to learn from.
        seed: of the rotation and of the directions.
        rows: :func:`principal` of the sample, at least as many as needed, where they are known.

    Raises:
        UsageError: more directions than the descriptors have values.
        DataError: too few descriptors.
    """
    parts = re.fullmatch(r"PCA(R?)(\d+),(.+)", factory)
    if parts is None:
        index = faiss.index_factory(sample.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        index.train(sample)
        return index
    directions = int(parts[2])
    rows = principal(sample, directions, seed) if rows is None else rows[:directions]
    if parts[1]:
        turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(directions, directions)))[0]
        rows = np.ascontiguousarray(turn.astype(np.float32) @ rows)
    inner = faiss.index_factory(directions, parts[3], faiss.METRIC_INNER_PRODUCT)
    inner.train(np.ascontiguousarray(sample @ rows.T))
    projection = faiss.LinearTransform(sample.shape[1], directions, False)
    faiss.copy_array_to_vector(rows.ravel(), projection.A)
    projection.is_trained = True
    index = faiss.IndexPreTransform(projection, inner)
    index.referenced_objects = [projection, inner]  # which C++ alone would not keep
    return index


def plan_compact(
    faiss: ModuleType,
    store: DescriptorSource,
    *,
    kind: str = "compact",
    memory: int | None = None,
    recall: float = 0.95,
    seed: int = 0,
    sample: PlanSample | None = None,
) -> CompactPlan:
    """Choose codes and directions by predicted recall.

    Args:
        faiss: the module.
        store: to index.
        kind: of :data:`COMPACT`.
        memory: bytes that the index may take, its names among them; None for no limit.
        recall: of the 10 nearest. Of the plans that reach it, the one that reads fewest candidates is taken, then the
            smallest; where none does, the one of the best recall.
        seed: of the draws.
        sample: of the store, where it is known; :meth:`PlanSample.of` makes it.

    Raises:
        UsageError: nothing fits, or the sample has fewer directions than what fits.
        DataError: too few vectors.
    """
    count, dimension = len(store.names), store.dimension
    if count < SMALLEST_TRAINING:
        raise DataError(
            f"{count} vectors are too few to choose a compact index by, {SMALLEST_TRAINING} are needed; use --kind flat"
        )
    budget = math.inf if memory is None else memory
    widths = [width for width in (dimension, *DIRECTIONS) if width <= min(dimension, DIRECTIONS[0])]
    names = names_bytes(store.names)
    sizes = {
        (code, width): names + compact_bytes(faiss, code, width, count, dimension)
        for code in COMPACT[kind]
        for width in sorted(set(widths))
    }
    fitting = {code: width for (code, width), size in sizes.items() if size <= budget}  # the widest of each
    if not fitting:
        needed, size = min(sizes.items(), key=lambda item: item[1])
        raise UsageError(
            f"a budget of {in_words(int(budget))} is too small for {count} vectors of {dimension} values: "
            f"{compact_factory(*needed, dimension)}, the smallest index of kind {kind}, needs {in_words(size)}; "
            "raise --memory"
        )
    if sample is None:
        sample = PlanSample.of(store, max(fitting.values()), seed)
    elif sample.directions < max(fitting.values()):
        raise UsageError(
            f"a sample of {sample.directions} directions, {max(fitting.values())} are needed; draw another"
        )
    plans = []
    for code, width in fitting.items():
        shares = sample.recalls(faiss, code, width, seed)
        reached = [factor for factor in RERANKS if shares[factor] >= recall]
        rerank = reached[0] if reached else RERANKS[-1]
        reason = (
            f"predicted recall@{NEIGHBOURS} {shares[rerank]:.3f} with {rerank} candidates a result re-ranked from the "
            f"store on disk"
        )
        factory, size = compact_factory(code, width, dimension), sizes[code, width]
        plans.append(CompactPlan(factory, size, reason, shares[rerank], rerank))
    if enough := [plan for plan in plans if plan.recall >= recall]:
        return min(enough, key=lambda plan: (plan.rerank, plan.nbytes))
    return max(plans, key=lambda plan: plan.recall)


@dataclass(frozen=True, eq=False)
class PlanSample:
    """What a prediction needs, all projected to the strongest directions.

    Attributes:
        learned, scored, queries, nearest: ``[m, d]`` to learn from and to compare with, the queries ``[q, d]``, and
            their exact neighbours ``[q, k, d]``.
        share: n / m of the vectors to compare with.
    """

    learned: Matrix
    scored: Matrix
    queries: Matrix
    nearest: Matrix
    share: float
    _known: dict[tuple[str, int, int], dict[int, float]] = field(default_factory=dict, repr=False)

    @property
    def directions(self) -> int:
        """d."""
        return int(self.scored.shape[1])

    @classmethod
    def of(cls, store: DescriptorSource, directions: int, seed: int) -> PlanSample:
        """One pass over a store; what is drawn from it and the neighbours that were found are read beside it.

        Args:
            store: to index.
            directions: the most that a plan may keep, at most 1024 or as many as the store's descriptors have values.
            seed: of the draws.
        """
        count = len(store.names)
        asked = min(QUERIES, count // 4)
        learn = min(LEARNED, max(directions + SPARE, count // 3), count - asked)
        places = np.random.default_rng(seed + 2).permutation(count)
        query_rows, learn_rows = np.sort(places[:asked]), np.sort(places[asked : asked + learn])
        rest = places[asked + learn :] if count - asked - learn >= learn else places[asked:]
        score_rows = np.sort(rest[:SCORED])
        first = select(store, np.sort(np.concatenate([query_rows, learn_rows])))
        is_query = np.isin(np.sort(np.concatenate([query_rows, learn_rows])), query_rows)
        queries, learned = first[is_query], first[~is_query]
        rows = np.eye(store.dimension, dtype=np.float32)
        if directions < store.dimension:
            rows = principal(learned, directions, seed)
        scored = np.empty((len(score_rows), len(rows)), np.float32)
        best = np.full((asked, NEIGHBOURS), -np.inf, np.float32)
        near = np.full((asked, NEIGHBOURS), -1, np.int64)
        start = 0
        for names, block in finite_blocks(store, BLOCK):
            tile = queries @ block.T
            inside = np.flatnonzero((query_rows >= start) & (query_rows < start + len(names)))
            tile[inside, query_rows[inside] - start] = -np.inf
            both = np.concatenate([best, tile], axis=1)
            labels = np.concatenate([near, np.tile(np.arange(start, start + len(names)), (asked, 1))], axis=1)
            kept = np.argpartition(both, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS:]
            best, near = np.take_along_axis(both, kept, axis=1), np.take_along_axis(labels, kept, axis=1)
            low, high = np.searchsorted(score_rows, [start, start + len(names)])
            scored[low:high] = block[score_rows[low:high] - start] @ rows.T
            start += len(names)
        unique, back = np.unique(near, return_inverse=True)
        nearest = (select(store, unique) @ rows.T)[back.reshape(near.shape)]
        return cls(learned @ rows.T, scored, queries @ rows.T, nearest, count / len(score_rows))

    def recalls(self, faiss: ModuleType, code: str, width: int, seed: int) -> dict[int, float]:
        """Predicted recall by candidates per result; what was asked for once is known."""
        if (code, width, seed) not in self._known:
            self._known[code, width, seed] = self._recalls(faiss, code, width, seed)
        return self._known[code, width, seed]

    def _recalls(self, faiss: ModuleType, code: str, width: int, seed: int) -> dict[int, float]:
        turn = np.eye(width, dtype=np.float32)
        if width < self.scored.shape[1] or code.startswith("RaBitQ"):
            turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(width, width)))[0].astype(np.float32)
        learned, scored, queries, nearest = (
            np.ascontiguousarray(part[..., :width] @ turn.T)
            for part in (self.learned, self.scored, self.queries, self.nearest)
        )
        index = faiss.index_factory(width, code, faiss.METRIC_INNER_PRODUCT)
        index.train(learned)
        index.add(scored)
        others = np.sort(index.search(queries, len(scored))[0], axis=1)
        index.reset()
        flat = nearest.reshape(-1, width)
        index.add(flat)
        own, labels = index.search(queries, len(flat))
        by_label = np.empty_like(own)
        np.put_along_axis(by_label, labels, own, axis=1)
        ranks = np.empty(nearest.shape[:2])
        for row in range(len(queries)):
            scores = by_label[row, row * NEIGHBOURS : (row + 1) * NEIGHBOURS]
            ranks[row] = 1 + self.share * (len(scored) - np.searchsorted(others[row], scores, side="right"))
        return {factor: float((ranks <= (NEIGHBOURS + 1) * factor - 1).mean()) for factor in RERANKS}
