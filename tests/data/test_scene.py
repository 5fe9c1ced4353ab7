"""Poses obey their convention and errors are what the benchmarks define."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gloam.data.scene import Pose, Record, Scene, position_error, rotation_error


def random_pose(seed: int) -> Pose:
    rng = np.random.default_rng(seed)
    q = rng.normal(size=4)
    q /= np.linalg.norm(q)
    t = rng.normal(size=3)
    return Pose((q[0], q[1], q[2], q[3]), (t[0], t[1], t[2]))


@given(st.integers(0, 10_000))
def test_matrix_round_trip(seed: int) -> None:
    pose = random_pose(seed)
    rotation = pose.rotation
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    again = Pose.from_matrix(rotation, pose.translation)
    assert rotation_error(pose, again) < 1e-6
    np.testing.assert_allclose(again.rotation, rotation, atol=1e-9)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_half_turns_round_trip(axis: int) -> None:
    rotation = -np.eye(3)
    rotation[axis, axis] = 1
    np.testing.assert_allclose(Pose.from_matrix(rotation, np.zeros(3)).rotation, rotation, atol=1e-12)


def test_center_maps_to_the_origin() -> None:
    pose = random_pose(1)
    np.testing.assert_allclose(pose.transform(pose.center[None]), np.zeros((1, 3)), atol=1e-12)


def test_a_quarter_turn_about_z_is_counter_clockwise() -> None:
    half = np.sqrt(0.5)
    pose = Pose((half, 0, 0, half), (0, 0, 0))
    np.testing.assert_allclose(pose.transform([[1, 0, 0]]), [[0, 1, 0]], atol=1e-12)


@pytest.mark.parametrize("degrees", [1e-5, 0.1, 2, 90, 179, 180])
def test_rotation_error_is_the_angle_whatever_the_sign(degrees: float) -> None:
    half = np.radians(degrees) / 2
    turned = Pose((np.cos(half), 0, np.sin(half), 0), (0, 0, 0))
    negative = Pose((-np.cos(half), 0, -np.sin(half), 0), (0, 0, 0))
    still = Pose((1, 0, 0, 0), (3, 0, 4))
    assert rotation_error(still, turned) == pytest.approx(degrees, rel=1e-6)
    assert rotation_error(still, negative) == pytest.approx(degrees, rel=1e-6)
    assert position_error(still, Pose((1, 0, 0, 0), (0, 0, 0))) == pytest.approx(5)


def test_a_camera_on_a_rig_sees_what_both_transforms_say() -> None:
    car, mount = random_pose(3), random_pose(4)
    points = np.random.default_rng(5).normal(size=(6, 3))
    np.testing.assert_allclose(
        car.seen_from(mount).transform(points), mount.transform(car.transform(points)), atol=1e-9
    )


def test_rounding_moves_no_pose() -> None:
    pose = random_pose(6)
    assert position_error(pose, pose.rounded()) < 1e-11
    assert all(value == round(value, 12) for value in (*pose.rounded().quaternion, *pose.rounded().translation))


def test_a_part_of_a_scene_knows_where_its_images_lie(tmp_path: Path) -> None:
    scene = Scene(
        tmp_path,
        records={name: Record("c", number) for number, name in enumerate("ab")},
        poses={"a": random_pose(7)},
        folders={"b": tmp_path / "elsewhere"},
    )
    part = scene.part(["b"])
    assert (part.names, part.poses, scene.part("ba").names) == (["b"], {}, ["a", "b"])
    assert part.image_path("b") == tmp_path / "elsewhere" / "b"
    assert scene.image_path("a") == scene.image_folder / "a" == tmp_path / "sensors" / "records_data" / "a"
