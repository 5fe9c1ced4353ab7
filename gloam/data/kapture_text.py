"""The text files of a kapture dataset's sensors, row by row: every number finite, every row once, else its line.

The rows are those of kapture 1.1, ``a, b, c``; a byte order mark and comments are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gloam.data.scene import Camera
from gloam.data.text import plain_name, text_lines
from gloam.errors import DataError
from gloam.files import bad_name

PARAMETERS = {  # of COLMAP's camera models, after width and height
    "SIMPLE_PINHOLE": 3,
    "PINHOLE": 4,
    "SIMPLE_RADIAL": 4,
    "RADIAL": 5,
    "OPENCV": 8,
    "OPENCV_FISHEYE": 8,
    "FULL_OPENCV": 12,
    "FOV": 5,
    "SIMPLE_RADIAL_FISHEYE": 4,
    "RADIAL_FISHEYE": 5,
    "THIN_PRISM_FISHEYE": 12,
}
ONE_FOCAL = ("SIMPLE_", "RADIAL")  # models whose names begin so have one focal length, the others two
UNKNOWN = "UNKNOWN_CAMERA"
FARTHEST = 1e12  # metres; more is no place, and its square would soon be infinite
UNIT = (1e-3, 1e3)  # lengths of a quaternion that can be scaled to 1 without loss
LARGEST = 1 << 20  # pixels of a side

# As kapture writes them; its own reader would evaluate any other text as Python.
DTYPES = {f"{kind}{bits}": f"{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)}
DTYPES |= {"float": "float64", "int": "int64"}
del DTYPES["float8"]

Numbers = tuple[float, ...]
Transform = tuple[Numbers | None, Numbers | None]  # quaternion (w, x, y, z) and translation (x, y, z), where known


def read_sensors(path: Path) -> dict[str, Camera]:
    """Cameras with intrinsics, by sensor id.

    Raises:
        DataError: unreadable, a malformed row, or a sensor twice; the line is named.
    """
    found: dict[str, int] = {}
    cameras = {}
    for line, fields in _rows(path):
        where = f"{path}:{line}"
        if len(fields) < 3:
            raise DataError(f"{where}: malformed; expected sensor_id, name, sensor_type, parameters")
        key, _, kind, *parameters = fields
        _once(found, key, line, where, f"sensor {key!r}")
        if kind == "camera" and parameters[:1] != [UNKNOWN]:
            cameras[key] = read_camera(parameters, where, f"camera {key!r}")
    return cameras


def read_camera(parameters: list[str], where: str, what: str, *, needed: bool = False) -> Camera:
    """Intrinsics of ``MODEL, width, height`` and the model's parameters.

    Args:
        parameters: as text.
        where: file and line, for the message.
        what: has them, for the message.
        needed: whether the message leaves out that an unknown camera may be stated.

    Raises:
        DataError: an unknown model, another count of numbers, or numbers that are no intrinsics.
    """
    model, *texts = parameters or [""]
    if model not in PARAMETERS:
        raise DataError(
            f"{where}: {what} has malformed intrinsics: unknown model {model!r}; choose "
            f"{'' if needed else f'{UNKNOWN} or '}one of {', '.join(PARAMETERS)}"
        )
    wanted = PARAMETERS[model] + 2
    if len(texts) != wanted:
        raise DataError(
            f"{where}: {what} has malformed intrinsics: {len(texts)} numbers where {model} has {wanted}; "
            "correct the row"
        )
    values = [_number(text, where, f"{what} has malformed intrinsics") for text in texts]
    focal = values[2 : 3 if model.startswith(ONE_FOCAL) else 4]
    wrong = None
    if not all(value.is_integer() and 0 < value <= LARGEST for value in values[:2]):
        wrong = f"a size of {texts[0]}x{texts[1]} pixels"
    elif not all(value > 0 for value in focal):
        wrong = f"a focal length of {' or '.join(texts[2 : 2 + len(focal)])} pixels"
    if wrong:
        otherwise = "" if needed else f", or {UNKNOWN}"
        raise DataError(f"{where}: {what} has malformed intrinsics: {wrong}; must be above 0{otherwise}")
    return Camera(model, int(values[0]), int(values[1]), tuple(values[2:]))


def read_records(path: Path) -> Iterator[tuple[int, str, str]]:
    """Timestamp, camera and name of each image, by timestamp and camera.

    Raises:
        DataError: unreadable, a malformed row, an image twice, two images of one timestamp and camera, or a name that
            leaves the folder; the line is named.
    """
    rows = []
    places: dict[tuple[int, str], int] = {}
    names: dict[str, int] = {}
    for line, fields in _rows(path):
        where = f"{path}:{line}"
        if len(fields) != 3:
            raise DataError(f"{where}: malformed; expected timestamp, device_id, image_path")
        timestamp, device, name = _whole(fields[0], where, "timestamp"), fields[1], plain_name(fields[2])
        if reason := bad_name(name):
            raise DataError(f"{where}: image name {name!r} {reason}; rename the image")
        _once(names, name, line, where, f"image {name!r}")
        _once(places, (timestamp, device), line, where, f"an image of timestamp {timestamp} and camera {device!r}")
        rows.append((timestamp, device, name))
    yield from sorted(rows)


def read_transforms(path: Path, *, of_rig: bool = False) -> list[tuple[str, str, Transform]]:
    """First two fields and transform of each row of ``trajectories.txt``, or of ``rigs.txt``.

    Raises:
        DataError: unreadable, a malformed row, one twice, or a transform that is not finite; the line is named.
    """
    rows = []
    found: dict[tuple[int | str, str], int] = {}
    first = "rig" if of_rig else "timestamp"
    for line, fields in _rows(path):
        where = f"{path}:{line}"
        if len(fields) != 9:
            raise DataError(f"{where}: malformed; expected {first}, device_id, qw, qx, qy, qz, tx, ty, tz")
        key = fields[0] if of_rig else str(_whole(fields[0], where, first))
        _once(found, (key, fields[1]), line, where, f"a pose of {first} {key} and device {fields[1]!r}")
        rows.append((key, fields[1], _transform(fields[2:], where)))
    return rows


def read_features_type(path: Path, kind: str) -> tuple[str, np.dtype[Any], int]:
    """Name, dtype and number of values of a type of features, from ``keypoints.txt`` and the like.

    Raises:
        DataError: unreadable, or malformed.
    """
    expected = {
        "keypoints": ("name", "dtype", "dsize"),
        "descriptors": ("name", "dtype", "dsize", "keypoints_type", "metric_type"),
        "global_features": ("name", "dtype", "dsize", "metric_type"),
    }[kind]
    rows = list(_rows(path))
    fields = rows[0][1] if rows else []
    if len(fields) != len(expected):
        raise DataError(f"{path}: malformed feature configuration; expected one row of {', '.join(expected)}")
    where = f"{path}:{rows[0][0]}"
    if fields[1] not in DTYPES:
        raise DataError(
            f"{where}: malformed feature configuration: dtype {fields[1][:40]!r} is none of {', '.join(DTYPES)}"
        )
    size = _whole(fields[2], where, "dsize")
    if not 1 <= size <= LARGEST:
        raise DataError(f"{where}: malformed feature configuration: {size} values are not 1 to {LARGEST}")
    return fields[0], np.dtype(DTYPES[fields[1]]), size


def transform_problem(quaternion: Numbers | None, translation: Numbers | None) -> str | None:
    """Why a pose is none, or None: its numbers must be finite, and its quaternion of a length near 1."""
    if quaternion is not None:
        length = math.hypot(*quaternion)
        if not UNIT[0] <= length <= UNIT[1]:  # of NaN neither
            return f"the quaternion {', '.join(f'{value:g}' for value in quaternion)} is not of length 1"
    if translation is not None and not all(abs(value) <= FARTHEST for value in translation):
        return f"the translation {', '.join(f'{value:g}' for value in translation)} is not finite"
    return None


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    for number, line in text_lines(path, "a kapture file cannot be read"):
        yield number, [field.strip() for field in line.split(",")]


def _once(found: dict[Any, int], key: Any, line: int, where: str, what: str) -> None:
    earlier = found.setdefault(key, line)
    if earlier != line:
        raise DataError(f"{where}: {what} is there already, in line {earlier}; remove one of the two")


def _transform(texts: list[str], where: str) -> Transform:
    parts = []
    for fields in (texts[:4], texts[4:]):  # kapture leaves the fields empty of what is not known
        known = all(fields)
        parts.append(tuple(_number(text, where, "the pose is malformed") for text in fields) if known else None)
    if reason := transform_problem(parts[0], parts[1]):
        raise DataError(f"{where}: the pose is malformed: {reason}; correct the row, or leave it out")
    return parts[0], parts[1]


def _number(text: str, where: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: {what}: {text[:40]!r} is not a finite number; correct the row, or leave it out")
    return value


def _whole(text: str, where: str, what: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise DataError(f"{where}: malformed: {what} {text[:40]!r} is not a whole number; correct the row") from None
