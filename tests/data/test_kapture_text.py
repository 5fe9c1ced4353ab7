"""Each row of kapture's text files: what it says, or what is wrong with it and in which line."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gloam.data.kapture_text import (
    DTYPES,
    FARTHEST,
    LARGEST,
    PARAMETERS,
    read_features_type,
    read_records,
    read_sensors,
    read_transforms,
    transform_problem,
)
from gloam.data.scene import Camera
from gloam.errors import DataError

HEADER = "# kapture format: 1.1\n"


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    def write(*rows: str) -> Path:
        path = tmp_path / "file.txt"
        path.write_text(HEADER + "".join(f"{row}\n" for row in rows))
        return path

    return write


def refused(read: Callable[[Path], Any], path: Path, line: int | None, message: str) -> None:
    """The message, whole, with the file and the line in front."""
    with pytest.raises(DataError) as error:
        read(path)
    where = f"{path}:{line}: " if line is not None else f"{path}: "
    assert str(error.value) == where + message


def test_sensors(written: Callable[..., Path]) -> None:
    path = written(
        "a, left one, camera, PINHOLE, 640, 480, 500, 510.5, 320, 240",
        "b, , camera, UNKNOWN_CAMERA, 0, 0",
        "wifi, w, wifi",
        "c,c,camera,SIMPLE_RADIAL,1048576,1,1e-3,-0.5,9,-0.25",
    )
    assert read_sensors(path) == {
        "a": Camera("PINHOLE", 640, 480, (500.0, 510.5, 320.0, 240.0)),
        "c": Camera("SIMPLE_RADIAL", 1048576, 1, (0.001, -0.5, 9.0, -0.25)),
    }
    assert isinstance(read_sensors(path)["a"].width, int)


@pytest.mark.parametrize("model", PARAMETERS)
def test_every_model_has_its_number_of_parameters_and_focal_lengths(written: Callable[..., Path], model: str) -> None:
    count = PARAMETERS[model]
    two = model in ("PINHOLE", "OPENCV", "OPENCV_FISHEYE", "FULL_OPENCV", "FOV", "THIN_PRISM_FISHEYE")
    values = [5.0, 6.0 if two else -6.0, *(-1.0 for _ in range(count - 2))]
    row = ", ".join(map(str, values))
    assert read_sensors(written(f"a, a, camera, {model}, 4, 3, {row}"))["a"].params == tuple(values)
    what = f"camera 'a' has malformed intrinsics: {count + 1} numbers where {model} has {count + 2}; correct the row"
    refused(read_sensors, written(f"a, a, camera, {model}, 4, 3, {', '.join(map(str, values[:-1]))}"), 2, what)
    for at in range(1 + two):
        bad = [*values[:at], 0.0, *values[at + 1 :]]
        said = " or ".join(map(str, bad[: 1 + two]))
        what = (
            f"camera 'a' has malformed intrinsics: a focal length of {said} pixels; must be above 0, or UNKNOWN_CAMERA"
        )
        refused(read_sensors, written(f"a, a, camera, {model}, 4, 3, {', '.join(map(str, bad))}"), 2, what)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a, a", "malformed; expected sensor_id, name, sensor_type, parameters"),
        (
            "a, a, camera",
            "camera 'a' has malformed intrinsics: unknown model ''; choose UNKNOWN_CAMERA or one of "
            + ", ".join(PARAMETERS),
        ),
        *(
            (
                f"a, a, camera, SIMPLE_PINHOLE, {size.replace('x', ', ')}, 1, 2, 3",
                f"camera 'a' has malformed intrinsics: a size of {size} pixels; must be above 0, or UNKNOWN_CAMERA",
            )
            for size in ("0x4", "4x0", "-1x4", "4.5x4", f"{LARGEST + 1}x4", f"4x{LARGEST + 1}")
        ),
        (
            f"a, a, camera, SIMPLE_PINHOLE, 4, 4, 1, {'x' * 50}, 3",
            f"camera 'a' has malformed intrinsics: '{'x' * 40}' is not a finite number; "
            "correct the row, or leave it out",
        ),
    ],
)
def test_sensors_that_are_none(written: Callable[..., Path], row: str, message: str) -> None:
    refused(read_sensors, written("z, z, wifi", row), 3, message)


def test_a_sensor_is_there_once(written: Callable[..., Path]) -> None:
    again = "sensor 'a' is there already, in line 2; remove one of the two"
    refused(read_sensors, written("a, a, wifi", "b, b, wifi", "a, b, wifi"), 4, again)


def test_records_come_by_time_and_camera(written: Callable[..., Path]) -> None:
    path = written("10, b, x/1.jpg", "2, c, y.jpg", "10, a, ./x//2.jpg", "-3, a, view 1.jpg")
    assert list(read_records(path)) == [
        (-3, "a", "view 1.jpg"),
        (2, "c", "y.jpg"),
        (10, "a", "x/2.jpg"),
        (10, "b", "x/1.jpg"),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1, a", "malformed; expected timestamp, device_id, image_path"),
        ("1, a, b, c", "malformed; expected timestamp, device_id, image_path"),
        (f"1.5{'0' * 50}, a, b", f"malformed: timestamp '1.5{'0' * 37}' is not a whole number; correct the row"),
        ("8, a, one.jpg", "image 'one.jpg' is there already, in line 2; remove one of the two"),
        ("7, a, b.jpg", "an image of timestamp 7 and camera 'a' is there already, in line 2; remove one of the two"),
    ],
)
def test_records_that_are_none(written: Callable[..., Path], row: str, message: str) -> None:
    refused(lambda path: list(read_records(path)), written("7, a, one.jpg", "7, b, two.jpg", row), 4, message)


def test_a_name_that_leaves_the_folder_is_refused(written: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match=r":2: image name '\.\./a' .*; rename the image$"):
        list(read_records(written("1, a, ../a")))


def test_transforms_and_their_unknown_parts(written: Callable[..., Path]) -> None:
    rows = ("5, a, 1, 0, -0.5, 0, 3, 2, 1e3", "4, a, , , , , 1, 2, 3", "4, b, 1, 0, 0, 0, , , ", "04, c, ,1,0,0, 1, ,2")
    path = written(*rows)
    known = (1.0, 0.0, -0.5, 0.0)
    assert read_transforms(path) == [
        ("5", "a", (known, (3.0, 2.0, 1000.0))),
        ("4", "a", (None, (1.0, 2.0, 3.0))),
        ("4", "b", ((1.0, 0.0, 0.0, 0.0), None)),
        ("4", "c", (None, None)),
    ]
    rigs = written("rig 1, a, 1, 0, 0, 0, 0, 0, 0", "rig 1, b, 1, 0, 0, 0, 0, 0, 0")
    assert [row[:2] for row in read_transforms(rigs, of_rig=True)] == [("rig 1", "a"), ("rig 1", "b")]
    refused(read_transforms, rigs, 2, "malformed: timestamp 'rig 1' is not a whole number; correct the row")


@pytest.mark.parametrize("of_rig", [False, True])
def test_transforms_that_are_none(written: Callable[..., Path], of_rig: bool) -> None:
    first = "rig" if of_rig else "timestamp"
    good = "7, a, 1, 0, 0, 0, 1, 2, 3"
    for row, message in (
        (good[:-3], f"malformed; expected {first}, device_id, qw, qx, qy, qz, tx, ty, tz"),
        (good, f"a pose of {first} 7 and device 'a' is there already, in line 2; remove one of the two"),
        (
            "8, a, 1, 0, x, 0, 1, 2, 3",
            "the pose is malformed: 'x' is not a finite number; correct the row, or leave it out",
        ),
        (
            "8, a, 9e3, 0, 0, 0, 1, 2, 3",
            "the pose is malformed: the quaternion 9000, 0, 0, 0 is not of length 1; correct the row, or leave it out",
        ),
        (
            "8, a, 1, 0, 0, 0, 1, -1e13, 3",
            "the pose is malformed: the translation 1, -1e+13, 3 is not finite; correct the row, or leave it out",
        ),
    ):
        refused(lambda path: read_transforms(path, of_rig=of_rig), written(good, row), 3, message)
    read_transforms(written(good, good.replace("7", "8"), good.replace("a", "b")), of_rig=of_rig)


def test_a_pose_has_a_length_near_one_and_a_place() -> None:
    assert transform_problem(None, None) is None
    for length in (1e-3, 1.0, 1e3):
        assert transform_problem((0.0, length, 0.0, 0.0), (FARTHEST, -FARTHEST, 0.0)) is None
    for length in (0.99e-3, 1.01e3, math.nan, math.inf):
        assert (
            transform_problem((0.0, 0.0, length, 0.0), None) == f"the quaternion 0, 0, {length:g}, 0 is not of length 1"
        )
    for value in (1.01 * FARTHEST, -math.inf, math.nan):
        for at in range(3):
            place = tuple(value if number == at else 0.0 for number in range(3))
            said = ", ".join(f"{number:g}" for number in place)
            assert transform_problem(None, place) == f"the translation {said} is not finite"


@pytest.mark.parametrize(
    ("kind", "more"), [("keypoints", ""), ("descriptors", ", kp, L2"), ("global_features", ", L2")]
)
def test_types_of_features(written: Callable[..., Path], kind: str, more: str) -> None:
    for text, dtype in DTYPES.items():
        found = read_features_type(written(f"made, {text}, 7{more}"), kind)
        assert found == ("made", np.dtype(dtype), 7)
    for size in (1, LARGEST):
        assert read_features_type(written(f"made, uint8, {size}{more}"), kind)[2] == size
    for size in (0, LARGEST + 1):
        what = f"malformed feature configuration: {size} values are not 1 to {LARGEST}"
        refused(lambda path: read_features_type(path, kind), written("#", f"made, int8, {size}{more}"), 3, what)
    wanted = {"keypoints": 3, "descriptors": 5, "global_features": 4}[kind]
    names = ("name", "dtype", "dsize", *(("keypoints_type",) * (wanted == 5)), *(("metric_type",) * (wanted > 3)))
    what = f"malformed feature configuration; expected one row of {', '.join(names)}"
    for rows in ([], ["made, float32"], [f"made, float32, 7{more}, more"]):
        refused(lambda path: read_features_type(path, kind), written(*rows), None, what)
    what = f"malformed feature configuration: dtype '{'f' * 40}' is none of {', '.join(DTYPES)}"
    refused(lambda path: read_features_type(path, kind), written(f"made, {'f' * 41}, 7{more}"), 2, what)


def test_numbers_of_bits_that_numpy_has() -> None:
    assert "float8" not in DTYPES
    assert {"float16", "uint8", "int64"} < set(DTYPES)
    assert (DTYPES["float"], DTYPES["int"]) == ("float64", "int64")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for read in (read_sensors, lambda path: list(read_records(path)), read_transforms):
        with pytest.raises(DataError, match=r"absent\.txt: a kapture file cannot be read"):
            read(tmp_path / "absent.txt")
