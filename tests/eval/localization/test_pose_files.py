"""Poses as COLMAP's text and as a table."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from gloam.data.scene import Pose, Record, Scene, position_error, rotation_error
from gloam.errors import DataError
from gloam.eval.localization.pose_files import COLUMNS, write_colmap_text, write_pose_table
from gloam.runtime.localization.maps.colmap_model import read_colmap_model
from tests.runtime.localization.exact_world import CAMERA, POSES

OTHER = dataclasses.replace(CAMERA, model="SIMPLE_RADIAL", params=(500.0, 320.0, 240.0, -0.1))


@pytest.fixture
def scene() -> Scene:
    poses = {"z/a.png": POSES["a.png"], "b.png": Pose((0.0, 0.0, 3.0, 4.0), (1e-12, -1e5, 2.5))}
    records = {"z/a.png": Record("right", 1), "b.png": Record("left", 2), "lost.png": Record("none", 3)}
    cameras = {"left": CAMERA, "right": OTHER, "none": CAMERA}
    return Scene(Path("nowhere"), cameras, records, poses)


def test_colmap_reads_what_is_written(tmp_path: Path, scene: Scene) -> None:
    write_colmap_text(tmp_path, scene)
    found = read_colmap_model(tmp_path, "pictures").scene
    assert sorted(found.names) == ["b.png", "z/a.png"]
    assert found.camera("b.png") == CAMERA
    assert found.camera("z/a.png") == OTHER
    assert len(found.cameras) == 2
    for name, pose in scene.poses.items():
        assert position_error(found.poses[name], pose) < 1e-9
        assert rotation_error(found.poses[name], pose) < 1e-9
        np.testing.assert_allclose(np.linalg.norm(found.poses[name].quaternion), 1, atol=1e-12)
    lines = (tmp_path / "images.txt").read_text().splitlines()
    assert lines[2].split()[:5] == ["1", "0.0", "0.0", "0.6", "0.8"]
    assert lines[3] == lines[5] == ""


def test_no_pose_is_an_empty_model(tmp_path: Path, scene: Scene) -> None:
    write_colmap_text(tmp_path, dataclasses.replace(scene, poses={}))
    with pytest.raises(DataError, match="no image has a pose"):
        read_colmap_model(tmp_path, "pictures")
    write_pose_table(tmp_path / "poses.csv", dataclasses.replace(scene, poses={}))
    assert (tmp_path / "poses.csv").read_text() == ",".join(COLUMNS) + "\n"


def test_a_row_of_the_table_is_pose_and_centre(tmp_path: Path, scene: Scene) -> None:
    write_pose_table(tmp_path / "poses.csv", scene)
    rows = list(csv.DictReader((tmp_path / "poses.csv").open()))
    assert [row["image"] for row in rows] == ["b.png", "z/a.png"]
    for row in rows:
        w, x, y, z, *rest = (float(row[column]) for column in COLUMNS[1:])
        pose = Pose((w, x, y, z), tuple(rest[:3]))
        assert position_error(pose, scene.poses[row["image"]]) < 1e-9
        assert rotation_error(pose, scene.poses[row["image"]]) < 1e-9
        np.testing.assert_allclose(rest[3:], scene.poses[row["image"]].center, rtol=1e-12)
