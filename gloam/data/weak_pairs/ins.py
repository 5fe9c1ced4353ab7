"""Positions of RobotCar's traversals as they are published: ``gps/ins.csv`` and the times of the images.

A traversal is a folder ``2014-12-09-13-21-02`` with ``gps/ins.csv``, ``stereo.timestamps`` and ``stereo/centre``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gloam.data.text import finite, table_rows, text_lines
from gloam.data.weak_pairs.geodesy import zone_named
from gloam.data.weak_pairs.positions import NO_FILE, UTM, Positions, of_yaw
from gloam.errors import DataError

INS = Path("gps", "ins.csv")
COLUMNS = ("timestamp", "ins_status", "northing", "easting", "utm_zone", "yaw")
CAMERA = "stereo/centre"
GOOD = "INS_SOLUTION_GOOD"
MICROSECONDS = 1e6
SUFFIXES = (".png", ".jpg", ".jpeg")
# Traversals that a pipeline of one of the authors leaves out for what their positions are worth.
DOUBTED = frozenset(
    (
        "2014-06-25-16-45-34",
        "2014-08-11-10-49-42",
        "2014-08-11-10-59-18",
        "2014-11-14-16-34-33",
        "2015-05-26-13-59-22",
        "2015-05-29-09-36-29",
        "2015-08-04-09-12-27",
        "2015-08-27-10-06-57",
        "2015-08-27-16-07-13",
    )
)
Times = npt.NDArray[np.int64]
Array = npt.NDArray[np.float64]


class Track(NamedTuple):
    """Rows of ``ins.csv``: times int64 ``[n]`` in microseconds, strictly ascending; whether the solution is good
    ``[n]``; easting, northing and yaw float64 ``[n, 3]`` in metres and radians, NaN where it is not; and the UTM zone.
    """

    times: Times
    good: npt.NDArray[np.bool_]
    values: Array
    zone: str


def read_traversal(folder: Path, camera: str = CAMERA, gap: float = 0.2) -> Positions:
    """Images of a traversal with positions between the two rows of the INS around each.

    Args:
        folder: of the traversal.
        camera: folder of the images below it; its first part names the list of times, ``stereo.timestamps``.
        gap: seconds between the two rows from which on nothing is known between them.

    Raises:
        DataError: a file is missing, a row is malformed, or times are not ascending; the line is named.
    """
    track = read_ins(folder / INS)
    listed = folder / f"{camera.split('/')[0]}.timestamps"
    times = read_timestamps(listed)
    values, reasons = interpolated(track, times, round(gap * MICROSECONDS))
    paths, kept = [], []
    for row, time in enumerate(times.tolist()):
        if reasons[row]:
            continue
        path = next((p for suffix in SUFFIXES if (p := folder / camera / f"{time}{suffix}").is_file()), None)
        if path is None:
            reasons[row] = NO_FILE
            continue
        paths.append(path)
        kept.append(row)
    chosen = values[np.array(kept, np.int64)]
    centers = np.concatenate([chosen[:, :2], np.zeros((len(kept), 1))], axis=1)
    left_out = {reason: reasons.count(reason) for reason in sorted(set(reasons)) if reason}
    notes: tuple[str, ...] = ()
    if folder.name in DOUBTED:
        notes = (f"{folder.name} is one of {len(DOUBTED)} traversals that an author's pipeline leaves out",)
    return Positions(str(folder), tuple(paths), centers, of_yaw(chosen[:, 2]), f"{UTM}{track.zone}", left_out, notes)


def read_ins(path: Path) -> Track:
    """The rows of an ``ins.csv``, by the names of its columns; of rows that are not good, the time alone.

    Raises:
        DataError: unreadable, a column is missing, a malformed row, times that are not ascending, rows of different UTM
            zones, or no good row; the line is named.
    """
    columns, rows = table_rows(path, "the table of the INS")
    if missing := [name for name in COLUMNS if name not in columns]:
        raise DataError(f"{path}:1: no column {missing[0]!r}; expected RobotCar's {', '.join(COLUMNS)}")
    times, good, values = [], [], []
    zone = first = ""
    for time, line, row in _ascending(path, ((line, row["timestamp"], row) for line, row in rows)):
        times.append(time)
        good.append(row["ins_status"].strip() == GOOD)
        numbers = [np.nan] * 3
        if good[-1]:
            try:
                numbers = [finite(row[name]) for name in ("easting", "northing", "yaw")]
                named = zone_named(row["utm_zone"])
            except ValueError as error:
                raise DataError(f"{path}:{line}: malformed ({error}); correct the row, or leave it out") from None
            zone, first = zone or named, first or f"line {line}"
            if named != zone:
                raise DataError(f"{path}:{line}: is of UTM zone {named}, {first} of {zone}; one zone is needed")
        values.append(numbers)
    if not any(good):
        raise DataError(f"{path}: none of its {len(times)} rows is {GOOD}; leave the traversal out")
    return Track(np.array(times, np.int64), np.array(good), np.array(values, np.float64), zone)


def read_timestamps(path: Path) -> Times:
    """Times of images, of lines ``timestamp chunk``; int64 ``[n]`` in microseconds, strictly ascending.

    Raises:
        DataError: unreadable, empty, no whole number, or not ascending; the line is named.
    """
    lines = text_lines(path, "the list of images' times cannot be read")
    times = [time for time, _, _ in _ascending(path, ((number, line.split()[0], {}) for number, line in lines))]
    if not times:
        raise DataError(f"{path}: lists no images; download it again")
    return np.array(times, np.int64)


def interpolated(track: Track, times: Times, gap: int) -> tuple[Array, list[str]]:
    """Easting, northing and yaw at each time, linear between the row before and the row after; yaw the short way round.

    Args:
        track: of the INS.
        times: of the images, int64 ``[n]``, microseconds.
        gap: microseconds between the two rows from which on nothing is known between them.

    Returns:
        float64 ``[n, 3]``, and for each time why it has no position, or an empty text.
    """
    after = np.searchsorted(track.times, times)
    outside = (times < track.times[0]) | (times > track.times[-1])
    after = np.minimum(after, len(track.times) - 1)
    before = np.where(track.times[after] == times, after, np.maximum(after - 1, 0))
    span = track.times[after] - track.times[before]
    share = (times - track.times[before]) / np.maximum(span, 1)
    step = track.values[after] - track.values[before]
    step[:, 2] = (step[:, 2] + np.pi) % (2 * np.pi) - np.pi
    values = track.values[before] + share[:, None] * step
    reasons = np.full(len(times), "", dtype=object)
    reasons[~(track.good[before] & track.good[after])] = f"INS is not {GOOD}"
    reasons[span > gap] = f"in a gap of the INS of more than {gap / MICROSECONDS:g} s"
    reasons[outside] = "before or after the INS"
    return values, reasons.tolist()


def _ascending(
    path: Path, rows: Iterator[tuple[int, str, dict[str, str]]]
) -> Iterator[tuple[int, int, dict[str, str]]]:
    """Time, line and cells of each row."""
    last, last_line = -1, 0
    for line, text, row in rows:
        try:
            time = int(text)
            if not 0 <= time < 1 << 62:
                raise ValueError
        except ValueError:
            raise DataError(f"{path}:{line}: timestamp {text[:40]!r} is no whole number of microseconds") from None
        if time <= last:
            how = "is there already, in" if time == last else "is before that of"
            raise DataError(f"{path}:{line}: timestamp {time} {how} line {last_line}; sort the rows, each time once")
        last, last_line = time, line
        yield time, line, row
