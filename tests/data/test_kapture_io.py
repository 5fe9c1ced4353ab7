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
    beside_intrinsics,
    open_features,
    read_conditions,
    read_global_features,
    read_image_list,
    read_local_features,
    read_rig,
    read_scene,
    write_global_features,
    write_rig,
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


def test_numbers_of_numpy_are_written_as_numbers(scene: Scene) -> None:
    params = tuple(np.float64([420.1, 420.2, 256.3, 192.4]))
    camera = dataclasses.replace(scene.cameras["left"], params=params)
    write_scene(dataclasses.replace(scene, cameras={"left": camera}))
    assert read_scene(scene.root).cameras["left"] == camera


def test_kapture_itself_reads_what_is_written(scene: Scene) -> None:
    data = kapture.io.csv.kapture_from_dir(str(scene.root))
    assert data.trajectories[2, "left"].t_raw == pytest.approx([0.2, 0, 1 / 3])
    assert len(list(kapture.flatten(data.records_camera))) == 3


@pytest.mark.parametrize(
    ("file", "found"),
    [
        ("place", "it is a file"),
        ("place/sparse/0/cameras.bin", "it holds a COLMAP model"),
        ("place/cameras.txt", "it holds a COLMAP model"),
        ("place/a.JPG", "it is a folder of images"),
        ("place/notes.md", "neither lies a COLMAP model there"),
    ],
)
def test_what_is_no_kapture_dataset_is_told_the_way_in(tmp_path: Path, file: str, found: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).touch()
    with pytest.raises(DataError) as error:
        read_scene(tmp_path / "place")
    line = str(error.value)
    assert f"is not a kapture dataset with images; {found}. `gloam localize` takes the folder of a COLMAP model" in line
    assert "a list of 'name MODEL width height parameters'" in line
    assert "\n" not in line


def test_a_dataset_that_lacks_a_file_or_is_not_there_is_told_no_other_way(scene: Scene, tmp_path: Path) -> None:
    (scene.root / "sensors" / "records_camera.txt").unlink()
    for place in (scene.root, tmp_path / "absent"):
        with pytest.raises(DataError, match=r"is not a kapture dataset with images$"):
            read_scene(place)


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


def test_a_scene_is_written_sorted_and_whole(tmp_path: Path) -> None:
    pose = Pose((0.5, 0.5, -0.5, 0.5), (1, 2.5, -3))
    made = Scene(
        tmp_path,
        cameras={"b": Camera("SIMPLE_PINHOLE", 4, 3, (5.5, 2, 1.5)), "a": Camera("PINHOLE", 8, 6, (1, 2, 3, 4))},
        records={"z.jpg": Record("b", 2), "y.jpg": Record("a", 10), "x.jpg": Record("u", 2), "w.jpg": Record("v", 2)},
        poses={"z.jpg": pose, "none of these.jpg": pose},
    )
    write_scene(made)
    header = "# kapture format: 1.1"
    texts = {path.name: path.read_text() for path in (tmp_path / "sensors").iterdir()}
    assert texts == {
        "sensors.txt": f"{header}\n# sensor_id, name, sensor_type, [sensor_params]+\n"
        "a, a, camera, PINHOLE, 8, 6, 1, 2, 3, 4\nb, b, camera, SIMPLE_PINHOLE, 4, 3, 5.5, 2, 1.5\n"
        "u, u, camera, UNKNOWN_CAMERA, 0, 0\nv, v, camera, UNKNOWN_CAMERA, 0, 0\n",
        "records_camera.txt": f"{header}\n# timestamp, device_id, image_path\n"
        "2, b, z.jpg\n2, u, x.jpg\n2, v, w.jpg\n10, a, y.jpg\n",
        "trajectories.txt": f"{header}\n# timestamp, device_id, qw, qx, qy, qz, tx, ty, tz\n"
        "2, b, 0.5, 0.5, -0.5, 0.5, 1.0, 2.5, -3.0\n",
    }
    again = read_scene(tmp_path)
    assert (again.root, again.cameras, again.records) == (tmp_path, made.cameras, made.records)
    assert again.poses == {"z.jpg": pose}


@pytest.mark.parametrize(("name", "reason"), [("a,b.jpg", "contains a comma"), ("../a.jpg", r"\.\."), ("/a.jpg", "/a")])
def test_names_that_kapture_cannot_hold_are_refused(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        write_scene(Scene(tmp_path, records={name: Record("c", 1)}))
    assert not (tmp_path / "sensors").exists()


def test_two_cameras_may_share_a_time_and_two_times_a_camera(tmp_path: Path) -> None:
    made = Scene(tmp_path, records={"a": Record("l", 1), "b": Record("r", 1), "c": Record("l", 2)})
    write_scene(made)
    assert read_scene(tmp_path).records == made.records


def test_what_is_needed_of_every_image_is_counted(scene: Scene) -> None:
    records = scene.records | {"night/0.jpg": Record("right", 9), "night/1.jpg": Record("right", 10)}
    write_scene(dataclasses.replace(scene, records=records))
    where = f"{scene.root}: 2 of 5 images have no"
    with pytest.raises(DataError) as poses:
        read_scene(scene.root, need_poses=True)
    assert str(poses.value) == f"{where} pose in trajectories.txt, first 'night/0.jpg'"
    with pytest.raises(DataError) as cameras:
        read_scene(scene.root, need_cameras=True)
    assert str(cameras.value) == f"{where} intrinsics in sensors.txt, first 'night/0.jpg' (camera 'right')"


def test_rigs_become_poses_of_their_cameras(scene: Scene) -> None:
    turned = Pose((np.sqrt(0.5), 0.0, np.sqrt(0.5), 0.0), (0.5, 0.0, 0.0))  # of the camera in the rig
    rig = Pose((np.sqrt(0.5), np.sqrt(0.5), 0.0, 0.0), (1.0, 2.0, 3.0))  # of the rig in the world

    def row(*parts: object) -> str:
        return ", ".join(map(str, parts)) + "\n"

    sensors = scene.root / "sensors"
    numbers = (*rig.quaternion, *rig.translation)
    rows = row(0, "rig", *numbers) + row(1, "left", *numbers) + row(5, "rig", *numbers)
    (sensors / "trajectories.txt").write_text(rows)
    (sensors / "rigs.txt").write_text(row("rig", "left", *turned.quaternion, *turned.translation))
    found = read_scene(scene.root).poses
    assert sorted(found) == ["day/left/0.jpg", "day/left/1.jpg"]  # time 5 has no image
    expected = Pose.from_matrix(
        turned.rotation @ rig.rotation, turned.rotation @ np.array(rig.translation) + np.array(turned.translation)
    )
    np.testing.assert_allclose(found["day/left/0.jpg"].rotation, expected.rotation, atol=1e-9)
    np.testing.assert_allclose(found["day/left/0.jpg"].translation, expected.translation, atol=1e-9)
    assert found["day/left/1.jpg"] == rig
    known = (scene.root / "sensors" / "rigs.txt").read_text()
    # Of a pose or mount of which a part is not known there is no pose; the others have theirs.
    (sensors / "rigs.txt").write_text(
        known + row("rig", "other", *[""] * 4, 1, 2, 3) + row("rig", "third", 1, *[""] * 6)
    )
    with (sensors / "trajectories.txt").open("a") as file:
        file.write(row(2, "rig", *[""] * 4, 1, 2, 3) + row(3, "rig", *rig.quaternion, *[""] * 3))
    assert read_scene(scene.root).poses == found
    for nothing in ("", row("rig", "left", *[""] * 7)):
        (sensors / "rigs.txt").write_text(nothing)
        assert read_scene(scene.root).poses == {"day/left/1.jpg": rig}


def test_a_rig_round_trips(tmp_path: Path) -> None:
    """Written and read the same; none where there is none, or where there are several."""
    mounts = {
        "left": Pose((0.6, 0.0, 0.8, 0.0), (0.1, 1 / 3, -2.0)),
        "rear": Pose((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
    }
    assert read_rig(tmp_path) == {}
    write_rig(tmp_path, "car", mounts)
    assert read_rig(tmp_path) == mounts
    rigs = tmp_path / "sensors" / "rigs.txt"
    rigs.write_text(rigs.read_text().replace("car, rear", "van, rear"))
    assert read_rig(tmp_path) == {}


def test_rigs_that_cannot_be_moved_are_named(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    (scene.root / "sensors" / "trajectories.txt").write_text("1, a, 1, 0, 0, 0, 0, 0, 0\n")
    (scene.root / "sensors" / "rigs.txt").write_text("a, b, 1, 0, 0, 0, 0, 0, 0\nb, a, 1, 0, 0, 0, 0, 0, 0\n")
    assert read_scene(scene.root).poses == {}  # rigs that lead to one another carry no camera

    def fails(*_: object) -> None:
        raise KeyError("lost")

    monkeypatch.setattr(kapture, "rigs_remove_inplace", fails)
    with pytest.raises(DataError, match=r"rigs\.txt: the rigs are malformed \('lost'\); correct them$"):
        read_scene(scene.root)


def test_a_place_beside_intrinsics_is_known(scene: Scene, tmp_path: Path) -> None:
    images = scene.root / "sensors" / "records_data" / "day"
    images.mkdir(parents=True)
    (tmp_path / "link").symlink_to(images)
    for place in (scene.root, str(scene.root), images.parent, images, images / "a.jpg", tmp_path / "link"):
        assert beside_intrinsics(place)
    for place in (tmp_path, scene.root / "sensors", scene.root / "other", "https://host/a"):
        assert not beside_intrinsics(place)
    (scene.root / "sensors" / "sensors.txt").unlink()
    assert not beside_intrinsics(scene.root)
    assert not beside_intrinsics(images)


def put_features(folder: Path, kind: str, values: dict[str, np.ndarray], name: str = "made", more: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    first = next(iter(values.values()))
    (folder / f"{kind}.txt").write_text(f"{name}, {first.dtype}, {first.shape[1]}{more}\n")
    for image, rows in values.items():
        path = folder / f"{image}.{ {'keypoints': 'kpt', 'descriptors': 'desc', 'global_features': 'gfeat'}[kind] }"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rows.tobytes())


def test_local_features_are_those_of_images_with_both_parts(tmp_path: Path) -> None:
    points = {name: np.random.default_rng(1).normal(size=(3, 4)) for name in ("b.jpg", "a/c.jpg", "x.jpg")}
    values = {name: np.arange(6, dtype=np.uint8).reshape(3, 2) for name in ("a/c.jpg", "b.jpg", "y.jpg")}
    put_features(tmp_path / "keypoints", "keypoints", points)
    put_features(tmp_path / "descriptors", "descriptors", values, more=", made, L2")
    reader = read_local_features(tmp_path, ["b.jpg"])
    assert (reader.names, reader.feature_type) == (["a/c.jpg", "b.jpg"], tmp_path.name)
    assert reader.folders == (tmp_path / "keypoints", tmp_path / "descriptors")
    for found, stored in ((reader.keypoints("b.jpg"), points), (reader.descriptors("b.jpg"), values)):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, stored["b.jpg"].astype(np.float32))
    with pytest.raises(DataError) as error:
        read_local_features(tmp_path, ["y.jpg", "b.jpg", "x.jpg"])
    assert str(error.value) == f"{tmp_path}: 2 images have no local features, first 'x.jpg'"


def test_features_are_found_by_type_and_layout(tmp_path: Path) -> None:
    rows = {"a.jpg": np.ones((1, 2), np.float32)}
    tree = tmp_path / "tree"
    for name in ("one", "two"):
        put_features(tree / "reconstruction" / "global_features" / name, "global_features", rows, name, ", L2")
    for name in ("one", "two"):
        found = open_features(tree, "global_features", name)
        assert (found.feature_type, found.folder.name) == (name, name)
    with pytest.raises(DataError) as error:
        open_features(tree, "global_features")
    assert str(error.value) == (
        f"{tree}: need one type of global_features, found one, two; name one of them or check the folder"
    )
    with pytest.raises(DataError, match=r"need one type of global_features, found none;"):
        open_features(tree, "global_features", "three")
    with pytest.raises(DataError, match="need one type of keypoints, found none"):
        open_features(tree, "keypoints")
    side = tmp_path / "gem"  # of kapture's recommended datasets
    put_features(side / "global_features", "global_features", rows, more=", L2")
    for root in (side, side / "global_features"):
        assert open_features(root, "global_features").feature_type == root.name
        assert open_features(root, "global_features", "any").feature_type == "any"
    many = {f"{number:02}.jpg": rows["a.jpg"] for number in range(12)}
    put_features(side / "global_features", "global_features", many, more=", L2")
    (side / "global_features" / "folder.gfeat").mkdir()
    assert open_features(side, "global_features").names == sorted([*many, "a.jpg"])


def test_a_global_feature_has_the_size_that_is_declared(tmp_path: Path) -> None:
    write_global_features(tmp_path, "tiny", [("a.jpg", np.ones(8, np.float32))], 8)
    path = tmp_path / "reconstruction" / "global_features" / "tiny" / "a.jpg.gfeat"
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(DataError, match=r"tiny: 'a\.jpg' has 16 values, 8 are declared$"):
        read_global_features(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="has 0 values, 8 are declared"):
        read_global_features(tmp_path)


def test_global_features_are_written_as_declared_and_without_those_that_are_gone(tmp_path: Path) -> None:
    folder = tmp_path / "reconstruction" / "global_features" / "tiny"
    rows = [("a.jpg", np.float64([1, 2])), ("b/c.jpg", np.float64([3, 4]))]
    assert write_global_features(tmp_path, "tiny", rows, 2, "float16", "cosine") == 2
    text = "# kapture format: 1.1\n# name, dtype, dsize, metric_type\ntiny, float16, 2, cosine\n"
    assert (folder / "global_features.txt").read_text() == text
    assert (folder / "b" / "c.jpg.gfeat").read_bytes() == np.array([3, 4], "<f2").tobytes()
    assert write_global_features(tmp_path, "tiny", rows[:1], 2, without=["b/c.jpg", "never.jpg"]) == 1
    names, matrix, _ = read_global_features(tmp_path)
    assert (names, matrix.tolist()) == (["a.jpg"], [[1, 2]])
    for name in ("../x", "a/../../x"):
        with pytest.raises(DataError):
            write_global_features(tmp_path, "tiny", [(name, np.ones(2))], 2)
        with pytest.raises(DataError):
            write_global_features(tmp_path, "tiny", [], 2, without=[name])


def test_rows_that_are_not_finite_are_counted(tmp_path: Path) -> None:
    values = np.ones((5, 3), np.float32)
    values[2, 1] = values[2, 2] = values[4, 0] = np.nan
    put_features(tmp_path, "keypoints", {"a.jpg": values})
    with pytest.raises(DataError) as error:
        open_features(tmp_path, "keypoints").array("a.jpg")
    said = "2 of 5 keypoints are not finite, first in row 2; extract this image again"
    assert str(error.value) == f"{tmp_path / 'a.jpg.kpt'}: {said}"
    with pytest.raises(DataError, match=r"no keypoints for image 'absent\.jpg'$"):
        open_features(tmp_path, "keypoints").array("absent.jpg")
    (tmp_path / "a.jpg.kpt").write_bytes(bytes(13))
    with pytest.raises(DataError, match=r"a\.jpg\.kpt: length is not a multiple of 3 values$"):
        open_features(tmp_path, "keypoints").array("a.jpg")


def test_an_image_that_is_listed_twice_is_named(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("x.jpg\ny.jpg\nz.jpg\ny.jpg\n")
    with pytest.raises(DataError, match=r"b\.txt: image 'y\.jpg' is listed twice$"):
        read_image_list(tmp_path / "b.txt")
    (tmp_path / "b.txt").write_text("x.jpg\n")
    (tmp_path / "a.txt").write_text("y.jpg\nx.jpg\n")
    (tmp_path / "c.csv").write_text("z.jpg\n")
    assert list(read_conditions(tmp_path).items()) == [("a", ["y.jpg", "x.jpg"]), ("b", ["x.jpg"])]
    with pytest.raises(DataError, match="the image list cannot be read"):
        read_image_list(tmp_path / "absent.txt")
