"""A convention is told by where cameras would stand and how they are held; what cannot be told is left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gloam.data.scene import Pose, Record, Scene
from gloam.eval.localization.pose_conventions import convention_faults, count_outside
from tests.eval.localization.benchmark_sets import standing

Lines = list[tuple[int, np.ndarray]]


def a_map(*poses: Pose) -> Scene:
    names = [f"{n}.jpg" for n in range(len(poses))]
    records = {name: Record("c", n) for n, name in enumerate(names)}
    return Scene(Path("map"), {}, records, dict(zip(names, poses, strict=True)))


STREET = a_map(*(standing(1000.0 + 4 * n, n % 3, yaw=5.0 * n) for n in range(30)))
TRUE = [standing(1003.0 + 9 * n, 1, 1.4, 30.0 * n) for n in range(12)]


def stated(poses: list[Pose]) -> Lines:
    return [(n, np.array([*pose.quaternion, *pose.translation])) for n, pose in enumerate(poses, 1)]


def w_last(lines: Lines) -> Lines:
    return [(n, numbers[[1, 2, 3, 0, 4, 5, 6]]) for n, numbers in lines]


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        (stated(TRUE), None),
        (stated([pose.inverse for pose in TRUE]), "inverted"),
        (w_last(stated(TRUE)), "quaternion order"),
        (w_last(stated([pose.inverse for pose in TRUE])), "quaternion order"),
        (stated(TRUE[:1]), None),
        (stated([TRUE[0].inverse]), "inverted"),
        (stated(TRUE[:1] * 3), "identical"),
        (stated(TRUE[:1] * 2), None),  # two queries may share their first image
        ([], None),
    ],
)
def test_a_files_convention(lines: Lines, kind: str | None) -> None:
    assert [found[1] for found in convention_faults(lines, STREET)] == ([] if kind is None else [kind])


def test_one_line_is_told_by_itself() -> None:
    lines = stated(TRUE)
    lines[6] = stated([TRUE[6].inverse])[0]
    ((line, kind, message),) = convention_faults([(n, numbers) for n, (_, numbers) in enumerate(lines, 1)], STREET)
    assert (line, kind) == (7, "inverted")
    assert "m outside the map, would lie within it by another convention" in message


@pytest.mark.parametrize("turn", [lambda pose: pose, lambda pose: pose.inverse])
def test_a_map_that_tells_nothing_raises_no_alarm(turn: Callable[[Pose], Pose]) -> None:
    assert convention_faults(stated([turn(pose) for pose in TRUE]), a_map()) == []
    rng = np.random.default_rng(0)
    everywhere = []
    for w, x, y, z in rng.normal(size=(40, 4)):  # cameras held anyhow, about the origin
        everywhere.append(Pose((w, x, y, z), (0.0, 0.0, 0.0)))
    near = [Pose((w, x, y, z), (1.0, 0.0, 0.0)) for w, x, y, z in rng.normal(size=(12, 4))]
    assert convention_faults(stated([turn(pose) for pose in near]), a_map(*everywhere)) == []


def test_cameras_outside_are_counted() -> None:
    assert count_outside(stated(TRUE), STREET) == 0
    assert count_outside(stated([*TRUE, standing(5000), standing(0)]), STREET) == 2
    assert count_outside([], STREET) == 0
