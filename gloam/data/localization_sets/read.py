"""Reading a localization benchmark from its folder, in whichever form it lies there."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path
from typing import Literal, get_args

from gloam.data.kapture_text import read_records
from gloam.data.localization_sets.aachen import read_aachen_kapture
from gloam.data.localization_sets.dataset import LocalizationSet, SetName
from gloam.data.localization_sets.robotcar import LOCATION, read_robotcar_v1_kapture, read_robotcar_v2_kapture
from gloam.errors import DataError, UsageError

KAPTURE = {
    "aachen-v1.1": read_aachen_kapture,
    "robotcar-v1": read_robotcar_v1_kapture,
    "robotcar-v2": read_robotcar_v2_kapture,
}


def read_localization_set(name: SetName | Literal["auto"], path: str | Path) -> LocalizationSet:
    """Read the lists of a benchmark; images are not opened.

    Args:
        name: of the benchmark; ``auto`` tells it from what lies in the folder.
        path: its folder.

    Raises:
        DataError: no such dataset is there, it is half of one or another one, or a file is malformed; the file, and the
            line where there is one, are named.
        UsageError: an unknown name.
    """
    root = Path(path)
    if name != "auto" and name not in KAPTURE:
        raise UsageError(f"set {name!r}: choose from auto, {', '.join(get_args(SetName))}")
    found = find_set(root)
    if name not in ("auto", found):
        raise DataError(f"{root}: holds {found}, not {name}; give its name, or another folder")
    return checked(KAPTURE[found](root))


def find_set(root: Path) -> SetName:
    """Which benchmark lies in a folder.

    Raises:
        DataError: none, or two of them.
    """
    expect_folder(root)
    locations = sorted(part.name for part in root.iterdir() if LOCATION.fullmatch(part.name) and _holds(part))
    if locations and _holds(root):
        raise DataError(
            f"{root}: holds locations as RobotCar Seasons v2 ({locations[0]}) and {' and '.join(_kaptures(root))} as "
            "v1; give a folder of one of the two"
        )
    if locations:
        return "robotcar-v2"
    if not _holds(root):
        below = [
            part for part in (root / "set", root / "kapture") if _holds(part) or any(part.glob("[0-9][0-9]/mapping"))
        ]
        raise DataError(
            f"{root}: no localization benchmark is there: no mapping/sensors/sensors.txt nor 01/mapping; "
            + (f"give {below[0]}" if below else "give the folder that holds them")
        )
    of_aachen = "query_day" in _kaptures(root) or _first_name(root).startswith(("db/", "sequences/", "query/"))
    return "aachen-v1.1" if of_aachen else "robotcar-v1"


def expect_folder(root: Path) -> None:
    """Refuse what is no folder; an archive is told from other files.

    Raises:
        DataError: naming it.
    """
    if root.is_dir():
        return
    if not root.exists():
        raise DataError(f"{root}: is not there; give the folder of the dataset")
    if root.is_file() and (zipfile.is_zipfile(root) or tarfile.is_tarfile(root)):
        raise DataError(f"{root}: is an archive; unpack it and give the folder")
    raise DataError(f"{root}: is a file; give the folder of the dataset")


def checked(found: LocalizationSet) -> LocalizationSet:
    """The set, after what no part of it can tell alone.

    Raises:
        DataError: a query that is also a map image or a training image.
    """
    for other, what in ((found.mapping, "map"), (found.known_query, "training images")):
        both = sorted(found.query.records.keys() & other.records.keys()) if other else []
        if both:
            raise DataError(
                f"{found.root}: {len(both)} images are queries and in the {what}, first {both[0]!r}; remove them from "
                "one of the two"
            )
    return found


def _kaptures(root: Path) -> list[str]:
    parts = ("mapping", "query", "query_day", "query_night", "query_all")
    return [part for part in parts if (root / part / "sensors").is_dir()]


def _holds(root: Path) -> bool:
    return bool(_kaptures(root))


def _first_name(root: Path) -> str:
    part = _kaptures(root)[0]
    return next((name for _, _, name in read_records(root / part / "sensors" / "records_camera.txt")), "")
