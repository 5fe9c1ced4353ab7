"""Paradigm 1: a query's pose from the poses of its retrieved images (Humenberger et al. 2020; Pion et al. 2020).

Positions are averaged between camera centres, rotations as the eigenvector of the weighted outer products of
quaternions (Markley et al. 2007).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gloam.data.scene import Pose
from gloam.errors import DataError

Vector = npt.NDArray[np.float64]
CSI_ALPHA = 8.0  # the benchmark's exponent
METHODS = ("top1", "ewb", "bdi", "csi")


def equal_weights(count: int) -> Vector:
    """EWB: every retrieved image counts the same."""
    return np.full(count, 1.0 / count)


def barycentric_weights(query: npt.ArrayLike, retrieved: npt.ArrayLike) -> Vector:
    """BDI: weights that sum to 1 and bring the combined descriptors closest to the query's; they may be negative.

    Closed form: the conditions of optimality are one linear system.

    Args:
        query: descriptor ``[D]``.
        retrieved: descriptors ``[k, D]``.
    """
    d, q = np.asarray(retrieved, np.float64), np.asarray(query, np.float64)
    k = len(d)
    system = np.zeros((k + 1, k + 1))
    system[:k, :k] = d @ d.T
    system[:k, k] = system[k, :k] = 1
    solution = np.linalg.lstsq(system, np.append(d @ q, 1.0), rcond=None)[0]
    weights: Vector = solution[:k]
    return weights


def similarity_weights(query: npt.ArrayLike, retrieved: npt.ArrayLike, alpha: float = CSI_ALPHA) -> Vector:
    """CSI: cosine similarities to the power alpha, normalised; a negative similarity counts nothing."""
    similarity = np.clip(np.asarray(retrieved, np.float64) @ np.asarray(query, np.float64), 0, None) ** alpha
    total = similarity.sum()
    weights: Vector = similarity / total if total > 0 else equal_weights(len(similarity))
    return weights


def average_pose(poses: Sequence[Pose], weights: Vector) -> Pose:
    """Weighted mean of poses; the weights need not be positive but must not sum to 0."""
    if len(poses) != len(weights) or not len(poses):
        raise DataError("as many weights as poses are needed, at least one")
    total = weights.sum()
    center = sum(weight * pose.center for weight, pose in zip(weights, poses, strict=True)) / total
    quaternions = np.array([pose.quaternion for pose in poses], np.float64)
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    w, x, y, z = np.linalg.eigh(np.einsum("i,ij,ik->jk", weights, quaternions, quaternions))[1][:, -1]
    rotation = Pose((w, x, y, z), (0.0, 0.0, 0.0)).rotation
    return Pose.from_matrix(rotation, -rotation @ center)


def approximate(method: str, poses: Sequence[Pose], query: npt.ArrayLike, retrieved: npt.ArrayLike) -> Pose:
    """Pose of a query by one of :data:`METHODS`.

    Args:
        method: ``top1``, ``ewb``, ``bdi`` or ``csi``.
        poses: of the retrieved images, best first.
        query: unit descriptor ``[D]``.
        retrieved: unit descriptors ``[k, D]``.
    """
    if method == "top1":
        return poses[0]
    if method == "ewb":
        return average_pose(poses, equal_weights(len(poses)))
    if method == "bdi":
        return average_pose(poses, barycentric_weights(query, retrieved))
    if method == "csi":
        return average_pose(poses, similarity_weights(query, retrieved))
    raise DataError(f"unknown pose approximation {method!r}; choose one of {', '.join(METHODS)}")
