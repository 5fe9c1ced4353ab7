"""Confidence intervals for means over images that come in groups."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt


def group_bootstrap(
    values: npt.ArrayLike, groups: Sequence[Hashable], *, rounds: int = 2000, coverage: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap of a mean that resamples whole groups.

    Frames of one camera are near-copies: resampling images would pretend that they are independent.

    Args:
        values: ``[n]`` finite values, e.g. average precision per query.
        groups: the group of each value, e.g. its camera.
        rounds: bootstrap samples.
        coverage: 0 to 1.
        seed: of the resampling.

    Returns:
        Lower and upper bound of the mean.
    """
    value = np.asarray(values, np.float64)
    labels = list(dict.fromkeys(groups))
    member = np.array([labels.index(group) for group in groups])
    sums = np.bincount(member, value, len(labels))
    counts = np.bincount(member, minlength=len(labels))
    drawn = np.random.default_rng(seed).integers(len(labels), size=(rounds, len(labels)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - coverage) / 2, (1 + coverage) / 2])
    return float(low), float(high)
