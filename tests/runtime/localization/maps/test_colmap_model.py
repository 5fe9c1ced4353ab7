"""A COLMAP model as it is on disk: what is read of it, and what is said of a damaged one."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gloam.data.scene import Record, SceneFiles, position_error, rotation_error
from gloam.errors import DataError
from gloam.runtime.localization.maps.colmap_model import is_colmap_model, read_colmap_model
from tests.runtime.localization.colmap_files import write_binary_model, write_text_model
from tests.runtime.localization.exact_world import CAMERA, MAP, POINTS, POSES, project, seen


@pytest.fixture(params=["text", "binary"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return (write_text_model if request.param == "text" else write_binary_model)(tmp_path / "model")


def test_text_and_binary_say_the_same(folder: Path) -> None:
    binary = (folder / "images.bin").is_file()
    model = read_colmap_model(folder, "pictures")
    scene, ending = model.scene, "bin" if binary else "txt"
    assert (scene.root, scene.images, scene.origin) == (folder, Path("pictures"), 0.5)
    assert scene.files == SceneFiles(f"cameras.{ending}", f"images.{ending}", f"images.{ending}")
    assert (scene.cameras, sorted(scene.names)) == ({"3": CAMERA}, sorted(MAP))
    assert scene.records["a.png"] == Record("3", 7 + MAP.index("a.png"))
    assert scene.image_path("a.png") == Path("pictures") / "a.png"
    for name in MAP:
        assert position_error(scene.poses[name], POSES[name]) < 1e-9
        assert rotation_error(scene.poses[name], POSES[name]) < 1e-6
        np.testing.assert_allclose(model.keypoints[name], project(POSES[name], POINTS[seen(name)]), atol=1e-3)
        rows = model.points.observed[name]
        np.testing.assert_allclose(model.points.points[rows], POINTS[seen(name)], atol=1e-9)
        assert model.has_keypoints(name, model.keypoints[name] + np.float32(0.005))
        assert not model.has_keypoints(name, model.keypoints[name] + np.float32(0.5))
        assert not model.has_keypoints(name, model.keypoints[name][:-1])
    assert model.points.mean_error < 1e-3


def test_a_keypoint_without_a_point_and_a_map_without_points(tmp_path: Path) -> None:
    folder = write_text_model(tmp_path)
    text = (folder / "images.txt").read_text().splitlines()[1:]
    x, y, point = text[1].split()[:3]
    images = [text[0], f"{x} {y} -1 9.5 8.5 -1"]
    (folder / "images.txt").write_text("\n".join(images) + "\n")
    (folder / "points3D.txt").write_text("")
    model = read_colmap_model(folder, "pictures")
    assert model.points.observed["m.png"].tolist() == [-1, -1]
    np.testing.assert_allclose(model.keypoints["m.png"], [[float(x), float(y)], [9.5, 8.5]], atol=1e-3)
    assert model.points.points.shape == (0, 3)
    (folder / "images.txt").write_text(text[0] + f"\n{x} {y} {point}\n")
    with pytest.raises(DataError, match=rf"image 'm\.png' sees point {point}, which points3D has not; copy the model"):
        read_colmap_model(folder, "pictures")


def test_what_is_a_model(tmp_path: Path) -> None:
    assert not is_colmap_model(tmp_path)
    (tmp_path / "images.txt").write_text("")
    assert is_colmap_model(tmp_path)
    with pytest.raises(DataError, match=r"cameras\.txt is missing; a COLMAP model is cameras, images, points3D, all"):
        read_colmap_model(tmp_path, "pictures")


def changed(path: Path, change: Callable[[bytes], bytes]) -> Path:
    before = path.read_bytes()
    path.write_bytes(change(before))
    assert path.read_bytes() != before
    return path


@pytest.mark.parametrize("part", ["cameras", "images", "points3D", "rigs", "frames"])
def test_a_binary_file_that_is_cut_off_is_named(tmp_path: Path, part: str) -> None:
    """pycolmap itself reads a part of some, and never comes back from others."""
    write_binary_model(tmp_path)
    path = tmp_path / f"{part}.bin"
    whole = path.read_bytes()
    for size in sorted({0, 4, 8, len(whole) // 3, len(whole) - 9, len(whole) - 1}):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError) as caught:
            read_colmap_model(tmp_path, "pictures")
        assert str(caught.value).startswith(f"{path}: is cut off in record ")
        assert str(caught.value).endswith(f", after {size} bytes; copy the model again")
    path.write_bytes(whole + b"\0")
    with pytest.raises(DataError, match=rf"^{path}: 1 bytes follow its last record"):
        read_colmap_model(tmp_path, "pictures")
    count = struct.pack("<Q", 2**62)
    path.write_bytes(count + whole[8:])
    with pytest.raises(DataError, match="is cut off in record"):
        read_colmap_model(tmp_path, "pictures")


def test_a_binary_camera_of_an_unknown_model_is_named(tmp_path: Path) -> None:
    path = write_binary_model(tmp_path) / "cameras.bin"
    changed(path, lambda content: content[:12] + struct.pack("<i", 99) + content[16:])
    with pytest.raises(DataError, match=rf"^{path}: camera 3 is of the unknown camera model 99; update pycolmap$"):
        read_colmap_model(tmp_path, "pictures")


@pytest.mark.parametrize(
    ("part", "old", "new", "message"),
    [
        ("cameras", "PINHOLE", "PINBALL", r"cameras\.txt:2: unknown camera model 'PINBALL'; choose one of SIMPLE_PINH"),
        (
            "cameras",
            "3 PINHOLE 640 480 500.0 510.0 320.0 240.0",
            "3",
            r"cameras\.txt:2: unknown camera model ''; choose",
        ),
        ("cameras", " 240.0", "", r": pycolmap cannot read this COLMAP model \(Check failed: camera\.VerifyParams"),
        ("cameras", " 500.0", " -500.0", r"cameras\.txt: camera 3, PINHOLE, has no focal length above 0 among -500\.0"),
        ("cameras", " 640", " 0", r"cameras\.txt: camera 3 has a size of 0x480 pixels"),
        (
            "cameras",
            "PINHOLE 640 480 500.0 510.0 320.0 240.0",
            "EQUIRECTANGULAR 640 480 640 480",
            "has no focal length",
        ),
        ("images", " 3 a.png", " 4 a.png", ": pycolmap cannot read this COLMAP model"),
        (
            "images",
            " 3 a.png",
            " 3 ../a.png",
            r"images\.txt: image name '\.\./a\.png' contains '\.\.'; rename the image",
        ),
        ("images", " 3 a.png", " 3 b.png", r"images\.txt: image 'b\.png' is there twice; remove one of the two"),
        ("images", "\n7 ", "\n", "pycolmap cannot read this COLMAP model"),
        ("points3D", " 1 2 3 0.5 7 ", " 1 2 3 0.5 70 ", r"pycolmap cannot read this COLMAP model \(Image with ID 70"),
        ("points3D", " 1 2 3 0.5 7 ", " 1 2 3 0.5 7 9", "pycolmap cannot read this COLMAP model"),
    ],
)
def test_what_is_wrong_with_a_text_model_is_one_line(
    tmp_path: Path, part: str, old: str, new: str, message: str
) -> None:
    path = write_text_model(tmp_path) / f"{part}.txt"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=message) as caught:
        read_colmap_model(tmp_path, "pictures")
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("quaternion", "message"),
    [
        ("0 0 0 0", "the quaternion 0, 0, 0, 0 is not of length 1"),
        ("1e9 0 0 0", r"the quaternion 1e\+09, 0, 0, 0 is not of length 1"),
        ("nan 0 0 0", "pycolmap cannot read this COLMAP model"),
    ],
)
def test_a_pose_that_is_none_is_named(tmp_path: Path, quaternion: str, message: str) -> None:
    path = write_text_model(tmp_path) / "images.txt"
    (_, first, *rest) = path.read_text().splitlines()
    fields = first.split()
    path.write_text("\n".join([" ".join([fields[0], quaternion, *fields[5:]]), *rest]) + "\n")
    with pytest.raises(DataError, match=message):
        read_colmap_model(tmp_path, "pictures")


def test_the_binary_files_are_read_where_both_are_there(tmp_path: Path) -> None:
    folder = write_binary_model(tmp_path)
    for part in ("cameras", "images", "points3D"):
        shutil.copy(folder / "text" / f"{part}.txt", folder)
    assert read_colmap_model(folder, "x").scene.files.images == "images.bin"
    (folder / "points3D.bin").unlink()
    assert read_colmap_model(folder, "x").scene.files.images == "images.txt"
    (folder / "points3D.txt").unlink()
    with pytest.raises(DataError, match=r": points3D\.bin is missing; a COLMAP model is"):
        read_colmap_model(folder, "x")
