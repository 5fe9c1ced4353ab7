"""Whitening learned from descriptors: Lw from matching pairs, PCA from descriptors alone; float64 throughout.

Where no more directions are asked for than there are descriptors, and these are fewer than their values (NetVLAD's
32,768), all is done in the space that they span, by the eigenvectors of their n x n products: the same numbers, without
a matrix of D x D.

Lw (Radenović et al. 2019, section 3.3, after Mikolajczyk and Matas 2007): the covariance of matching pairs' differences
is whitened first, then the directions are ordered by the variance of all descriptors in that space. Descriptors of
all scales of the deployed model must be learned from, so they come from a store or from the model itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gloam.data.pairs import read_pairs
from gloam.data.retrieval_sets.sets import read_retrieval_set
from gloam.errors import DataError, UsageError
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.descriptors.whitening import SUFFIXES, Whitening, WrittenWhitening

Descriptors = npt.NDArray[np.floating]
Matrix = npt.NDArray[np.float64]
BLOCK_ROWS = 4096
FIRST_RIDGE = 1e-10  # tried after 0, then ten times as much until the matrix is positive definite
LARGEST_RIDGE = 1.0


@dataclass(frozen=True)
class WhiteningRequest:
    """What to learn a whitening from.

    Attributes:
        store: folder of descriptors, of the model, scales and normalisation that it will be used with.
        output: ``.npz`` or ``.safetensors`` file to write.
        kind: ``lw``, from matching pairs, or ``pca``, without them.
        pairs: for lw: a ``set.json``, or a list of pairs, as :func:`~gloam.data.pairs.read_pairs` takes.
        set: part of a ``set.json``, such as ``train``.
        dimension: values to keep; all by default.
        shrinkage: for pca: index of the eigenvalue to shrink towards.
        trust: see :meth:`gloam.runtime.descriptors.store.DescriptorStore.open`.

    Raises:
        UsageError: options that do not go together.
    """

    store: Path
    output: Path
    kind: Literal["lw", "pca"] = "lw"
    pairs: Path | None = None
    set: str | None = None
    dimension: int | None = None
    shrinkage: int | None = None
    trust: bool = False

    def __post_init__(self) -> None:
        if self.kind == "lw" and self.pairs is None:
            raise UsageError("lw is learned from matching pairs; give --pairs FILE, or --kind pca")
        if self.kind == "pca" and self.pairs is not None:
            raise UsageError("pca takes no pairs; drop --pairs, or choose --kind lw")
        if self.kind == "lw" and self.shrinkage is not None:
            raise UsageError("lw takes no shrinkage; drop --shrinkage, or choose --kind pca")
        if self.output.suffix not in SUFFIXES:
            raise UsageError(f"{self.output}: a whitening file ends in {' or '.join(SUFFIXES)}")


@dataclass(frozen=True)
class LearnedWhitening(WrittenWhitening):
    """A whitening from a store."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        found = self.whitening
        learned = {key: value for key, value in found.provenance.items() if key in ("images", "pairs", "space")}
        return {**super().to_dict(), "kind": found.name, **learned}

    def __str__(self) -> str:
        """A line for people."""
        found, said = self.whitening, self.whitening.provenance
        learned = f"{said['images']} images" + (f" and {said['pairs']} pairs" if "pairs" in said else "")
        return f"{self.path}: {found.name} from {found.input_dimension} to {found.dimension} values, from {learned}"


def learn_whitening(request: WhiteningRequest) -> LearnedWhitening:
    """Learn from a store, and write.

    Raises:
        StoreError: no such store, or not writable.
        DataError: pairs that cannot be read, that the store lacks, or descriptors that cannot be learned from.
        UsageError: a dimension or shrinkage outside 1..D, or more memory than the machine has.
    """
    store = DescriptorStore.open(request.store, trust=request.trust)
    expect_memory(len(store), store.dimension, request.dimension, request.shrinkage is not None, machine_memory())
    descriptors = store.load()
    if request.pairs is not None:
        queries, positives = _rows(request.pairs, request.set, store.names)
        whitening = learn_lw(descriptors, queries, positives, request.dimension)
    else:
        whitening = learn_pca(descriptors, request.dimension, shrinkage=request.shrinkage)
    whitening = whitening.said({"space": store.space})
    return LearnedWhitening(whitening.save(request.output), whitening)


def machine_memory() -> int:
    """Of this machine, bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def expect_memory(images: int, columns: int, dimension: int | None, shrunk: bool, memory: int) -> int:
    """What learning takes, bytes; about.

    Args:
        images, columns: n and D of the descriptors.
        dimension: directions to keep; None for all.
        shrunk: whether eigenvalues are shrunk, which asks for all of them.
        memory: of the machine, bytes.

    Raises:
        UsageError: it is more than that.
    """
    spanned = _spanned(images, columns, dimension) and not shrunk
    needed = 8 * (2 * images * columns + 4 * images**2 if spanned else 6 * columns**2)
    if needed > memory:
        fewer = f"give --dimension {images - 1} or less without --shrinkage, or " if images < columns else ""
        raise UsageError(
            f"whitening: {images} descriptors of {columns} values take some {needed / 2**30:.0f} GiB of memory, and "
            f"this machine has {memory / 2**30:.0f}; {fewer}learn on a larger one"
        )
    return needed


def _rows(path: Path, set_name: str | None, names: Sequence[str]) -> tuple[list[int], list[int]]:
    """Rows of the store for the pairs of a file; pairs of images that the store lacks are an error."""
    if path.suffix == ".json":
        found = read_retrieval_set("json", path=path, **({"set_name": set_name} if set_name else {}))
        said = found.names
        wanted = [(said[q], said[p]) for q, p in zip(found.queries, found.positives, strict=True)]
    else:
        wanted = [(pair.query, pair.mapping) for pair in read_pairs(path)]
    row_of = {name: row for row, name in enumerate(names)}
    missing = sorted({name for pair in wanted for name in pair if name not in row_of})
    if missing:
        raise DataError(
            f"{path}: {len(missing)} images of its pairs have no descriptor in the store (the first is {missing[0]}); "
            "extract them, or check that names are relative to the same folder"
        )
    return [row_of[first] for first, _ in wanted], [row_of[second] for _, second in wanted]


def learn_lw(
    descriptors: Descriptors,  # [n, D]
    queries: npt.ArrayLike,  # [q]
    positives: npt.ArrayLike,  # [q]
    dimension: int | None = None,
) -> Whitening:
    """Whitening that shrinks the directions in which images of one place differ.

    With m the mean over the queries and S the mean of ``(x_q - x_p)(x_q - x_p)^T``, ``L = cholesky(S + a I)`` (a = 0
    where that works), V the eigenvectors of ``L^-1 (X - m)(X - m)^T L^-T`` by falling eigenvalue: ``P = V^T L^-1``.

    Args:
        descriptors: unit descriptors, float ``[n, D]``.
        queries, positives: rows of matching pairs; pairs of an image with itself say nothing and are left out.
        dimension: rows to keep; all by default.

    Raises:
        DataError: no pairs, rows out of range, or a descriptor that is not finite.
        UsageError: a dimension outside 1..D.
    """
    x = _checked(descriptors, dimension)
    q, p = (np.asarray(rows, np.int64).reshape(-1) for rows in (queries, positives))
    if len(q) != len(p):
        raise DataError(f"whitening: {len(q)} queries and {len(p)} positives; pairs need one of each")
    for name, rows in (("query", q), ("positive", p)):
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(x):
            raise DataError(f"whitening: a {name} row is outside 0..{len(x) - 1}; the pairs are of another set")
    apart = q != p
    q, p = q[apart], p[apart]
    if not len(q):
        raise DataError("whitening: no pairs of different images; Lw needs some, PCA (--kind pca) none")
    mean = np.zeros(x.shape[1])
    for start in range(0, len(q), BLOCK_ROWS):
        mean += x[q[start : start + BLOCK_ROWS]].astype(np.float64).sum(axis=0)
    mean /= len(q)
    basis = None
    if _spanned(len(x), x.shape[1], dimension):
        basis = _span(x, mean)[1]
        x = np.concatenate([block @ basis for block in _blocks(x, mean)])
    centre = mean if basis is None else np.zeros(x.shape[1])
    columns = x.shape[1]
    spread, scatter = np.zeros((columns, columns)), np.zeros((columns, columns))
    for start in range(0, len(q), BLOCK_ROWS):
        difference = x[q[start : start + BLOCK_ROWS]].astype(np.float64) - x[p[start : start + BLOCK_ROWS]]
        spread += difference.T @ difference
    # Of all D values the spread of fewer descriptors is never positive definite by itself.
    lower, ridge = _cholesky(spread / len(q), 0.0 if basis is None else FIRST_RIDGE)
    for block in _blocks(x, centre):
        scatter += block.T @ block
    inner = np.linalg.solve(lower, np.linalg.solve(lower, scatter).T)
    _, vectors = _eigh_descending(inner)
    kept = vectors[:, :dimension]
    if basis is not None and dimension is not None and kept.shape[1] < dimension:
        raise DataError(_too_few(len(x), kept.shape[1], dimension))
    projection: Matrix = np.linalg.solve(lower.T, kept).T.astype(np.float64)
    if basis is not None:
        projection = projection @ basis.T
    return Whitening(mean, projection, "lw", {"images": len(x), "pairs": len(q), "ridge": ridge})


def learn_pca(
    descriptors: Descriptors,  # [n, D]
    dimension: int | None = None,
    *,
    shrinkage: int | None = None,
    exponent: float = 1.0,
) -> Whitening:
    """PCA whitening: ``P = diag(e^(-exponent / 2)) V^T`` over the eigenvalues e and vectors V of the covariance.

    Args:
        descriptors: float ``[n, D]``.
        dimension: rows to keep; all by default.
        shrinkage: index k, from 1: with ``b = e[k - 1]`` every eigenvalue becomes ``(1 - b) e + b``, which keeps the
            weak directions from being blown up.
        exponent: 1 whitens fully, 0 only rotates (cirtorch's name for it is s).

    Raises:
        DataError: a descriptor is not finite, or directions to keep have no variance.
        UsageError: dimension or shrinkage outside 1..D, or a negative exponent.
    """
    x = _checked(descriptors, dimension)
    columns = x.shape[1]
    if shrinkage is not None and not 1 <= shrinkage <= columns:
        raise UsageError(f"whitening: shrinkage {shrinkage} is not an index of 1 to {columns} eigenvalues")
    if not exponent >= 0:
        raise UsageError(f"whitening: exponent {exponent} must not be negative")
    mean = np.zeros(columns)
    for block in _blocks(x, np.zeros(columns)):
        mean += block.sum(axis=0)
    mean /= len(x)
    if shrinkage is None and _spanned(len(x), x.shape[1], dimension):
        values, vectors = _span(x, mean)
    else:
        covariance = np.zeros((columns, columns))
        for block in _blocks(x, mean):
            covariance += block.T @ block
        values, vectors = _eigh_descending(covariance / len(x))
    values = np.maximum(values, 0.0)
    if shrinkage is not None:
        values = (1.0 - values[shrinkage - 1]) * values + values[shrinkage - 1]
    kept, directions = values[:dimension], vectors[:, :dimension]
    alive = kept > np.finfo(np.float64).eps * columns * max(values[0], np.finfo(np.float64).tiny)
    wanted = dimension or columns
    if exponent > 0 and alive.sum() < wanted:
        raise DataError(_too_few(len(x), int(alive.sum()), wanted))
    projection = (directions * kept ** (-exponent / 2.0) if exponent > 0 else directions).T
    return Whitening(mean, projection, "pca", {"images": len(x), "shrinkage": shrinkage, "exponent": exponent})


def _checked(descriptors: Descriptors, dimension: int | None) -> Descriptors:
    x = np.asarray(descriptors)
    if x.ndim != 2 or 0 in x.shape:
        raise DataError(f"whitening: needs descriptors [n, D], not of shape {list(x.shape)}")
    if dimension is not None and not 1 <= dimension <= x.shape[1]:
        raise UsageError(f"whitening: dimension {dimension} is not among 1 to {x.shape[1]}")
    for start in range(0, len(x), BLOCK_ROWS):
        finite = np.isfinite(x[start : start + BLOCK_ROWS]).all(axis=1)
        if not finite.all():
            raise DataError(f"whitening: descriptor {start + int(np.argmin(finite))} is not finite; extract it again")
    return x


def _spanned(images: int, columns: int, dimension: int | None) -> bool:
    """Whether the space that the descriptors span holds all that is asked for, and is the smaller one."""
    return images < columns and dimension is not None and dimension < images


def _span(x: Descriptors, mean: Matrix) -> tuple[Matrix, Matrix]:
    """Eigenvalues, falling, of the covariance ``(X - m)^T (X - m) / n`` that are not 0, and its eigenvectors as
    columns, ``[D, r]``, by those of ``(X - m) (X - m)^T / n``."""
    centred = np.concatenate(list(_blocks(x, mean)))
    values, inner = _eigh_descending(centred @ centred.T / len(x))
    alive = values > np.finfo(np.float64).eps * max(x.shape) * max(values[0], np.finfo(np.float64).tiny)
    vectors = centred.T @ (inner[:, alive] / np.sqrt(len(x) * values[alive]))
    return values[alive], _signed(vectors)


def _too_few(images: int, directions: int, wanted: int) -> str:
    return (
        f"whitening: {images} descriptors vary in {directions} directions only, {wanted} are asked for; lower the "
        "dimension, give a shrinkage, or learn from more images"
    )


def _blocks(x: Descriptors, mean: Matrix) -> Iterator[Matrix]:
    for start in range(0, len(x), BLOCK_ROWS):
        yield x[start : start + BLOCK_ROWS].astype(np.float64) - mean


def _cholesky(matrix: Matrix, ridge: float) -> tuple[Matrix, float]:
    """Lower factor of ``matrix + a I`` for the smallest a of 0, 1e-10, 1e-9, ... from ``ridge`` on with which it
    exists; and a."""
    while ridge <= LARGEST_RIDGE:
        try:
            lower: Matrix = np.linalg.cholesky(matrix + ridge * np.eye(len(matrix))).astype(np.float64)
            return lower, ridge
        except np.linalg.LinAlgError:
            ridge = ridge * 10 if ridge else FIRST_RIDGE
    raise DataError("whitening: the pairs' differences have no positive definite covariance; check the descriptors")


def _eigh_descending(matrix: Matrix) -> tuple[Matrix, Matrix]:
    """Eigenvalues, falling, and eigenvectors as columns, each with its largest component positive."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2.0)
    return values[::-1], _signed(vectors[:, ::-1])


def _signed(vectors: Matrix) -> Matrix:
    """Columns, each with its largest component positive."""
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    return vectors * np.where(largest < 0, -1.0, 1.0)
