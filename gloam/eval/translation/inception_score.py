"""Inception Score (Salimans et al., NeurIPS 2016): class predictions that are sure one by one and varied together.

It sees the fake images alone and knows only ImageNet's classes, so for street scenes it says little; it is here to be
compared with what others have published. Shuffling and splits are those of torch-fidelity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.errors import DataError


@dataclass(frozen=True)
class InceptionScore:
    """Mean and standard deviation (``ddof=0``) over the splits; 1 (worst) to the number of classes."""

    mean: float
    std: float


def inception_score(logits: npt.NDArray[np.floating[Any]], splits: int = 10, seed: int = 2020) -> InceptionScore:
    """Inception Score of predictions.

    Args:
        logits: ``[n, classes]`` before the softmax; the original network's are without the bias of its last layer.
        splits: parts that are scored apart, in a shuffled order.
        seed: of the shuffling.

    Raises:
        DataError: not a table, not finite, or fewer images than splits.
    """
    table = np.asarray(logits, np.float64)
    if table.ndim != 2 or not np.isfinite(table).all():
        raise DataError(f"logits must be a finite table [n, classes], not of shape {list(table.shape)}")
    if len(table) < splits:
        raise DataError(f"{len(table)} image(s) are too few for an Inception Score of {splits} splits")
    table = table[np.random.RandomState(seed).permutation(len(table))]
    table = table - table.max(axis=1, keepdims=True)
    log_share = table - np.log(np.exp(table).sum(axis=1, keepdims=True))
    share = np.exp(log_share)
    scores = []
    for part in range(splits):
        rows = slice(part * len(table) // splits, (part + 1) * len(table) // splits)
        mean = np.maximum(share[rows].mean(axis=0), np.finfo(np.float64).tiny)
        divergence = (share[rows] * (log_share[rows] - np.log(mean))).sum(axis=1)
        scores.append(float(np.exp(divergence.mean())))
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))
