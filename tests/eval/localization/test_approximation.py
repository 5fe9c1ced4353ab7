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


def test_weights_are_float64_and_sum_to_one() -> None:
    rng = np.random.default_rng(2)
    query, retrieved = unit(rng, 32).astype(np.float32), unit(rng, 5, 32).astype(np.float32)
    np.testing.assert_array_equal(equal_weights(4), [0.25] * 4)
    for weights in (barycentric_weights(query, retrieved), similarity_weights(query, np.abs(retrieved), alpha=1)):
        assert (weights.shape, weights.dtype) == ((5,), np.float64)
        assert weights.sum() == pytest.approx(1, abs=1e-12)
    plain = np.maximum(retrieved.astype(np.float64) @ query.astype(np.float64), 0) ** 8
    np.testing.assert_allclose(similarity_weights(query, retrieved), plain / plain.sum(), rtol=1e-12)
    np.testing.assert_allclose(similarity_weights([1.0, 0.0], [[0.1, 0], [0.2, 0], [-0.9, 0]], 1), [1 / 3, 2 / 3, 0])


def turned(degrees: float, x: float, length: float = 1.0) -> Pose:
    """A turn about z at a place on the x axis, its quaternion of some length."""
    half = np.radians(degrees) / 2
    unscaled = Pose((np.cos(half), 0, 0, np.sin(half)), (0, 0, 0))
    t = -unscaled.rotation @ np.array([x, 0, 0])
    return Pose((length * np.cos(half), 0, 0, length * np.sin(half)), (t[0], t[1], t[2]))


def test_averages_do_not_depend_on_the_scale_of_weights_or_quaternions() -> None:
    given = [turned(0, 0), turned(10, 4, length=9.0), turned(2, 1, length=0.1)]
    weights = np.array([1.0, 2.0, 0.0])
    expected = average_pose([turned(0, 0), turned(10, 4)], np.array([1 / 3, 2 / 3]))
    found = average_pose(given, weights)
    assert position_error(found, expected) < 1e-9
    assert found.center[0] == pytest.approx(8 / 3)
    assert rotation_error(found, expected) < 1e-6
    assert rotation_error(found, turned(0, 0)) == pytest.approx(6.667, abs=0.01)


def test_every_method_is_the_average_by_its_weights() -> None:
    rng = np.random.default_rng(3)
    query, retrieved = unit(rng, 7), np.abs(unit(rng, 3, 7))
    poses = [turned(10, 1), turned(20, 5), turned(40, 6)]
    expected = {
        "top1": poses[0],
        "ewb": average_pose(poses, equal_weights(3)),
        "bdi": average_pose(poses, barycentric_weights(query, retrieved)),
        "csi": average_pose(poses, similarity_weights(query, retrieved)),
    }
    centers = {tuple(np.round(pose.center, 6)) for pose in expected.values()}
    assert len(centers) == 4
    for method, pose in expected.items():
        assert approximate(method, poses, query, retrieved) == pose


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
    for poses, count in (([pose], 2), ([], 1), ([], 0)):
        with pytest.raises(DataError, match="as many weights"):
            average_pose(poses, np.ones(count))
