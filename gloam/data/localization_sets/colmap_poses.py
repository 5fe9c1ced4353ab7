"""Cameras and poses of a COLMAP model, as text or binary; its points are skipped.

pycolmap reads the points too, gigabytes in the models of the benchmarks, and reading data must not need it.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from gloam.data.kapture_text import PARAMETERS, read_camera, transform_problem
from gloam.data.query_list import COLMAP_ORIGIN
from gloam.data.scene import Camera, Pose, Record, Scene, SceneFiles
from gloam.data.text import plain_name, text_lines
from gloam.errors import DataError
from gloam.files import bad_name, open_file

MODELS = tuple(PARAMETERS)  # in the order of COLMAP's numbers
Row = tuple[int, list[float], int, str, str]  # image, quaternion and translation, camera, name, where it stands


def is_colmap_poses(folder: Path) -> bool:
    """Whether a folder holds the images of a COLMAP model."""
    return any((folder / f"images{suffix}").is_file() for suffix in (".bin", ".txt"))


def read_colmap_poses(folder: Path, images: Path) -> Scene:
    """Images with intrinsics and poses; the binary files where both are there, as COLMAP does.

    Args:
        folder: of the model.
        images: folder that the images' names are relative to.

    Raises:
        DataError: a file is missing, cut off or malformed; the line, or the image, is named.
    """
    suffix = ".bin" if (folder / "images.bin").is_file() else ".txt"
    paths = [folder / f"{part}{suffix}" for part in ("cameras", "images")]
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path}: is missing; a COLMAP model is cameras, images and points3D")
    cameras = dict(_binary_cameras(paths[0]) if suffix == ".bin" else _text_cameras(paths[0]))
    scene = Scene(
        folder, cameras, images=images, origin=COLMAP_ORIGIN, files=SceneFiles(paths[0].name, *[paths[1].name] * 2)
    )
    for number, values, camera, listed, where in (
        _binary_images(paths[1]) if suffix == ".bin" else _text_images(paths[1])
    ):
        name = plain_name(listed)
        if reason := bad_name(name):
            raise DataError(f"{where}: image name {name!r} {reason}; rename the image")
        if name in scene.records:
            raise DataError(f"{where}: image {name!r} is there twice; remove one of the two")
        if str(camera) not in cameras:
            raise DataError(f"{where}: image {name!r} is of camera {camera}, which {paths[0].name} has not")
        scene.records[name] = Record(str(camera), number)
        scene.poses[name] = pose_of(values, f"{where}: image {name!r}")
    if not scene.records:
        raise DataError(f"{paths[1]}: holds no images; export the model again")
    return scene


def pose_of(values: list[float], what: str) -> Pose:
    """A pose of ``qw qx qy qz tx ty tz``.

    Args:
        what: has it, for the message.

    Raises:
        DataError: the quaternion is not of length 1, or the translation is none.
    """
    (w, x, y, z), (tx, ty, tz) = values[:4], values[4:]
    length = math.hypot(w, x, y, z)
    reason = transform_problem((w, x, y, z), (tx, ty, tz)) or not_unit((w, x, y, z))
    if reason or not math.isfinite(length):
        raise DataError(f"{what} has no usable pose: {reason}; export the model again")
    return Pose((w, x, y, z), (tx, ty, tz))


def not_unit(quaternion: tuple[float, ...]) -> str | None:
    """Why a quaternion is no rotation, or None; the benchmarks' files have six digits or more."""
    length = math.hypot(*quaternion)
    return None if abs(length - 1) <= 1e-3 else f"its quaternion is of length {length:g}, not 1"


def _text_cameras(path: Path) -> Iterator[tuple[str, Camera]]:
    for number, line in text_lines(path, "a COLMAP model cannot be read"):
        key, *parameters = line.split()
        yield key, read_camera(parameters, f"{path}:{number}", f"camera {key}", needed=True)


def _text_images(path: Path) -> Iterator[Row]:
    """Every second line is of points, and may be empty; lines are read one by one, for there are gigabytes of them."""
    try:
        with open_file(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig") as handle:
            lines = enumerate(handle, 1)
            for number, line in lines:
                if not line.strip() or line.startswith("#"):
                    continue
                where = f"{path}:{number}"
                fields = line.split(maxsplit=9)
                try:
                    if len(fields) != 10:
                        raise ValueError("it has another count of values")
                    values = [float(field) for field in fields[1:8]]
                    yield int(fields[0]), values, int(fields[8]), fields[9].strip(), where
                except ValueError as error:
                    raise DataError(
                        f"{where}: is no image of a COLMAP model ({error}); expected 'image qw qx qy qz tx ty tz "
                        "camera name'"
                    ) from error
                next(lines, None)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: a COLMAP model cannot be read ({error})") from error


def _binary_cameras(path: Path) -> Iterator[tuple[str, Camera]]:
    with _Binary(path) as file:
        for _ in range(*file.take("Q")):
            number, model, width, height = file.take("IiQQ")
            if not 0 <= model < len(MODELS):
                raise DataError(f"{path}: camera {number} is of the unknown camera model {model}")
            params = file.take(f"{PARAMETERS[MODELS[model]]}d")
            row = [MODELS[model], *map(repr, (width, height, *params))]
            yield str(number), read_camera(row, str(path), f"camera {number}", needed=True)
        file.expect_end()


def _binary_images(path: Path) -> Iterator[Row]:
    with _Binary(path) as file:
        for _ in range(*file.take("Q")):
            number, *values, camera = file.take("I7dI")
            name = file.text()
            (points,) = file.take("Q")
            file.skip(24 * points)
            yield number, values, camera, name, str(path)
        file.expect_end()


class _Binary:
    """A binary file that is read on; a fault where it ends too soon or too late."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file: BinaryIO = open_file(path)
            self._size = path.stat().st_size
        except OSError as error:
            raise DataError(f"{path}: a COLMAP model cannot be read ({error.strerror or error})") from error

    def __enter__(self) -> _Binary:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def take(self, form: str) -> tuple[Any, ...]:
        content = self._file.read(struct.calcsize(f"<{form}"))
        try:
            return struct.unpack(f"<{form}", content)
        except struct.error as error:
            raise self._cut_off() from error

    def skip(self, size: int) -> None:
        if self._file.tell() + size > self._size:
            raise self._cut_off()
        self._file.seek(size, io.SEEK_CUR)

    def text(self) -> str:
        name = bytearray()
        while (character := self._file.read(1)) != b"\0":
            if not character:
                raise self._cut_off()
            name += character
        try:
            return name.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"{self.path}: a name is not UTF-8 ({bytes(name[:40])!r}); rename the image") from error

    def expect_end(self) -> None:
        left = self._size - self._file.tell()
        if left:
            raise DataError(f"{self.path}: {left} bytes follow its last record; copy the model again")

    def _cut_off(self) -> DataError:
        return DataError(f"{self.path}: is cut off after {self._size} bytes; copy the model again")
