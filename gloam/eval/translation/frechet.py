"""FID, the Fréchet distance between Gaussians fitted to two sets of features (Heusel et al., NeurIPS 2017).

``|m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr (C1 C2)^(1/2)``. The last trace is taken without the square root of an
unsymmetric matrix. With ``C1 = A'A`` and ``C2 = B'B`` it is the sum of the singular values of ``AB'``, which costs
little where images are fewer than dimensions, and needs no epsilon on the diagonal of the singular covariances. Where
they are more, it is the sum of the roots of the eigenvalues of the symmetric ``R' C2 R`` with ``RR' = C1``.

FID has a bias that falls with the number of images: compare only figures of equal N, and see
:mod:`gloam.eval.translation.kernel` for small sets.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gloam.eval.translation.features import Features, expect_pair

Rows = npt.NDArray[np.float64]  # [n, D]


def frechet_distance(real: Features, fake: Features) -> float:
    """FID of two sets of features.

    Args:
        real: ``[n, D]``, n >= 2, any floating type; computed in float64.
        fake: ``[m, D]``, m >= 2.

    Returns:
        0 or more, in squared units of the features.

    Raises:
        DataError: not two tables of finite features of one width, or fewer than 2 rows.
    """
    first, second = expect_pair(real, fake, at_least=2)
    between = first.mean(axis=0) - second.mean(axis=0)
    one, two = _scaled(first), _scaled(second)
    value = between @ between + np.vdot(one, one) + np.vdot(two, two) - 2 * _trace_of_root(one, two)
    return max(float(value), 0.0)  # equal sets come out a rounding error below


def _scaled(features: Rows) -> Rows:
    """``A`` with ``A'A`` the covariance (``ddof=1``): ``[n, D]``."""
    return np.asarray((features - features.mean(axis=0)) / np.sqrt(len(features) - 1))


def _trace_of_root(one: Rows, two: Rows) -> float:
    if min(len(one), len(two)) <= one.shape[1]:
        return float(np.linalg.svd(one @ two.T, compute_uv=False).sum())
    values, vectors = np.linalg.eigh(one.T @ one)
    root = vectors * np.sqrt(values.clip(min=0))
    shared = np.linalg.eigvalsh(root.T @ (two.T @ two) @ root)
    return float(np.sqrt(shared.clip(min=0)).sum())
