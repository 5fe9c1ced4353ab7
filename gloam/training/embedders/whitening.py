"""Whitening learned from descriptors: Lw from matching pairs, PCA from descriptors alone; float64 throughout.

Lw (Radenović et al. 2019, section 3.3, after Mikolajczyk and Matas 2007): the covariance of matching pairs' differences
is whitened first, then the directions are ordered by the variance of all descriptors in that space. Descriptors of
all scales of the deployed model must be learned from, so they come from a store or from the model itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from gloam.errors import DataError, UsageError
from gloam.runtime.descriptors.whitening import Whitening

Descriptors = npt.NDArray[np.floating]
Matrix = npt.NDArray[np.float64]
BLOCK_ROWS = 4096
FIRST_RIDGE = 1e-10  # tried after 0, then ten times as much until the matrix is positive definite
LARGEST_RIDGE = 1.0


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
    columns = x.shape[1]
    mean = np.zeros(columns)
    spread = np.zeros((columns, columns))
    for start in range(0, len(q), BLOCK_ROWS):
        first = x[q[start : start + BLOCK_ROWS]].astype(np.float64)
        difference = first - x[p[start : start + BLOCK_ROWS]]
        mean += first.sum(axis=0)
        spread += difference.T @ difference
    mean /= len(q)
    lower, ridge = _cholesky(spread / len(q))
    scatter = np.zeros((columns, columns))
    for block in _blocks(x, mean):
        scatter += block.T @ block
    inner = np.linalg.solve(lower, np.linalg.solve(lower, scatter).T)
    _, vectors = _eigh_descending(inner)
    projection: Matrix = np.linalg.solve(lower.T, vectors[:, :dimension]).T.astype(np.float64)
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
    covariance = np.zeros((columns, columns))
    for block in _blocks(x, mean):
        covariance += block.T @ block
    values, vectors = _eigh_descending(covariance / len(x))
    values = np.maximum(values, 0.0)
    if shrinkage is not None:
        values = (1.0 - values[shrinkage - 1]) * values + values[shrinkage - 1]
    kept, directions = values[:dimension], vectors[:, :dimension]
    dead = kept <= np.finfo(np.float64).eps * columns * max(values[0], np.finfo(np.float64).tiny)
    if exponent > 0 and dead.any():
        raise DataError(
            f"whitening: {len(x)} descriptors vary in {int(np.argmax(dead))} directions only, {len(kept)} are asked "
            "for; lower the dimension, give a shrinkage, or learn from more images"
        )
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


def _blocks(x: Descriptors, mean: Matrix) -> Iterator[Matrix]:
    for start in range(0, len(x), BLOCK_ROWS):
        yield x[start : start + BLOCK_ROWS].astype(np.float64) - mean


def _cholesky(matrix: Matrix) -> tuple[Matrix, float]:
    """Lower factor of ``matrix + a I`` for the smallest a of 0, 1e-10, 1e-9, ... with which it exists; and a."""
    ridge = 0.0
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
    vectors = vectors[:, ::-1]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    return values[::-1], vectors * np.where(largest < 0, -1.0, 1.0)
