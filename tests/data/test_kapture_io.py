"""Kapture datasets are read and written as the kapture package does, and gaps are named."""

from __future__ import annotations

import dataclasses
import shutil
import tarfile
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


ROWS = {
    "sensors.txt": "left, left, camera, PINHOLE, 512, 384, 420.0, 420.0, 256.0, 192.0",
    "trajectories.txt": "1, left, 1.0, 0.0, 0.0, 0.0, 0.1, 0.0, 0.3333333333333333",
    "records_camera.txt": "1, left, day/left/1.jpg",
}


@pytest.mark.parametrize(
    ("file", "at", "value"),
    [
        *(("trajectories.txt", at, bad) for at in range(2, 9) for bad in ("nan", "inf", "-inf", "1e300", "", "x")),
        *(("sensors.txt", at, bad) for at in range(4, 10) for bad in ("nan", "inf", "-inf", "", "x")),
        *(("sensors.txt", at, bad) for at in range(4, 8) for bad in ("0", "-1")),
        *(("sensors.txt", at, bad) for at in (4, 5) for bad in ("2.5", "1e300")),
        ("sensors.txt", 3, "PINHOL"),
        ("records_camera.txt", 0, "1.5"),
        ("trajectories.txt", 0, "nan"),
    ],
)
def test_every_number_is_finite_or_named_with_its_line(scene: Scene, file: str, at: int, value: str) -> None:
    path = scene.root / "sensors" / file
    lines = path.read_text().splitlines()
    number = lines.index(ROWS[file])
    fields = ROWS[file].split(", ")
    fields[at] = value
    path.write_text("\n".join([*lines[:number], ", ".join(fields), *lines[number + 1 :]]))
    if value == "" and file == "trajectories.txt":  # kapture's way to say that a part of the pose is not known
        assert "day/left/1.jpg" not in read_scene(scene.root).poses
        return
    with pytest.raises(DataError, match=f"{path}:{number + 1}: .*malformed") as error:
        read_scene(scene.root)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("quaternion", ["0, 0, 0, 0", "0, 0, 0, 1e-200", "1e200, 0, 0, 0"])
def test_a_quaternion_that_no_rotation_has_is_refused(scene: Scene, quaternion: str) -> None:
    path = scene.root / "sensors" / "trajectories.txt"
    path.write_text(f"1, left, {quaternion}, 0, 0, 0\n")
    with pytest.raises(DataError, match=f"{path}:1: .*not of length 1"):
        read_scene(scene.root)


@pytest.mark.parametrize(
    ("file", "row", "reason"),
    [
        ("records_camera.txt", "1, left, other.jpg", "timestamp 1 and camera 'left' is there already, in line 4"),
        ("records_camera.txt", "7, left, ./day//left/1.jpg", "image 'day/left/1.jpg' is there already, in line 4"),
        ("trajectories.txt", ROWS["trajectories.txt"], "timestamp 1 and device 'left' is there already"),
        ("sensors.txt", ROWS["sensors.txt"], "sensor 'left' is there already"),
    ],
)
def test_nothing_is_there_twice(scene: Scene, file: str, row: str, reason: str) -> None:
    path = scene.root / "sensors" / file
    path.write_text(f"{path.read_text()}{row}\n")
    with pytest.raises(DataError, match=reason):
        read_scene(scene.root)


def test_texts_take_a_byte_order_mark(scene: Scene) -> None:
    for path in (scene.root / "sensors").glob("*.txt"):
        rows = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).encode())
    again = read_scene(scene.root)
    assert (again.cameras, again.records, again.poses) == (scene.cameras, scene.records, scene.poses)


def test_what_cannot_be_read_back_is_not_written(scene: Scene) -> None:
    nan = dataclasses.replace(scene, poses={"day/left/1.jpg": Pose((1, 0, 0, 0), (float("nan"), 0, 0))})
    with pytest.raises(DataError, match=r"day/left/1\.jpg' has no usable pose"):
        write_scene(nan)
    same = dataclasses.replace(scene, records={name: Record("left", 3) for name in ("a.jpg", "b.jpg")})
    with pytest.raises(DataError, match=r"'a\.jpg' and 'b\.jpg' are of one camera 'left' and timestamp 3"):
        write_scene(same)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features_are_finite_or_named(scene: Scene, bad: float) -> None:
    rows = np.ones((4, 8), np.float32)
    write_global_features(scene.root, "tiny", [(f"{row}.jpg", values) for row, values in enumerate(rows)], 8)
    rows[2, 5] = bad
    rows[2].tofile(scene.root / "reconstruction/global_features/tiny/2.jpg.gfeat")
    with pytest.raises(DataError, match=r"2\.jpg\.gfeat: 1 of 1 global_features are not finite"):
        read_global_features(scene.root)
    with pytest.raises(DataError, match=r"'2\.jpg': its descriptor is not finite"):
        write_global_features(scene.root, "tiny", [("2.jpg", rows[2])], 8)
    with pytest.raises(DataError, match="not finite as float16"):
        write_global_features(scene.root, "tiny", [("2.jpg", np.full(8, 1e6, np.float32))], 8, "float16")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("gem, __import__('os').system('touch {mark}'), 4, L2", "dtype"),
        ("gem, float128, 4, L2", "dtype"),
        ("gem, float32, 1e9, L2", "not a whole number"),
        ("gem, float32, 99999999999, L2", "are not 1 to"),
        ("gem, float32, 0, L2", "are not 1 to"),
        ("gem, float32, 4", "expected one row of name, dtype, dsize, metric_type"),
        ("", "expected one row"),
    ],
)
def test_a_type_of_features_is_read_and_never_run(scene: Scene, tmp_path: Path, row: str, reason: str) -> None:
    write_global_features(scene.root, "gem", [("a.jpg", np.ones(4, np.float32))], 4)
    config = scene.root / "reconstruction" / "global_features" / "gem" / "global_features.txt"
    mark = tmp_path / "mark"
    config.write_text("# kapture format: 1.1\n" + row.format(mark=mark) + "\n")
    with pytest.raises(DataError, match=reason):
        open_features(scene.root, "global_features")
    assert not mark.exists()


def test_features_are_read_from_a_tar_as_from_files(scene: Scene) -> None:
    write_global_features(scene.root, "gem", [("a.jpg", np.arange(4, dtype=np.float32)), ("b/c.jpg", np.ones(4))], 4)
    folder = scene.root / "reconstruction" / "global_features" / "gem"
    with tarfile.open(folder / "global_features.tar", "w") as archive:
        for path in sorted(folder.rglob("*.gfeat")):
            archive.add(path, f"./{path.relative_to(folder).as_posix()}")
            path.unlink()
    features = open_features(scene.root, "global_features")
    assert features.names == ["a.jpg", "b/c.jpg"]
    assert features.array("a.jpg").tolist() == [[0, 1, 2, 3]]
    with pytest.raises(DataError, match=r"no global_features for image 'd\.jpg'"):
        features.array("d.jpg")
    tar = folder / "global_features.tar"
    tar.write_bytes(tar.read_bytes()[:700])
    with pytest.raises(DataError, match=r"global_features\.tar: .*pack the features again"):
        open_features(scene.root, "global_features")


def test_poses_of_an_earlier_scene_do_not_stay(scene: Scene) -> None:
    assert (scene.root / "sensors" / "trajectories.txt").is_file()
    write_scene(dataclasses.replace(scene, poses={}))
    assert not (scene.root / "sensors" / "trajectories.txt").exists()
    write_scene(dataclasses.replace(scene, poses={"unrecorded.png": Pose((1, 0, 0, 0), (0, 0, 0))}))
    assert not (scene.root / "sensors" / "trajectories.txt").exists()
