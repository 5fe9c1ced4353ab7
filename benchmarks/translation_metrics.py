"""FID, KID and PRD against independent float64 implementations written another way, and how long they take.

The twins share no code with gloam and no idea where one can differ: FID takes the eigenvalues of C1 C2 of covariances
summed image by image, KID sums the cubic kernel pair by pair in Python, PRD clusters by single linkage (or takes
clusters that are known) and sweeps the paper's equations in a loop. torch-fidelity is compared too where it imports.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.shared.result import Result, largest
from gloam.eval.translation.frechet import frechet_distance
from gloam.eval.translation.kernel import kernel_distance
from gloam.eval.translation.prd import precision_recall

LIMIT = 1e-3
CLUSTERS, ANGLES = 20, 1001
TIMED_IMAGES, TIMED_DIMENSIONS = 10_000, 2048
CONTROL_GAP = 0.01  # a wrong reading of a formula must stand out by this much


def run() -> Result:
    """Worst relative difference over worked inputs; wrong readings of the formulas are the controls."""
    detail: dict[str, Any] = {"inputs": {}, "controls": _controls(), "torch_fidelity": _torch_fidelity()}
    worst = 0.0
    for name, (real, fake) in worked_inputs().items():
        kid = kernel_distance(real, fake, subsets=5, subset_size=40, seed=7)
        found = {
            "FID": _relative(frechet_distance(real, fake), fid_by_eigenvalues(real, fake)),
            "KID": _relative(kernel_distance(real, fake, 1, min(len(real), len(fake))).mean, _whole_kid(real, fake)),
            "KID of subsets": _relative(kid.mean, _subset_kid(real, fake)),
        }
        if name == "far clusters":
            curve, twin = precision_recall(real, fake), prd_by_loops(real, fake)
            found |= {
                "PRD curve": max(
                    _largest(curve.precision, np.array(twin[0])), _largest(curve.recall, np.array(twin[1]))
                ),
                "F_8": _relative(curve.f_recall, best_f(*twin, 8)),
                "F_1/8": _relative(curve.f_precision, best_f(*twin, 1 / 8)),
            }
        detail["inputs"][name] = {"images": [len(real), len(fake)], "dimensions": real.shape[1], **found}
        worst = largest((worst, *found.values()))
    detail["seconds_10k_x_2048"] = _times()
    compared = [value for value in detail["torch_fidelity"].values() if isinstance(value, float)]
    met = worst <= LIMIT and all(value <= LIMIT for value in compared)
    met = met and min(detail["controls"].values()) > CONTROL_GAP
    target = f"<= {LIMIT:g}, wrong formulas off by > {CONTROL_GAP:g}"
    return Result(worst, "relative difference", target, met, detail)


def worked_inputs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Real and fake features: many and few images for the dimensions, ReLU-like, float32, unit length, far clusters."""
    draw = np.random.default_rng(0)
    mixing = draw.normal(size=(24, 24))
    many = draw.normal(size=(300, 24)) @ mixing, draw.normal(0.2, 1.1, (260, 24)) @ mixing
    few = draw.normal(size=(50, 96)), draw.normal(0.1, 1, (64, 96))
    positive = tuple(np.maximum(rows, 0).astype(np.float32) for rows in many)
    unit = tuple(rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in many)
    return {
        "more images than dimensions": many,
        "fewer images than dimensions": few,
        "rectified, float32": positive,
        "unit length": unit,
        "far clusters": _far_clusters(draw),
    }  # type: ignore[return-value]  # pairs of tables


def fid_by_eigenvalues(first: np.ndarray, second: np.ndarray) -> float:
    """``|m1 - m2|^2 + tr C1 + tr C2 - 2 sum sqrt(eigenvalues of C1 C2)``."""
    (mean_1, cov_1), (mean_2, cov_2) = _moments(first), _moments(second)
    roots = np.sqrt(np.linalg.eigvals(cov_1 @ cov_2).astype(np.complex128)).real.sum()
    return float(((mean_1 - mean_2) ** 2).sum() + np.trace(cov_1) + np.trace(cov_2) - 2 * roots)


def kid_by_pairs(first: np.ndarray, second: np.ndarray, diagonal: bool = False) -> float:
    """The unbiased estimate, one pair of images after the other; with the diagonal it is the biased one."""
    sets = [rows.astype(np.float64).tolist() for rows in (first, second)]
    width = len(sets[0][0])

    def kernel(x: list[float], y: list[float]) -> float:
        return (math.fsum(a * b for a, b in zip(x, y, strict=True)) / width + 1) ** 3

    value = 0.0
    for rows in sets:
        count = len(rows)
        off = 2 * math.fsum(kernel(rows[i], rows[j]) for i in range(count) for j in range(i))
        on = math.fsum(kernel(row, row) for row in rows) if diagonal else 0.0
        value += (off + on) / (count * count if diagonal else count * (count - 1))
    cross = math.fsum(kernel(x, y) for x in sets[0] for y in sets[1])
    return value - 2 * cross / (len(sets[0]) * len(sets[1]))


def prd_by_loops(first: np.ndarray, second: np.ndarray) -> tuple[list[float], list[float]]:
    """Precision and recall at each angle, from clusters found by joining the nearest points."""
    labels = _single_linkage(np.concatenate([first, second]).astype(np.float64), CLUSTERS)
    real = [sum(label == k for label in labels[: len(first)]) / len(first) for k in range(CLUSTERS)]
    fake = [sum(label == k for label in labels[len(first) :]) / len(second) for k in range(CLUSTERS)]
    precision, recall = [], []
    for index in range(ANGLES):
        angle = 1e-10 + index * (math.pi / 2 - 2e-10) / (ANGLES - 1)
        slope = math.tan(angle)
        precision.append(sum(min(slope * p, q) for p, q in zip(real, fake, strict=True)))
        recall.append(sum(min(p, q / slope) for p, q in zip(real, fake, strict=True)))
    return precision, recall


def best_f(precision: list[float], recall: list[float], beta: float) -> float:
    """The largest F_beta as the weighted harmonic mean it is."""
    share = 1 / (1 + beta**2)
    return max(1 / (share / p + (1 - share) / r) for p, r in zip(precision, recall, strict=True) if p > 0 and r > 0)


def _far_clusters(draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """240 and 240 images in 20 clusters that any good clustering finds, of unlike shares, some empty of one kind."""
    centres = draw.normal(size=(CLUSTERS, 32)) * 40
    shares = [draw.dirichlet(np.ones(CLUSTERS) * 0.7) for _ in range(2)]
    picked = [np.concatenate([draw.choice(CLUSTERS, 220, p=share), np.arange(CLUSTERS)]) for share in shares]
    picked[1][-4:] = 0  # four kinds that are real only, unless drawn above
    real, fake = (centres[rows] + draw.normal(0, 0.3, (len(rows), 32)) for rows in picked)
    return real, fake


def _single_linkage(points: np.ndarray, clusters: int) -> list[int]:
    """Labels after cutting the longest edges of the minimum spanning tree (Prim)."""
    count = len(points)
    reach, parent = np.full(count, np.inf), np.zeros(count, int)
    inside = np.zeros(count, bool)
    order, edges, current = [0], [0.0], 0
    for _ in range(count - 1):
        inside[current] = True
        distance = np.sqrt(((points - points[current]) ** 2).sum(axis=1))
        closer = ~inside & (distance < reach)
        reach[closer], parent[closer] = distance[closer], current
        current = int(np.argmin(np.where(inside, np.inf, reach)))
        order.append(current)
        edges.append(float(reach[current]))
    cut = set(np.argsort(edges)[::-1][: clusters - 1].tolist())
    labels, fresh = [0] * count, 0
    for step, point in enumerate(order[1:], start=1):
        fresh += step in cut
        labels[point] = fresh if step in cut else labels[int(parent[point])]
    return labels


def _moments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance, one image after the other (Welford 1962)."""
    mean, total = np.zeros(rows.shape[1]), np.zeros((rows.shape[1],) * 2)
    for count, row in enumerate(rows.astype(np.float64), start=1):
        before = row - mean
        mean = mean + before / count
        total += np.outer(before, row - mean)
    return mean, total / (len(rows) - 1)


def _whole_kid(real: np.ndarray, fake: np.ndarray) -> float:
    """KID of one subset of the size of the smaller set: the larger one is drawn from, as gloam's seed 0 draws."""
    draw, size = np.random.RandomState(0), min(len(real), len(fake))
    if len(real) == len(fake):
        return kid_by_pairs(real, fake)
    return kid_by_pairs(real[draw.permutation(len(real))[:size]], fake[draw.permutation(len(fake))[:size]])


def _subset_kid(real: np.ndarray, fake: np.ndarray) -> float:
    draw = np.random.RandomState(7)
    values = []
    for _ in range(5):
        one = draw.permutation(len(real))[:40]
        values.append(kid_by_pairs(real[one], fake[draw.permutation(len(fake))[:40]]))
    return math.fsum(values) / len(values)


def _controls() -> dict[str, float]:
    """How far off wrong readings of the formulas are on these inputs, relative to the right ones."""
    real, fake = worked_inputs()["more images than dimensions"]
    few = worked_inputs()["fewer images than dimensions"]
    fid, kid = frechet_distance(real, fake), kernel_distance(real[:260], fake).mean
    (mean_1, cov_1), (mean_2, cov_2) = _moments(real), _moments(fake)
    between = float(((mean_1 - mean_2) ** 2).sum())
    alone = between + float(((np.sqrt(np.diag(cov_1)) - np.sqrt(np.diag(cov_2))) ** 2).sum())
    swapped = worked_inputs()["far clusters"]
    return {
        "FID without the means": _relative(fid - between, fid),
        "FID of uncorrelated dimensions": _relative(alone, fid),
        "KID with the diagonal": _relative(kid_by_pairs(real[:260], fake, diagonal=True), kid),
        "KID without 1/D": _relative(
            kernel_distance(few[0] * math.sqrt(96), few[1] * math.sqrt(96)).mean, kernel_distance(*few).mean
        ),
        "PRD with the sets swapped": _relative(
            precision_recall(swapped[1], swapped[0]).f_recall, precision_recall(*swapped).f_recall
        ),
    }


def _torch_fidelity() -> dict[str, Any]:
    """Differences to torch-fidelity's own functions, where it imports beside the installed torch."""
    try:
        import torch
        import torch_fidelity
        from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
        from torch_fidelity.metric_kid import kid_features_to_metric
    except (ImportError, RuntimeError, OSError) as error:
        return {"compared": False, "why": str(error).splitlines()[0]}
    real, fake = worked_inputs()["more images than dimensions"]
    tensors = [torch.from_numpy(rows) for rows in (real, fake)]
    options = {"kid_subsets": 10, "kid_subset_size": 100, "rng_seed": 3, "verbose": False}
    kid = kid_features_to_metric(*tensors, **options)["kernel_inception_distance_mean"]
    statistics = [fid_features_to_statistics(rows) for rows in tensors]
    fid = fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"]
    return {
        "compared": True,
        "version": torch_fidelity.__version__,
        "FID": _relative(frechet_distance(real, fake), fid),
        "KID": _relative(kernel_distance(real, fake, 10, 100, seed=3).mean, kid),
    }


def _times() -> dict[str, float]:
    """Seconds for 10 000 real and as many fake images of 2048 dimensions, with the metrics' defaults."""
    draw = np.random.default_rng(1)
    hidden, size = draw.normal(size=(64, TIMED_DIMENSIONS)) * 0.1, (TIMED_IMAGES, TIMED_DIMENSIONS)
    real, fake = (
        np.maximum(draw.normal(shift, 1, (TIMED_IMAGES, 64)) @ hidden + draw.normal(0, 0.3, size), 0).astype(np.float32)
        for shift in (0.0, 0.1)
    )
    metrics: dict[str, Callable[[], object]] = {
        "FID": lambda: frechet_distance(real, fake),
        "KID, 100 subsets of 1000": lambda: kernel_distance(real, fake),
        "PRD, 10 runs": lambda: precision_recall(real, fake),
    }
    seconds = {}
    for name, call in metrics.items():
        clock = time.perf_counter()
        call()
        seconds[name] = round(time.perf_counter() - clock, 2)
    return seconds


def _relative(found: float, expected: float) -> float:
    return abs(found - expected) / abs(expected)


def _largest(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference on a curve, relative to the curve's largest value: both ends are at 0."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())
