"""Kapture datasets are read and written as the kapture package does, and gaps are named."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import kapture
import kapture.io.csv
import numpy as np
import pytest

from gloam.data.kapture_io import (
    open_features,
    read_conditions,
    read_global_features,
    read_image_list,
    read_local_features,
    read_scene,
    write_global_features,
    write_scene,
)
from gloam.data.scene import Camera, Pose, Record, Scene
from gloam.errors import DataError


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    written = Scene(
        tmp_path / "kapture",
        cameras={"left": Camera("PINHOLE", 512, 384, (420.0, 420.0, 256.0, 192.0))},
        records={f"day/left/{i}.jpg": Record("left", i) for i in range(3)},
        poses={f"day/left/{i}.jpg": Pose((1.0, 0.0, 0.0, 0.0), (0.1 * i, 0.0, 1 / 3)) for i in range(3)},
    )
    write_scene(written)
    return written


def test_round_trip_is_exact(scene: Scene) -> None:
    again = read_scene(scene.root, need_poses=True, need_cameras=True)
    assert (again.cameras, again.records, again.poses) == (scene.cameras, scene.records, scene.poses)


def test_kapture_itself_reads_what_is_written(scene: Scene) -> None:
    data = kapture.io.csv.kapture_from_dir(str(scene.root))
    assert data.trajectories[2, "left"].t_raw == pytest.approx([0.2, 0, 1 / 3])
    assert len(list(kapture.flatten(data.records_camera))) == 3


def test_missing_poses_and_intrinsics_are_named(scene: Scene) -> None:
    del scene.poses["day/left/1.jpg"]
    write_scene(scene)
    assert len(read_scene(scene.root).poses) == 2
    with pytest.raises(DataError, match=r"1 of 3 images have no pose.*day/left/1\.jpg"):
        read_scene(scene.root, need_poses=True)
    write_scene(dataclasses.replace(scene, cameras={}))
    with pytest.raises(DataError, match="3 of 3 images have no intrinsics"):
        read_scene(scene.root, need_cameras=True)


@pytest.mark.parametrize("missing", ["sensors.txt", "records_camera.txt"])
def test_missing_files_are_named(scene: Scene, missing: str) -> None:
    (scene.root / "sensors" / missing).unlink()
    with pytest.raises(DataError, match=f"{missing} is missing"):
        read_scene(scene.root)


def test_malformed_rows_and_names_are_one_line(scene: Scene) -> None:
    path = scene.root / "sensors" / "trajectories.txt"
    path.write_text("# kapture format: 1.1\n1, left, one, two\n")
    with pytest.raises(DataError, match="malformed"):
        read_scene(scene.root)
    path.unlink()
    (scene.root / "sensors" / "records_camera.txt").write_text("# kapture format: 1.1\n1, left, ../../etc/passwd\n")
    with pytest.raises(DataError, match=r"'\.\.'"):
        read_scene(scene.root)
    (scene.root / "sensors" / "records_camera.txt").write_text("# kapture format: 1.1\n")
    with pytest.raises(DataError, match="lists no images"):
        read_scene(scene.root)


def test_global_features_round_trip(scene: Scene) -> None:
    rng = np.random.default_rng(0)
    rows = [(name, rng.normal(size=8).astype(np.float32)) for name in scene.names]
    assert write_global_features(scene.root, "tiny", rows, 8) == 3
    names, matrix, feature_type = read_global_features(scene.root)
    assert (names, feature_type) == (scene.names, "tiny")
    np.testing.assert_array_equal(matrix, np.stack([row for _, row in rows]))
    write_global_features(scene.root, "second", rows, 8)
    with pytest.raises(DataError, match="second, tiny"):
        read_global_features(scene.root)


def test_a_truncated_feature_file_is_named(scene: Scene) -> None:
    write_global_features(scene.root, "tiny", [("a.jpg", np.zeros(8, np.float32))], 8)
    path = scene.root / "reconstruction/global_features/tiny/a.jpg.gfeat"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match=r"a\.jpg\.gfeat"):
        read_global_features(scene.root)
    with pytest.raises(DataError, match=r"no global_features for image 'b\.jpg'"):
        open_features(scene.root, "global_features").array("b.jpg")


def test_lists_and_conditions(tmp_path: Path) -> None:
    (tmp_path / "night.txt").write_text("# night\n\na.jpg 1 2\nb.jpg, 3\n")
    assert read_image_list(tmp_path / "night.txt") == ["a.jpg", "b.jpg"]
    assert read_conditions(tmp_path) == {"night": ["a.jpg", "b.jpg"]}
    (tmp_path / "night.txt").write_text("a.jpg\na.jpg\n")
    with pytest.raises(DataError, match="listed twice"):
        read_image_list(tmp_path / "night.txt")
    with pytest.raises(DataError, match="no <condition>"):
        read_conditions(tmp_path / "absent")


def test_real_map_with_rigs_equals_kapture(data_pack: Callable[[str], Path], tmp_path: Path) -> None:
    pack = data_pack("virtual_gallery_tutorial")
    scene = read_scene(pack / "mapping", need_poses=True, need_cameras=True)
    assert len(scene.records) == 12
    csv = kapture.io.csv
    data = csv.kapture_from_dir(str(pack / "mapping"))
    poses = kapture.rigs_remove(data.trajectories, data.rigs)
    for name, record in scene.records.items():
        np.testing.assert_allclose(scene.poses[name].translation, poses[record.timestamp, record.camera_id].t_raw)
    reader = read_local_features(pack / "local_features" / "r2d2_500", scene.names)
    assert reader.keypoints(scene.names[0]).shape == (500, 3)
    assert reader.descriptors(scene.names[0]).shape == (500, 128)
    shutil.copytree(pack / "mapping" / "sensors", tmp_path / "sensors", ignore=shutil.ignore_patterns("records_data"))
    (tmp_path / "sensors" / "rigs.txt").unlink()
    with pytest.raises(DataError, match="no pose"):
        read_scene(tmp_path, need_poses=True)
