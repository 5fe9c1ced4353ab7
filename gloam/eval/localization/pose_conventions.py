"""By which convention poses were written, told from the map alone: where cameras would stand, and how they are held.

A file's convention is wrong where nearly all of its cameras would stand within the map, upright as the map's own, by
another convention, and by the stated one do not. Poses that are merely bad are so by every convention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gloam.data.scene import Pose, Scene

INSIDE, OUTSIDE = 5.0, 10.0  # metres beyond the box of the map's cameras that a centre is still inside, and is outside
UPRIGHT, LEANING = 45.0, 30.0  # degrees from the map's own upright, of a whole file and of one line
ALIGNED = 0.8  # length of the mean of the map's upright directions, from which on they are one direction
MOST = 0.9  # share of a file's poses that another convention must explain

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Convention:
    """A way to read a line's seven numbers: in words, whether w comes last, whether from camera to world."""

    words: str
    w_last: bool
    inverse: bool


STATED = _Convention("", False, False)
OTHERS = (
    _Convention(
        "look inverted: they are camera to world, and the server takes world to camera; write the inverse", False, True
    ),
    _Convention("look like quaternions with w last (x y z w); the server takes w first (w x y z)", True, False),
    _Convention(
        "look inverted and with w last: camera to world, x y z w; the server takes world to camera, w x y z", True, True
    ),
)


class _Stage:
    """Where the map's cameras stand, and how they are held."""

    def __init__(self, mapping: Scene) -> None:
        poses = [mapping.poses[name] for name in sorted(mapping.poses)]
        centers = np.array([pose.center for pose in poses])
        self._middle = centers.mean(axis=0)
        # The box along the map's own axes: a street that runs askew is not a square of the world's.
        self._axes = np.linalg.eigh((centers - self._middle).T @ (centers - self._middle))[1].T
        along = (centers - self._middle) @ self._axes.T
        self._low, self._high = along.min(axis=0), along.max(axis=0)
        ups = np.array([-pose.rotation[1] for pose in poses]).mean(axis=0)  # y of a camera points down
        length = float(np.linalg.norm(ups))
        self._up = ups / length if length > ALIGNED else None

    def beyond(self, centers: Floats) -> Floats:
        """Metres ``[n]`` that centres ``[n, 3]`` lie beyond the box of the map's cameras."""
        along = (centers - self._middle) @ self._axes.T
        far: Floats = np.linalg.norm(np.maximum(np.maximum(self._low - along, along - self._high), 0), axis=1)
        return far

    def leaning(self, rotations: Floats) -> Floats:
        """Degrees ``[n]`` between the upright of cameras ``[n, 3, 3]`` and the map's; 0 where the map has none."""
        if self._up is None:
            return np.zeros(len(rotations))
        found: Floats = np.degrees(np.arccos(np.clip(-rotations[:, 1] @ self._up, -1, 1)))
        return found


def convention_faults(poses: Sequence[tuple[int, Floats]], mapping: Scene) -> list[tuple[int, str, str]]:
    """Poses by another convention than world to camera, w first; and poses that are all the same.

    Args:
        poses: line and seven numbers of each, the quaternion of length 1.
        mapping: the map's images with poses.

    Returns:
        line, kind and message of each fault: one for a whole file, or one for each line that is told by itself.
    """
    if not poses or not mapping.poses:
        return []
    lines, values = [line for line, _ in poses], np.stack([numbers for _, numbers in poses])
    if len(values) > 2 and (values == values[0]).all():
        return [(lines[0], "identical", f"all {len(values)} poses are the same; no localization gives that")]
    stage = _Stage(mapping)
    centers, rotations = _read(values, STATED)
    beyond, leaning = stage.beyond(centers), stage.leaning(rotations)
    right = (beyond <= INSIDE) & (leaning <= UPRIGHT)
    best, plausible = None, 0.0
    strict = np.zeros(len(values), np.int64)  # of each line the convention that explains it alone
    for number, convention in enumerate(OTHERS, 1):
        other_centers, other_rotations = _read(values, convention)
        far, lean = stage.beyond(other_centers), stage.leaning(other_rotations)
        share = float(((far <= INSIDE) & (lean <= UPRIGHT)).mean())
        if share > plausible:
            best, plausible = convention, share
        alone = (far <= INSIDE) & (lean <= LEANING) & (beyond > OUTSIDE) & (leaning > UPRIGHT) & (strict == 0)
        strict[alone] = number
    if best is not None and plausible >= MOST and right.mean() < plausible / 2:
        worst = int(np.argmax(beyond))
        message = (
            f"the poses {best.words}. By the stated convention {int((~right).sum())} of {len(values)} cameras stand "
            f"outside the map or are not upright, line {lines[worst]} {beyond[worst]:.0f} m outside; by the other "
            f"{round(plausible * len(values))} are within"
        )
        kind = "quaternion order" if best.w_last else "inverted"
        return [(lines[int(np.flatnonzero(~right)[0])], kind, message)]
    return [
        (
            lines[row],
            "quaternion order" if OTHERS[strict[row] - 1].w_last else "inverted",
            f"the pose, {beyond[row]:.0f} m outside the map, would lie within it by another convention: such poses "
            f"{OTHERS[strict[row] - 1].words}",
        )
        for row in np.flatnonzero(strict)
    ]


def count_outside(poses: Sequence[tuple[int, Floats]], mapping: Scene) -> int:
    """How many of the cameras stand more than :data:`OUTSIDE` metres outside the map, by the stated convention."""
    if not poses or not mapping.poses:
        return 0
    centers, _ = _read(np.stack([numbers for _, numbers in poses]), STATED)
    return int((_Stage(mapping).beyond(centers) > OUTSIDE).sum())


def _read(values: Floats, convention: _Convention) -> tuple[Floats, Floats]:
    """Camera centres ``[n, 3]`` and rotations world to camera ``[n, 3, 3]`` of lines ``[n, 7]`` by a convention."""
    quaternions = values[:, [3, 0, 1, 2]] if convention.w_last else values[:, :4]
    rotations = np.stack([Pose((w, x, y, z), (0, 0, 0)).rotation for w, x, y, z in quaternions])
    if convention.inverse:
        return values[:, 4:], rotations.transpose(0, 2, 1)
    return -np.einsum("nji,nj->ni", rotations, values[:, 4:]), rotations
