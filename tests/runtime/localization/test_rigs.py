"""A camera of a rig has its pose through the rig, to the last digits that the mounts have."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from gloam.data.kapture_io import read_scene, write_rig, write_scene
from gloam.data.scene import Camera, Pose, Record, Scene, position_error, rotation_error
from gloam.runtime.localization.colmap import AbsolutePoseOptions, RigView, rig_pose
from gloam.runtime.localization.maps.mapping import build_map
from gloam.runtime.localization.pose import localize_on_map
from gloam.runtime.localization.rigs import localize_rig, rig_frames, through_rig
from tests.runtime.localization import exact_world

CAR = Camera("PINHOLE", 1024, 1024, (400.0, 400.0, 512.0, 512.0))
EXACT = 1e-9


def turned(axis: tuple[float, float, float], degrees: float, at: tuple[float, float, float]) -> Pose:
    half = np.radians(degrees) / 2
    x, y, z = np.sin(half) * np.array(axis) / np.linalg.norm(axis)
    return Pose((float(np.cos(half)), float(x), float(y), float(z)), at)


MOUNTS = {
    "left": turned((0, 1, 0.1), 90.3, (0.11, -0.2, 0.4)),
    "rear": turned((0.05, 1, 0), 179.2, (-0.1, 0.05, 1.5)),
    "right": turned((0, 1, -0.1), -88.7, (0.2, 0.1, -0.3)),
}


def images(root: Path, frames: int = 4) -> tuple[Scene, dict[str, Pose], dict[int, Pose]]:
    """Queries of the car at some places, the true poses of all cameras, and of the rig."""
    rng = np.random.default_rng(5)
    rigs = {
        1000 + n: turned(tuple(rng.normal(size=3)), 40.0 * n, tuple(rng.normal(scale=900, size=3)))
        for n in range(frames)
    }
    records = {f"night/{camera}/{time}.jpg": Record(camera, time) for time in rigs for camera in MOUNTS}
    truth = {name: rigs[record.timestamp].seen_from(MOUNTS[record.camera_id]) for name, record in records.items()}
    return Scene(root, dict.fromkeys(MOUNTS, CAR), records), truth, rigs


def same(first: Pose | None, second: Pose) -> bool:
    return first is not None and position_error(first, second) < EXACT and rotation_error(first, second) < EXACT


def test_an_inverse_undoes_a_pose() -> None:
    pose = turned((1, 2, 3), 77, (4, 5, 6))
    assert same(pose.inverse.inverse, pose)
    assert same(pose.seen_from(pose.inverse), Pose((1, 0, 0, 0), (0, 0, 0)))
    assert np.allclose(pose.inverse.transform(pose.transform([[7.0, 8, 9]])), [[7, 8, 9]], atol=EXACT)


@pytest.mark.parametrize("known", MOUNTS)
def test_cameras_without_a_pose_have_it_through_the_rig(tmp_path: Path, known: str) -> None:
    query, truth, _ = images(tmp_path)
    poses: dict[str, Pose | None] = {name: pose if f"/{known}/" in name else None for name, pose in truth.items()}
    found = through_rig(query, MOUNTS, poses, {})
    assert all(same(found[name], truth[name]) for name in truth)
    assert all(found[name] is pose for name, pose in poses.items() if pose is not None)  # its own is kept


def test_the_rig_agrees_with_kaptures_own_trajectories(tmp_path: Path) -> None:
    pytest.importorskip("kapture")
    query, truth, rigs = images(tmp_path / "d")
    write_scene(dataclasses.replace(query, poses={}))
    write_rig(tmp_path / "d", "car", MOUNTS)
    rows = [
        f"{time}, car, {', '.join(repr(float(v)) for v in (*pose.quaternion, *pose.translation))}"
        for time, pose in rigs.items()
    ]
    (tmp_path / "d/sensors/trajectories.txt").write_text("# kapture format: 1.1\n" + "\n".join(rows) + "\n")
    poses = read_scene(tmp_path / "d").poses
    assert all(same(poses[name], truth[name]) for name in truth)


def test_the_camera_with_most_inliers_tells_the_rigs_pose(tmp_path: Path) -> None:
    query, truth, _ = images(tmp_path, 1)
    left, rear, right = (f"night/{camera}/1000.jpg" for camera in MOUNTS)
    off = turned((1, 0, 0), 3, (1, 2, 3))
    found = through_rig(query, MOUNTS, {left: truth[left], rear: off, right: None}, {left: 50, rear: 20})
    assert same(found[right], truth[right])
    assert found[rear] is off
    found = through_rig(query, MOUNTS, {left: truth[left], rear: off, right: None}, {left: 20, rear: 50})
    assert not same(found[right], truth[right])
    assert through_rig(query, MOUNTS, {left: None}, {}) == {left: None}  # of nothing comes nothing


def test_frames_are_images_of_one_time(tmp_path: Path) -> None:
    query, _, _ = images(tmp_path, 2)
    query.records["hand.jpg"] = Record("phone", 1000)
    query.records["night/left/9.jpg"] = Record("left", 9)
    assert rig_frames(query, MOUNTS) == [
        [f"night/{c}/{t}.jpg" for c in ("left", "rear", "right")] for t in (1000, 1001)
    ]
    assert rig_frames(query, {}) == []


def test_all_cameras_together_pose_the_rig(tmp_path: Path) -> None:
    query, truth, rigs = images(tmp_path, 1)
    rng = np.random.default_rng(1)
    views = []
    for name in query.names:
        camera = query.records[name].camera_id
        local = np.stack([rng.uniform(-4, 4, 6), rng.uniform(-4, 4, 6), rng.uniform(5, 9, 6)], axis=1)
        pixels = 400 * local[:, :2] / local[:, 2:] + 512
        views.append(RigView(CAR, MOUNTS[camera], pixels, truth[name].inverse.transform(local)))
    answer = rig_pose(views)  # of six points a camera, which are too few for any camera alone
    assert answer is not None
    pose, inliers = answer
    assert inliers == 18
    assert position_error(pose, rigs[1000]) < 1e-6
    assert rotation_error(pose, rigs[1000]) < 1e-6
    assert rig_pose(views[:1]) is None
    assert rig_pose(views, AbsolutePoseOptions(min_inliers=19)) is None


@pytest.mark.parametrize("local", [False, True])
def test_a_rig_of_two_cameras_is_posed_on_a_map(tmp_path: Path, local: bool) -> None:
    exact = exact_world.matcher(tmp_path)
    mapping, _ = exact_world.scenes(tmp_path)
    mount = turned((0, 1, 0), 4, (0.3, 0, 0))
    mounts = {"one": mount, "two": turned((0, 1, 0), -4, (-0.3, 0, 0))}
    records = {"q.png": Record("one", 3), "r.png": Record("two", 3)}
    query = Scene(tmp_path / "q", dict.fromkeys(mounts, exact_world.CAMERA), records)
    rig = exact_world.POSES["q.png"].seen_from(mount.inverse)
    exact_world.POSES["r.png"] = rig.seen_from(mounts["two"])
    try:
        matcher = dataclasses.replace(exact, mapping=mapping, query=query)
        pairs = [(one, other) for one in exact_world.MAP for other in exact_world.MAP if one < other]
        world = None if local else build_map(matcher, pairs)
        retrieved = dict.fromkeys(records, exact_world.MAP)
        found = localize_rig(matcher, retrieved, mounts, world)
        assert sorted(found) == ["q.png", "r.png"]
        for name, item in found.items():
            assert item.pose is not None
            assert position_error(item.pose, exact_world.POSES[name]) < 1e-2
            assert item.inliers > 80
        if world is not None:
            alone = localize_on_map(matcher, "q.png", exact_world.MAP, world)
            assert found["q.png"].correspondences > alone.correspondences
        assert localize_rig(matcher, {"q.png": exact_world.MAP}, mounts, world) == {}
    finally:
        del exact_world.POSES["r.png"]
