"""What became of each query: its pose, what speaks for it, and why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gloam.data.scene import Pose
from gloam.eval.localization.benchmark import LocalizationResult
from gloam.runtime.localization.pose import standard_deviations, why_not


@dataclass(frozen=True)
class QueryOutcome:
    """One query by one method.

    Attributes:
        name: of the image.
        pose: None where it was not localized.
        inliers, correspondences: see :class:`gloam.runtime.localization.pose.Localized`; None where none are counted.
        deviations: of the camera's centre, metres, and of the rotation, degrees, that are to be expected; None where
            they are not known.
        reason: why there is no pose; "" where there is one.
        retrieved: map images, best first.
    """

    name: str
    pose: Pose | None
    inliers: int | None
    correspondences: int | None
    deviations: tuple[float, float] | None
    reason: str
    retrieved: tuple[str, ...]


def query_outcomes(
    method: str,
    result: LocalizationResult,
    poses: Mapping[str, Pose],
    retrieved: Mapping[str, Sequence[str]],
    min_inliers: int,
) -> list[QueryOutcome]:
    """Of every query, by name.

    Args:
        method: of the result.
        result: of the run.
        poses: that are usable.
        retrieved: map images of every query, best first.
        min_inliers: that a pose needed.
    """
    inliers, correspondences = (found.get(method, {}) for found in (result.inliers, result.correspondences))
    covariances = result.covariances.get(method, {})
    found = []
    for name in sorted(result.poses[method]):
        pose, count, covariance = poses.get(name), correspondences.get(name), covariances.get(name)
        images = tuple(retrieved.get(name, ()))
        found.append(
            QueryOutcome(
                name,
                pose,
                inliers.get(name),
                count,
                None if pose is None or covariance is None else standard_deviations(covariance),
                "" if pose is not None else why_not(count, images, min_inliers),
                images,
            )
        )
    return found
