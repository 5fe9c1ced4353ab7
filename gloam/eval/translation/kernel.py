"""KID, the kernel distance between two sets of features (Bińkowski et al., "Demystifying MMD GANs", ICLR 2018).

The kernel is ``k(x, y) = (x·y / D + 1)^3`` and the distance is the unbiased estimate of the squared maximum mean
discrepancy: unlike FID it has no bias that depends on how many images there are, and it may come out slightly
negative where the sets are alike. It is averaged over random subsets, which bounds its cost; the subsets of a seed are
those that torch-fidelity draws, so that figures can be compared digit by digit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gloam.eval.translation.features import Features, expect_pair

SUBSET_SIZE = 1000  # of the paper


@dataclass(frozen=True)
class KernelDistance:
    """KID and how much it varies.

    Attributes:
        mean: over the subsets; 0 for equal distributions.
        std: over the subsets, with ``ddof=0``; 0 where the subsets are the whole sets.
        subsets, subset_size: what was really used.
    """

    mean: float
    std: float
    subsets: int
    subset_size: int


def kernel_distance(
    real: Features,
    fake: Features,
    subsets: int = 100,
    subset_size: int | None = None,
    seed: int = 0,
) -> KernelDistance:
    """KID of two sets of features.

    Args:
        real: ``[n, D]``, any floating type; computed in float64.
        fake: ``[m, D]``.
        subsets: how many pairs of subsets.
        subset_size: images in each; by default the paper's 1000, or the smaller set where it has fewer.
        seed: of the subsets, which are drawn without replacement.

    Raises:
        DataError: not two tables of finite features of one width, or fewer than ``subset_size`` (at least 2) rows.
    """
    smaller = min(len(real), len(fake))
    size = min(SUBSET_SIZE, smaller) if subset_size is None else subset_size
    first, second = expect_pair(real, fake, at_least=max(size, 2))
    if size < 2:
        raise ValueError(f"subset_size must be 2 or more, not {size}")
    if subsets < 1:
        raise ValueError(f"subsets must be 1 or more, not {subsets}")
    if size == len(first) == len(second):  # every subset is the whole set
        return KernelDistance(squared_discrepancy(first, second), 0.0, 1, size)
    draw = np.random.RandomState(seed)
    values = [
        squared_discrepancy(
            first[draw.choice(len(first), size, replace=False)],
            second[draw.choice(len(second), size, replace=False)],
        )
        for _ in range(subsets)
    ]
    return KernelDistance(float(np.mean(values)), float(np.std(values)), subsets, size)


def squared_discrepancy(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    """Unbiased squared MMD of two sets under the cubic kernel.

    Args:
        first: float64 ``[n, D]``, n >= 2.
        second: float64 ``[m, D]``, m >= 2.
    """
    within = 0.0
    for rows in (first, second):
        kernel = _kernel(rows, rows)
        within += float((kernel.sum() - np.trace(kernel)) / (len(rows) * (len(rows) - 1)))
    return within - 2 * float(_kernel(first, second).mean())


def _kernel(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    scaled: npt.NDArray[np.float64] = first @ second.T
    scaled /= first.shape[1]
    scaled += 1.0
    return scaled * scaled * scaled
