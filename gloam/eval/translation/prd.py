"""PRD: precision and recall of a set of images as a curve (Sajjadi et al., NeurIPS 2018).

Real and fake features are clustered together; with ``P`` and ``Q`` the shares of real and fake images in each cluster,
every trade-off ``lambda`` gives a precision ``sum min(lambda P, Q)`` and a recall ``sum min(P, Q / lambda)`` (the
paper's equations 2 and 3). Low precision means fakes that look like nothing real, low recall means kinds of real
images that are never made.

As in the paper: 20 clusters, ``lambda = tan(angle)`` at 1001 angles, the curve averaged over 10 clusterings, and sets
of equal size, because clusters follow the larger set; of a larger set every run draws as many images as the smaller
one has. Where the paper's code fits centres to mini-batches, here they are fitted to a draw
(:mod:`gloam.eval.translation.clustering`): on twice 10 000 overlapping features this moved both F-scores by less than
0.005 from centres fitted to all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gloam.errors import DataError
from gloam.eval.translation.clustering import cluster
from gloam.eval.translation.features import Features, expect_pair

CLUSTERS, ANGLES, RUNS, BETA = 20, 1001, 10, 8.0  # the paper's
EPSILON = 1e-10  # away from tan(0) and tan(90 degrees)


@dataclass(frozen=True)
class PrecisionRecall:
    """A PRD curve and its two summaries.

    Attributes:
        precision: float64 ``[angles]``, 0 to 1, rising with ``lambda``.
        recall: float64 ``[angles]``, 0 to 1, falling.
        f_recall: F_8, the best F-score that weighs recall 8 times precision.
        f_precision: F_1/8, the best that weighs precision 8 times recall.
        images: how many of each set every run used.
    """

    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]
    f_recall: float
    f_precision: float
    images: int


def precision_recall(
    real: Features,
    fake: Features,
    clusters: int = CLUSTERS,
    angles: int = ANGLES,
    runs: int = RUNS,
    seed: int = 0,
) -> PrecisionRecall:
    """PRD of two sets of features.

    Args:
        real: ``[n, D]``.
        fake: ``[m, D]``.
        clusters: bins of the histograms; few images make few bins meaningful.
        angles: points of the curve.
        runs: clusterings that the curve is averaged over.
        seed: of the clusterings and of the draw from a larger set.

    Raises:
        DataError: not two tables of finite features of one width, or fewer images in all than clusters.
    """
    first, second = expect_pair(real, fake)
    size = min(len(first), len(second))
    if 2 * size < clusters:
        raise DataError(f"PRD: 2 x {size} images are too few for {clusters} clusters; give more images")
    draw = np.random.default_rng(seed)
    union = np.concatenate([first, second])
    union -= union.mean(axis=0)  # far from the origin, float32 would cancel digits in the distances
    points = union.astype(np.float32)
    curves = []
    for _ in range(runs):
        rows = np.concatenate([_draw(len(first), size, draw), _draw(len(second), size, draw) + len(first)])
        labels = cluster(points if len(rows) == len(points) else points[rows], clusters, draw)
        shares = [np.bincount(part, minlength=clusters) / size for part in (labels[:size], labels[size:])]
        curves.append(precision_recall_curve(shares[0], shares[1], angles))
    precision, recall = np.mean(curves, axis=0)
    return PrecisionRecall(
        precision, recall, best_f_score(precision, recall, BETA), best_f_score(precision, recall, 1 / BETA), size
    )


def precision_recall_curve(
    real: npt.NDArray[np.float64], fake: npt.NDArray[np.float64], angles: int = ANGLES
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The curve of two discrete distributions over the same bins.

    Args:
        real: P, float64 ``[k]``, sums to 1.
        fake: Q, float64 ``[k]``, sums to 1.
        angles: evenly spaced between 0 and 90 degrees, both all but reached.

    Returns:
        precision and recall, float64 ``[angles]`` each.
    """
    slopes = np.tan(np.linspace(EPSILON, np.pi / 2 - EPSILON, angles))
    precision = np.minimum(slopes[:, None] * real, fake).sum(axis=1)
    return precision.clip(0, 1), (precision / slopes).clip(0, 1)


def best_f_score(precision: npt.NDArray[np.float64], recall: npt.NDArray[np.float64], beta: float) -> float:
    """The largest F_beta on a curve: ``(1 + beta^2) p r / (beta^2 p + r)``; 0 where both are 0."""
    weight = beta**2
    below = weight * precision + recall
    scores = np.divide((1 + weight) * precision * recall, below, out=np.zeros_like(below), where=below > 0)
    return float(scores.max())


def _draw(count: int, size: int, draw: np.random.Generator) -> npt.NDArray[np.int64]:
    """``size`` of ``count`` rows: all in order, or some at random."""
    return np.arange(count) if count == size else draw.choice(count, size, replace=False)
