"""Reading a localization benchmark from its folder, in whichever form it lies there."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from gloam.data.kapture_text import read_records
from gloam.data.localization_sets.aachen import (
    CONDITIONS,
    FOLDERS,
    find_list,
    find_model,
    read_aachen_kapture,
    read_aachen_original,
)
from gloam.data.localization_sets.colmap_poses import not_unit
from gloam.data.localization_sets.dataset import Layout, LocalizationSet, SetName
from gloam.data.localization_sets.robotcar import LOCATION, read_robotcar_v1_kapture, read_robotcar_v2_kapture
from gloam.data.localization_sets.robotcar_original import (
    MERGED,
    MODELS,
    TEST,
    TRAIN,
    read_robotcar_v1_original,
    read_robotcar_v2_original,
)
from gloam.data.query_list import COLMAP_ORIGIN
from gloam.data.scene import Scene
from gloam.errors import DataError, UsageError

READERS: dict[tuple[SetName, Layout], Callable[[Path], LocalizationSet]] = {
    ("aachen-v1.1", "kapture"): read_aachen_kapture,
    ("aachen-v1.1", "original"): read_aachen_original,
    ("robotcar-v1", "kapture"): read_robotcar_v1_kapture,
    ("robotcar-v1", "original"): read_robotcar_v1_original,
    ("robotcar-v2", "kapture"): read_robotcar_v2_kapture,
    ("robotcar-v2", "original"): read_robotcar_v2_original,
}


def read_localization_set(name: SetName | Literal["auto"], path: str | Path) -> LocalizationSet:
    """Read the lists of a benchmark; images are not opened.

    Args:
        name: of the benchmark; ``auto`` tells it from what lies in the folder. The original RobotCar Seasons is both
            versions: version 2 where its lists are there, unless version 1 is asked for.
        path: its folder, as kapture's downloader or as the benchmark's authors lay it.

    Raises:
        DataError: no such dataset is there, it is half of one or another one, or a file is malformed; the file, and the
            line where there is one, are named.
        UsageError: an unknown name.
    """
    root = Path(path)
    if name != "auto" and name not in get_args(SetName):
        raise UsageError(f"set {name!r}: choose from auto, {', '.join(get_args(SetName))}")
    names, layout = find_set(root)
    if name not in ("auto", *names):
        raise DataError(f"{root}: holds {names[0]}, not {name}; give its name, or another folder")
    return _checked(READERS[names[0] if name == "auto" else name, layout](root))


def find_set(root: Path) -> tuple[list[SetName], Layout]:
    """Which benchmark lies in a folder: its names, the likeliest first, and its form.

    Raises:
        DataError: none, or two of them.
    """
    _expect_folder(root)
    locations = sorted(part.name for part in root.iterdir() if LOCATION.fullmatch(part.name) and _kaptures(part))
    parts = _kaptures(root)
    if locations and parts:
        raise DataError(
            f"{root}: holds locations as RobotCar Seasons v2 ({locations[0]}) and {' and '.join(parts)} as "
            "v1; give a folder of one of the two"
        )
    if locations:
        return ["robotcar-v2"], "kapture"
    if parts:
        name = _first_name(root / parts[0])
        of_aachen = "query_day" in parts or "query_night" in parts or name.startswith((*FOLDERS, "query/"))
        return ["aachen-v1.1" if of_aachen else "robotcar-v1"], "kapture"
    original = _original(root)
    if not original:
        below = [part for part in (root / "set", root / "kapture") if part.is_dir()]
        raise DataError(
            f"{root}: no localization benchmark is there: neither kapture's mapping/sensors or 01/mapping/sensors, nor "
            f"3D-models with lists of queries; give {below[0] if below else 'the folder that holds them'}"
        )
    if "aachen-v1.1" in original and len(original) > 1:
        raise DataError(
            f"{root}: holds files of Aachen Day-Night and of RobotCar Seasons; give a folder of one of the two"
        )
    return original, "original"


def _original(root: Path) -> list[SetName]:
    found: list[SetName] = []
    model = find_model(root)
    aachen = any(find_list(root, condition) for condition in CONDITIONS) or (root / "images_upright").is_dir()
    if aachen or (model is not None and "aachen" in model.name):
        found.append("aachen-v1.1")
    if any((root / name).exists() for name in (TRAIN, TEST)):
        found += ["robotcar-v2", "robotcar-v1"]
    elif any((root / name).exists() for name in ("intrinsics", "extrinsics", MODELS, MERGED)):
        found.append("robotcar-v1")
    return found


def _expect_folder(root: Path) -> None:
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


def _checked(found: LocalizationSet) -> LocalizationSet:
    """The set, after what no part of it can tell alone.

    Raises:
        DataError: a query that is also a map image or a training image, or a pose that is no rotation.
    """
    for other, what in ((found.mapping, "map"), (found.known_query, "training images")):
        both = sorted(found.query.records.keys() & other.records.keys()) if other else []
        if both:
            raise DataError(
                f"{found.root}: {len(both)} images are queries and in the {what}, first {both[0]!r}; remove them from "
                "one of the two"
            )
    for name, pose in (*found.mapping.poses.items(), *found.known.items()):
        if reason := not_unit(pose.quaternion):
            raise DataError(
                f"{found.root}: the pose of image {name!r} is none: {reason}; correct it or install it again"
            )
    return replace(
        found,
        mapping=_with_origin(found.mapping),
        query=_with_origin(found.query),
        known_query=None if found.known_query is None else _with_origin(found.known_query),
    )


def _with_origin(scene: Scene) -> Scene:
    """The intrinsics of all these benchmarks, in either form, are those of COLMAP's models."""
    return replace(scene, origin=COLMAP_ORIGIN)


def _kaptures(root: Path) -> list[str]:
    parts = ("mapping", "query", "query_day", "query_night", "query_all")
    return [part for part in parts if (root / part / "sensors").is_dir()]


def _first_name(part: Path) -> str:
    records = part / "sensors" / "records_camera.txt"
    return next((name for _, _, name in read_records(records)), "") if records.is_file() else ""
