"""MMD under a Gaussian kernel, by the rule of CMMD (Jayasumana et al., "Rethinking FID", CVPR 2024).

The kernel is ``k(x, y) = exp(-|x - y|^2 / (2 * 10^2))`` of embeddings of length 1, the estimate the biased one of
smallest variance (means over all pairs, each image with itself too), and the figure is a thousand times it. It fits no
Gaussian, which FID does, and is never negative, which KID may be. It is CMMD where the features are the embeddings of
CLIP ViT-L/14 at 336 px; of others it is the same rule in another space, and no figure to hold beside the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from gloam.errors import DataError
from gloam.eval.translation.features import Features, expect_pair

SIGMA, SCALE = 10.0, 1000.0  # of the paper
BLOCK = 1024  # rows of a block of the kernel: 8 MiB each

Rows = npt.NDArray[np.float64]  # [n, D]


def gaussian_discrepancy(real: Features, fake: Features) -> float:
    """Squared MMD of two sets of features, times 1000.

    Args:
        real: ``[n, D]``, n >= 2, any floating type and any length of the rows but 0; computed in float64 on rows of
            length 1, in blocks of the kernel.
        fake: ``[m, D]``, m >= 2.

    Returns:
        0 or more; at most 1000 * 2 * (1 - exp(-0.02)), about 39.6, for sets that lie opposite each other.

    Raises:
        DataError: not two tables of finite features of one width, fewer than 2 rows, or a row of zeros.
    """
    first, second = (
        _unit(rows, name) for name, rows in zip(("real", "fake"), expect_pair(real, fake, at_least=2), strict=True)
    )
    # Of 1 - k in place of k: the ones cancel, and k is so near 1 that its mean would round what is wanted away.
    value = 2 * _mean_lack(first, second) - _mean_lack(first, first) - _mean_lack(second, second)
    return max(SCALE * value, 0.0)  # equal sets come out a rounding error below


def _unit(rows: Rows, name: str) -> Rows:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not lengths.all():
        raise DataError(f"{name} features hold a row of zeros, which has no direction; check the model they come from")
    return np.asarray(rows / lengths)


def _mean_lack(first: Rows, second: Rows) -> float:
    """Mean of ``1 - k`` over all pairs of two sets."""
    total = math.fsum(_lacks(first, second))
    return total / (len(first) * len(second))


def _lacks(first: Rows, second: Rows) -> Iterator[float]:
    for row in range(0, len(first), BLOCK):
        for column in range(0, len(second), BLOCK):
            cosines = first[row : row + BLOCK] @ second[column : column + BLOCK].T
            # |x - y|^2 is 2 - 2 cos.
            yield -float(np.expm1((cosines - 1) / SIGMA**2).sum())
