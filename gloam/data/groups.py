"""Groups of images: a table ``image,camera,location,...``, or the cameras and poses of a kapture dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gloam.data.scene import Scene
from gloam.data.text import plain_name, table_rows
from gloam.errors import DataError

Position = npt.NDArray[np.float64]


def read_groups(path: str | Path, column: str) -> dict[str, str]:
    """One column of a table of groups, by image.

    Args:
        path: CSV with a header, whose first column is ``image``; an empty cell means no group.
        column: name of the column, e.g. ``camera``.

    Raises:
        DataError: the file cannot be read, has no such column, a line of another length, or an image twice.
    """
    place = Path(path)
    header, rows = table_rows(place, "the table of groups")
    if header[:1] != ["image"] or column not in header[1:]:
        found = ", ".join(header) or "nothing"
        raise DataError(f"{place}: needs a header 'image,...' with a column {column!r}, found {found}")
    groups: dict[str, str] = {}
    for line, row in rows:
        image, group = plain_name(row["image"].strip()), row[column].strip()
        if image in groups:
            raise DataError(f"{place}:{line}: image {image!r} is listed twice")
        groups[image] = group
    return {image: group for image, group in groups.items() if group}


def cameras(scenes: Sequence[Scene]) -> dict[str, str]:
    """The sensor of every image of some kapture datasets; the same id means the same camera in all of them.

    Raises:
        DataError: an image of two datasets has two sensors.
    """
    found: dict[str, str] = {}
    for scene in scenes:
        for name, record in scene.records.items():
            if found.setdefault(name, record.camera_id) != record.camera_id:
                raise DataError(
                    f"{scene.root}: image {name!r} is of camera {record.camera_id!r}, elsewhere of {found[name]!r}"
                )
    return found


def positions(scenes: Sequence[Scene]) -> dict[str, Position]:
    """Camera centres float64 ``[3]``, metres, of the images of some kapture datasets that have poses.

    Raises:
        DataError: an image of two datasets has two positions.
    """
    found: dict[str, Position] = {}
    for scene in scenes:
        for name, pose in scene.poses.items():
            if not np.array_equal(found.setdefault(name, pose.center), pose.center):
                raise DataError(f"{scene.root}: image {name!r} has another position than in another dataset")
    return found


def group_numbers(groups: Mapping[str, str], *lists: Sequence[str]) -> list[npt.NDArray[np.int64]]:
    """Numbers instead of groups, the same for all lists of images; -1 for an image without one.

    Args:
        groups: by image.
        lists: of images.

    Returns:
        an int64 array for each list.
    """
    numbers = {group: number for number, group in enumerate(sorted(set(groups.values())))}
    return [np.array([numbers[groups[name]] if name in groups else -1 for name in names], np.int64) for names in lists]


def position_rows(found: Mapping[str, Position], names: Sequence[str]) -> npt.NDArray[np.float64]:
    """Positions in the order of a list, float64 ``[n, 3]``, NaN where unknown."""
    rows = np.full((len(names), 3), np.nan)
    for row, name in enumerate(names):
        if name in found:
            rows[row] = found[name]
    return rows
