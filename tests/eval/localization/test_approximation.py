"""Weights and averages are what their definitions say."""

from __future__ import annotations

import numpy as np
import pytest

from gloam.data.scene import Pose, position_error, rotation_error
from gloam.errors import DataError
from gloam.eval.localization.approximation import (
    approximate,
    average_pose,
    barycentric_weights,
    equal_weights,
    similarity_weights,
)


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    x = rng.normal(size=shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_barycentric_weights_are_the_constrained_minimum() -> None:
    rng = np.random.default_rng(0)
    query, retrieved = unit(rng, 32), unit(rng, 5, 32)
    weights = barycentric_weights(query, retrieved)
    assert weights.sum() == pytest.approx(1)
    best = np.linalg.norm(query - weights @ retrieved)
    for _ in range(200):  # any step that keeps the sum makes it worse
        step = rng.normal(size=5)
        step -= step.mean()
        assert np.linalg.norm(query - (weights + 0.01 * step) @ retrieved) >= best


def test_barycentric_weights_find_an_exact_combination() -> None:
    rng = np.random.default_rng(1)
    retrieved = unit(rng, 4, 16)
    truth = np.array([0.7, 0.5, -0.3, 0.1])
    np.testing.assert_allclose(barycentric_weights(truth @ retrieved, retrieved), truth, atol=1e-9)


def test_similarity_weights() -> None:
    retrieved = np.array([[1.0, 0], [0.6, 0.8], [-1, 0]])
    weights = similarity_weights([1.0, 0.0], retrieved, alpha=2)
    np.testing.assert_allclose(weights, np.array([1, 0.36, 0]) / 1.36)
    np.testing.assert_allclose(similarity_weights([0.0, -1.0], retrieved[:1]), [1])


def test_average_of_turns_is_the_middle_whatever_the_signs() -> None:
    def turn(degrees: float, sign: float = 1) -> Pose:
        half = np.radians(degrees) / 2
        rotation = Pose((np.cos(half), 0, 0, np.sin(half)), (0, 0, 0)).rotation
        q = sign * np.array([np.cos(half), 0, 0, np.sin(half)])
        center = np.array([degrees, 0, 1.0])
        t = -rotation @ center
        return Pose((q[0], q[1], q[2], q[3]), (t[0], t[1], t[2]))

    middle = average_pose([turn(10), turn(30, -1)], equal_weights(2))
    assert rotation_error(middle, turn(20)) < 1e-6
    assert position_error(middle, turn(20)) < 1e-9


def test_methods_and_refusals() -> None:
    pose = Pose((1, 0, 0, 0), (1, 2, 3))
    for method in ("top1", "ewb", "bdi", "csi"):
        assert position_error(approximate(method, [pose], [1.0], [[1.0]]), pose) < 1e-9
    with pytest.raises(DataError, match="choose one of"):
        approximate("magic", [pose], [], [])
    with pytest.raises(DataError, match="as many weights"):
        average_pose([pose], equal_weights(2))
