"""PRD's curve against its definition, and the clustering on sets whose clusters are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gloam.errors import DataError
from gloam.eval.translation.clustering import cluster
from gloam.eval.translation.prd import best_f_score, precision_recall, precision_recall_curve


def blobs(counts: list[int], seed: int) -> np.ndarray:
    """Rows around as many far corners as there are counts."""
    draw = np.random.default_rng(seed)
    corners = np.eye(len(counts)) * 100
    return np.concatenate(
        [corner + draw.normal(0, 0.1, (count, len(counts))) for corner, count in zip(corners, counts, strict=True)]
    )


def looped_curve(real: list[float], fake: list[float], angles: int) -> tuple[list[float], list[float]]:
    precision, recall = [], []
    for index in range(angles):
        angle = 1e-10 + (math.pi / 2 - 2e-10) * index / (angles - 1)
        slope = math.sin(angle) / math.cos(angle)
        precision.append(min(1.0, sum(min(slope * p, q) for p, q in zip(real, fake, strict=True))))
        recall.append(min(1.0, sum(min(p, q / slope) for p, q in zip(real, fake, strict=True))))
    return precision, recall


def test_curve_equals_the_papers_equations() -> None:
    draw = np.random.default_rng(0)
    real, fake = draw.dirichlet(np.ones(20)), draw.dirichlet(np.ones(20))
    found = precision_recall_curve(real, fake)
    assert np.allclose(found, looped_curve(real.tolist(), fake.tolist(), 1001), atol=1e-6)  # sin/cos against tan


def test_known_clusters_give_the_curve_of_their_shares() -> None:
    real, fake = blobs([40, 30, 20, 10], 0), blobs([10, 20, 0, 70], 1)
    found = precision_recall(real, fake, clusters=4, runs=3)
    expected = looped_curve([0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.0, 0.7], 1001)
    assert np.allclose((found.precision, found.recall), expected, atol=1e-6)
    f8 = max(65 * p * r / (64 * p + r) for p, r in zip(*expected, strict=True) if p + r)
    assert found.f_recall == pytest.approx(f8, abs=1e-6)
    assert found.images == 100


def test_missing_kinds_cost_recall_and_foreign_kinds_cost_precision() -> None:
    whole, half = blobs([50, 50, 50, 50], 0), blobs([100, 100, 0, 0], 1)
    missing = precision_recall(whole, half, clusters=4, runs=2)
    foreign = precision_recall(half, whole, clusters=4, runs=2)
    assert missing.f_precision > 0.98 > 0.6 > missing.f_recall
    assert foreign.f_recall > 0.98 > 0.6 > foreign.f_precision
    assert missing.f_recall == pytest.approx(foreign.f_precision, abs=1e-6)  # the roles of the sets are swapped


def test_equal_sets_are_perfect_and_disjoint_ones_are_nothing() -> None:
    rows = np.random.default_rng(0).normal(size=(100, 8))
    same = precision_recall(rows, rows)
    assert (same.f_recall, same.f_precision) == (pytest.approx(1), pytest.approx(1))
    apart = precision_recall(rows, rows + 1000, clusters=8)
    assert apart.f_recall == apart.f_precision == 0


def test_a_larger_set_counts_no_more() -> None:
    found = precision_recall(blobs([300, 300], 0), blobs([30, 30], 1), clusters=2)
    assert found.images == 60
    assert min(found.f_recall, found.f_precision) > 0.85  # shares of a draw are not exactly halves


def test_seed_decides() -> None:
    draw = np.random.default_rng(0)
    real, fake = draw.normal(size=(90, 5)), draw.normal(0.3, 1, (80, 5))
    one, again, other = (precision_recall(real, fake, runs=2, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.recall, again.recall)
    assert not np.array_equal(one.recall, other.recall)


def test_f_score_of_one_point() -> None:
    assert best_f_score(np.array([0.5]), np.array([0.25]), 1) == pytest.approx(1 / 3)
    assert best_f_score(np.zeros(3), np.zeros(3), 8) == 0


def test_too_few_images_for_the_clusters() -> None:
    with pytest.raises(DataError, match="20 clusters"):
        precision_recall(np.zeros((9, 2)), np.zeros((9, 2)))


def test_clusters_are_a_partition_that_no_point_would_leave() -> None:
    points = np.random.default_rng(0).normal(size=(300, 3))
    labels = cluster(points, 5, np.random.default_rng(1))
    centres = np.stack([points[labels == label].mean(0) for label in range(5)])
    nearest = [int(np.argmin([np.sum((point - centre) ** 2) for centre in centres])) for point in points]
    assert np.mean(np.array(nearest) != labels) < 0.03


def test_fewer_distinct_points_than_clusters() -> None:
    labels = cluster(np.repeat(np.eye(3), 10, axis=0), 8, np.random.default_rng(0))
    assert len(set(labels.tolist())) == 3
    assert all(len(set(part.tolist())) == 1 for part in np.split(labels, 3))


def test_more_points_than_are_fitted() -> None:
    labels = cluster(blobs([900, 500, 100], 0).astype(np.float32), 3, np.random.default_rng(0))
    assert sorted(np.bincount(labels).tolist()) == [100, 500, 900]
