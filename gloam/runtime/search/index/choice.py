"""Which index serves how many vectors in how much memory.

Below 200 000 vectors an exact search is quick. Above, an inverted file of 4-bit product-quantized codes (fast-scan)
finds candidates that are re-ranked by their vectors, in float32 or half precision, or not at all where the budget is
too small. autofaiss makes such choices too, but 2.18 needs NumPy below 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gloam.errors import DataError, UsageError

KINDS = ("auto", "flat", "ivfpq", "hnsw")
FLAT_BELOW = 200_000
HNSW_LINKS = 32
PER_CELL = (39, 256)  # vectors that k-means needs and can use for a cell: FAISS warns below, and leaves out above
TRAINING = 100_000  # vectors that an index learns from where the cells do not ask for more
SMALLEST_TRAINING = 16 * PER_CELL[0]  # a 4-bit quantizer has 16 centroids


@dataclass(frozen=True)
class IndexPlan:
    """What was chosen.

    Attributes:
        factory: FAISS's factory string.
        nbytes: estimate of its memory while it is searched.
        reason: for the reader.
    """

    factory: str
    nbytes: int
    reason: str

    def __str__(self) -> str:
        return f"{self.factory}, about {in_words(self.nbytes)} when searched ({self.reason})"


def plan_index(count: int, dimension: int, *, kind: str = "auto", memory: int | None = None) -> IndexPlan:
    """Choose an index.

    Args:
        count, dimension: number of vectors and of their values.
        kind: one of :data:`KINDS`. ``auto`` is exact below 200 000 vectors where that fits, else ``ivfpq``.
        memory: bytes that the index may take while it is searched; None for no limit. Training needs memory for its
            sample beside it.

    Raises:
        UsageError: unknown kind, a budget that nothing of this kind fits, or no divisor for a product quantizer.
        DataError: too few vectors to train ``ivfpq``.
    """
    if kind not in KINDS:
        raise UsageError(f"unknown kind of index {kind!r}; choose {', '.join(KINDS)}")
    if memory is not None and memory < 1:
        raise UsageError(f"--memory {memory} must be at least 1 byte")
    budget = math.inf if memory is None else memory
    flat = flat_bytes(count, dimension)
    if kind == "hnsw":
        plans = [IndexPlan(f"HNSW{HNSW_LINKS}", hnsw_bytes(count, dimension), "asked for")]
    elif kind == "flat":
        plans = [IndexPlan("Flat", flat, "asked for")]
    elif kind == "auto" and (count < SMALLEST_TRAINING or (count < FLAT_BELOW and flat <= budget)):
        plans = [IndexPlan("Flat", flat, f"exact, right below {FLAT_BELOW} vectors")]
    else:
        plans = _inverted_files(count, dimension)
    for plan in plans:
        if plan.nbytes <= budget:
            return plan
    needed = plans[-1]
    raise UsageError(
        f"a budget of {in_words(int(budget))} is too small for {count} vectors of {dimension} values: "
        f"{needed.factory}, the smallest index of kind {kind}, needs {in_words(needed.nbytes)}; raise --memory"
    )


def _inverted_files(count: int, dimension: int) -> list[IndexPlan]:
    """From the most to the least exact."""
    if count < SMALLEST_TRAINING:
        raise DataError(
            f"{count} vectors are too few to train an inverted file, which needs {SMALLEST_TRAINING}; use --kind flat"
        )
    cells, parts = cells_for(count), subquantizers(dimension)
    codes = f"IVF{cells},PQ{parts}x4fs"
    endings = {",RFlat": (4, "float32"), ",Refine(SQfp16)": (2, "half precision"), "": (0, "")}
    return [
        IndexPlan(
            codes + ending,
            ivfpq_bytes(count, dimension, cells, parts, width),
            f"fast-scan codes, re-ranked in {words}" if words else "fast-scan codes alone, nothing larger fits",
        )
        for ending, (width, words) in endings.items()
    ]


def cells_for(count: int) -> int:
    """Cells of an inverted file: the power of two nearest to 4 sqrt(n), less where there are under 39 vectors each."""
    wanted = round(math.log2(4 * math.sqrt(count)))
    trainable = math.floor(math.log2(count / PER_CELL[0]))
    return int(2 ** max(0, min(wanted, trainable)))


def subquantizers(dimension: int) -> int:
    """Parts of the product quantizer: 4 values each, else 2, else the smallest prime up to 7 that divides.

    Raises:
        UsageError: there is none.
    """
    for values in (4, 2, 3, 5, 7):
        if dimension % values == 0:
            return dimension // values
    raise UsageError(f"no product quantizer divides {dimension} values evenly; use --kind flat or hnsw")


def training_size(count: int, cells: int | None, asked: int | None = None) -> int:
    """Vectors to train with.

    Args:
        count: vectors there are.
        cells: of the inverted file, if it is one: 39 to 256 vectors each.
        asked: the user's number; FAISS itself would leave out what is beyond 256 per cell.
    """
    few, many = (1, count) if cells is None else (PER_CELL[0] * cells, PER_CELL[1] * cells)
    size = max(few, TRAINING) if asked is None else asked
    return max(1, min(size, many, count))


def flat_bytes(count: int, dimension: int) -> int:
    """Bytes of the vectors themselves, float32."""
    return 4 * count * dimension


def hnsw_bytes(count: int, dimension: int, links: int = HNSW_LINKS) -> int:
    """Bytes of the vectors and their graph.

    A vector has 2 x ``links`` neighbours on the ground level and ``links`` on each above, where it is with probability
    ``1 / links`` of the level below; a neighbour takes 4 bytes, the vector's place in the lists 8 and its level 4.
    """
    neighbours = 2 * links + links / (links - 1)
    return flat_bytes(count, dimension) + math.ceil(count * (4 * neighbours + 8 + 4))


def ivfpq_bytes(count: int, dimension: int, cells: int, parts: int, width: int = 0) -> int:
    """Bytes of an inverted file of fast-scan codes.

    Args:
        count, dimension, cells: of the index.
        parts: 4-bit codes of a vector, stored in blocks of 32 vectors; half a block of each cell is empty on average.
        width: bytes of each value of the vectors kept for re-ranking: 4, 2 or 0.
    """
    code = (parts + 1) // 2
    codes = (count + 16 * cells) * code + 8 * count  # and a 64-bit number each
    tables = 4 * dimension * (cells + 16)  # centroids of the cells and of the quantizer
    return codes + tables + width * count * dimension


def in_words(nbytes: int) -> str:
    """Bytes for the reader, decimal units."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if nbytes >= size:
            return f"{nbytes / size:.3g} {unit}"
    return f"{nbytes} bytes"
