"""Positions from a CSV table, one image a row.

Columns, in any order: ``image``; ``x`` and ``y`` in metres, perhaps ``z``, or ``lat`` and ``lon`` in degrees, or
``easting``, ``northing`` and ``utm_zone``; perhaps ``yaw`` in degrees or ``yaw_rad`` in radians, counted in one way in
all tables that are paired; perhaps ``domain``. Other columns are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gloam.data.kapture_text import FARTHEST
from gloam.data.text import finite, plain_name, table_rows
from gloam.data.weak_pairs.geodesy import degrees_problem, zone_named
from gloam.data.weak_pairs.positions import DEGREES, NO_FILE, PLANE, SPACE, UTM, Positions, of_yaw
from gloam.errors import DataError
from gloam.files import bad_name

NAMES = {"path": "image", "latitude": "lat", "longitude": "lon", "lng": "lon"}  # other spellings
POSITIONS: dict[tuple[str, ...], str] = {
    ("x", "y"): PLANE,
    ("lat", "lon"): DEGREES,
    ("easting", "northing", "utm_zone"): UTM,
}
YAWS: dict[tuple[str, ...], float] = {("yaw",): math.pi / 180, ("yaw_rad",): 1.0}  # radians of one
USED = {"image", "z", "domain"}.union(*POSITIONS, *YAWS)
MOST_YAW = 360.0  # degrees, either way


@dataclass
class _Part:
    names: list[str] = field(default_factory=list)
    centers: list[tuple[float, float, float]] = field(default_factory=list)
    yaws: list[float] = field(default_factory=list)


def read_table(path: Path, images: Path | None = None) -> dict[str, Positions]:
    """Images of a table by their domain; by an empty text where it has no such column.

    Args:
        path: the CSV table.
        images: folder that the names are relative to; the table's own by default.

    Raises:
        DataError: unreadable, columns that are missing or state a thing twice, a malformed row, an image twice, numbers
            that are no position; the line is named.
    """
    columns, lines = table_rows(path, "the table of positions")
    spelled = {name: NAMES.get(name.lower(), name.lower()) for name in columns}
    known = list(spelled.values())
    if "image" not in known:
        raise DataError(f"{path}:1: no column names the image; expected image")
    if twice := [name for name in known if name in USED and known.count(name) > 1]:
        raise DataError(f"{path}:1: two columns state {twice[0]}; leave one out")
    axes = _stated(path, POSITIONS, known, "the position", "x and y, lat and lon, or easting, northing and utm_zone")
    yaw = _stated(path, YAWS, known, "the heading") if "yaw" in known or "yaw_rad" in known else ()
    axes = (*axes, "z") if axes == ("x", "y") and "z" in known else axes
    parts: dict[str, _Part] = {}
    seen: dict[str, int] = {}
    zone = ""
    for line, cells in lines:
        where = f"{path}:{line}"
        row = {spelled[name]: value.strip() for name, value in cells.items()}
        name = plain_name(row["image"])
        if reason := bad_name(name):
            raise DataError(f"{where}: image name {name!r} {reason}; correct the row")
        if (first := seen.setdefault(name, line)) != line:
            raise DataError(f"{where}: image {name!r} is there already, in line {first}; remove one of the two")
        try:
            center, angle = _center(row, axes), _angle(row, yaw)
            named = zone_named(row["utm_zone"]) if "utm_zone" in axes else ""
        except ValueError as error:
            raise DataError(f"{where}: image {name!r}: {error}; correct the row, or leave it out") from None
        zone = zone or named
        if named != zone:
            raise DataError(f"{where}: is of UTM zone {named}, the rows before of {zone}; leave the others out")
        domain = row.get("domain", "")
        if "domain" in row and not domain:
            raise DataError(f"{where}: image {name!r} has no domain; name one, or leave the row out")
        part = parts.setdefault(domain, _Part())
        part.names.append(name)
        part.centers.append(center)
        part.yaws.append(angle)
    if not seen:
        raise DataError(f"{path}: lists no images")
    frame = SPACE if "z" in axes else POSITIONS[axes] + zone
    notes = _notes(path, yaw, [angle for part in parts.values() for angle in part.yaws])
    root = path.parent if images is None else images
    return {domain: _positions(path, root, frame, part, notes) for domain, part in parts.items()}


def _stated(
    path: Path, ways: Mapping[tuple[str, ...], object], known: list[str], what: str, wanted: str = ""
) -> tuple[str, ...]:
    """The columns that state a thing, of those that may."""
    found = [columns for columns in ways if set(columns) <= set(known)]
    if len(found) > 1:
        both = " and by ".join(", ".join(columns) for columns in found[:2])
        raise DataError(f"{path}:1: the columns state {what} twice, by {both}; leave one out")
    if not found:
        raise DataError(f"{path}:1: no columns state {what}; expected {wanted}")
    return found[0]


def _center(row: dict[str, str], axes: tuple[str, ...]) -> tuple[float, float, float]:
    values = []
    for axis in axes:
        if axis != "utm_zone":
            try:
                values.append(finite(row[axis]))
            except ValueError:
                raise ValueError(f"{axis} {row[axis][:40]!r} is not a finite number") from None
            if abs(values[-1]) > FARTHEST:
                raise ValueError(f"{axis} {row[axis][:40]} is no place")
    if axes == ("lat", "lon") and (problem := degrees_problem(*values)):
        raise ValueError(problem)
    return values[0], values[1], values[2] if len(values) > 2 else 0.0


def _angle(row: dict[str, str], yaw: tuple[str, ...]) -> float:
    """Radians; NaN where no column states them."""
    if not yaw:
        return math.nan
    try:
        angle = finite(row[yaw[0]]) * YAWS[yaw]
    except ValueError:
        raise ValueError(f"{yaw[0]} {row[yaw[0]][:40]!r} is not a finite number") from None
    if abs(angle) > math.radians(MOST_YAW) + 1e-6:
        raise ValueError(f"{yaw[0]} {row[yaw[0]][:40]} is outside {MOST_YAW:g} degrees either way")
    return angle


def _notes(path: Path, yaw: tuple[str, ...], angles: list[float]) -> tuple[str, ...]:
    if yaw == ("yaw",) and len(angles) > 1 and max(map(abs, angles)) <= math.radians(2 * math.pi):
        return (f"{path}: every yaw lies within 6.3 degrees; if these are radians, call the column yaw_rad",)
    return ()


def _positions(path: Path, root: Path, frame: str, part: _Part, notes: tuple[str, ...]) -> Positions:
    there = [(root / name).is_file() for name in part.names]
    found = Positions(
        str(path),
        tuple(root / name for name in part.names),
        np.array(part.centers, np.float64),
        of_yaw(np.array(part.yaws, np.float64)),
        frame,
        notes=notes,
    )
    return found.part(np.flatnonzero(there), NO_FILE)
