"""Poses of an NVM model, as VisualSFM writes it; its points are not read. pycolmap does not read the format."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gloam.data.localization_sets.colmap_poses import pose_of
from gloam.data.scene import Pose
from gloam.data.text import finite, plain_name
from gloam.errors import DataError
from gloam.files import bad_name, open_file

VALUES = 10  # behind a name: focal length, quaternion, centre, distortion and a zero


@dataclass(frozen=True)
class NvmImage:
    """An image of the model.

    Attributes:
        where: file and line.
    """

    name: str
    pose: Pose
    where: str


def read_nvm(path: Path) -> list[NvmImage]:
    """The images of the first model of an NVM file, which in the benchmarks is the only one.

    The file states focal lengths and a distortion, but neither sizes nor principal points.

    Raises:
        DataError: unreadable, no NVM file, cut off before its points, or a malformed line, which is named.
    """
    try:
        with open_file(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig") as handle:
            return list(_images(path, _filled(enumerate(handle, 1))))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: an NVM model cannot be read ({error})") from error


def _filled(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    return ((number, line.strip()) for number, line in lines if line.strip())


def _images(path: Path, lines: Iterator[tuple[int, str]]) -> Iterator[NvmImage]:
    number, header = next(lines, (1, ""))
    if not header.startswith("NVM_V3"):
        raise DataError(f"{path}:{number}: begins with {header[:40]!r}, not NVM_V3; is it an NVM model?")
    names: dict[str, int] = {}
    count = _count(path, lines, "images")
    if not count:
        raise DataError(f"{path}: its first model holds no images; give a reconstructed model")
    for _ in range(count):
        number, line = next(lines, (number + 1, ""))
        where = f"{path}:{number}"
        fields = line.rsplit(maxsplit=VALUES)
        try:
            if len(fields) != VALUES + 1:
                raise ValueError(f"{max(len(fields) - 1, 0)} values where {VALUES} belong" if line else "the file ends")
            _, w, x, y, z, cx, cy, cz, _, _ = map(finite, fields[1:])
        except ValueError as error:
            raise DataError(
                f"{where}: is no image of an NVM model ({error}); expected 'name focal qw qx qy qz cx cy cz "
                "distortion 0'"
            ) from error
        name = plain_name(fields[0])
        if reason := bad_name(name):
            raise DataError(f"{where}: image name {name!r} {reason}")
        if names.setdefault(name, number) != number:
            raise DataError(f"{where}: image {name!r} is there already, in line {names[name]}; remove one of the two")
        turned = pose_of([w, x, y, z, 0.0, 0.0, 0.0], f"{where}: image {name!r}")
        moved = -turned.rotation @ np.array([cx, cy, cz])
        yield NvmImage(name, pose_of([w, x, y, z, *map(float, moved)], f"{where}: image {name!r}"), where)
    _count(path, lines, "points")  # where it is missing, the file is cut off


def _count(path: Path, lines: Iterator[tuple[int, str]], what: str) -> int:
    number, line = next(lines, (0, ""))
    if not line.isdecimal():
        where = f"{path}:{number}" if number else str(path)
        raise DataError(f"{where}: the number of {what} is missing; the file is cut off or no NVM model")
    return int(line)
