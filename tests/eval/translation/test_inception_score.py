"""Inception Score against its definition, and torch-fidelity's figures."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gloam.errors import DataError
from gloam.eval.translation.inception_score import inception_score


def looped(logits: np.ndarray) -> float:
    shares = [[math.exp(value) / sum(map(math.exp, row)) for value in row] for row in logits.tolist()]
    mean = [sum(column) / len(shares) for column in zip(*shares, strict=True)]
    divergences = [sum(p * math.log(p / q) for p, q in zip(row, mean, strict=True)) for row in shares]
    return math.exp(sum(divergences) / len(divergences))


def test_equals_the_definition() -> None:
    logits = np.random.default_rng(0).normal(size=(30, 7)) * 3
    found = inception_score(logits, splits=1)
    assert (found.mean, found.std) == (pytest.approx(looped(logits)), 0)


def test_equals_torch_fidelity() -> None:
    # torch-fidelity 0.4.0: isc_features_to_metric on these rows, 10 splits, shuffled with rng_seed=2020
    found = inception_score(np.random.RandomState(5).normal(size=(103, 9)) * 2)
    assert (found.mean, found.std) == pytest.approx((2.14096348974723, 0.22343730915950832), rel=1e-12)


def test_bounds() -> None:
    sure = np.tile(np.eye(5) * 2000, (4, 1))  # every class, without doubt
    assert inception_score(sure, splits=1).mean == pytest.approx(5)
    assert inception_score(np.zeros((20, 5))).mean == pytest.approx(1)


def test_refuses_fewer_images_than_splits() -> None:
    with pytest.raises(DataError, match="10 splits"):
        inception_score(np.zeros((9, 5)))
