"""What a benchmark is made of, what each part is for, where it comes from, and under which licence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gloam.data.localization_sets import aachen, robotcar_original
from gloam.data.localization_sets.dataset import Layout, SetName
from gloam.data.localization_sets.robotcar import CAMERAS, V2_ASKED, V2_LOCATIONS

HOST = "https://data.ciirc.cvut.cz/public/projects/2020VisualLocalization"
KAPTURE = f"{HOST}/kapture"
NAVER = "http://download.europe.naverlabs.com/kapture"
ADDRESSES: dict[tuple[SetName, Layout], str] = {
    ("aachen-v1.1", "kapture"): KAPTURE,
    ("aachen-v1.1", "original"): f"{HOST}/Aachen-Day-Night",
    ("robotcar-v1", "kapture"): NAVER,
    ("robotcar-v1", "original"): f"{HOST}/RobotCar-Seasons",
    ("robotcar-v2", "kapture"): KAPTURE,
    ("robotcar-v2", "original"): f"{HOST}/RobotCar-Seasons",
}
PAIRS = "https://github.com/tsattler/visuallocalizationbenchmark, local_feature_evaluation"
LICENCES: dict[SetName, str] = {
    "aachen-v1.1": f"CC BY-NC-SA 4.0, non-commercial: {KAPTURE}/Aachen-Day-Night-v1.1_LICENSE.txt",
    "robotcar-v1": f"CC BY-NC-SA 4.0, non-commercial: {NAVER}/RobotCar_Seasons-v1_LICENSE.txt",
    "robotcar-v2": f"CC BY-NC-SA 4.0, non-commercial: {KAPTURE}/RobotCar_Seasons-v2_LICENSE.txt",
}


@dataclass(frozen=True)
class SetPart:
    """A part of a benchmark.

    Attributes:
        name: folder or file below the benchmark's.
        purpose: what it is for.
        source: address that it is downloaded from.
        there: whether it is.
        needed: whether the benchmark cannot be read without it.
    """

    name: str
    purpose: str
    source: str
    there: bool
    needed: bool = True


def parts_of(root: Path, name: SetName, layout: Layout, locations: int = V2_LOCATIONS) -> list[SetPart]:
    """The parts of a benchmark in one form, and whether they are there.

    Args:
        locations: that RobotCar has; fewer in a look-alike.
    """
    if layout == "kapture":
        return [
            SetPart(part, purpose, f"{ADDRESSES[name, layout]}/{archive}.tar.gz", (root / part / "sensors").is_dir())
            for part, purpose, archive in _kapture_parts(root, name, locations)
        ]
    address = ADDRESSES[name, layout]
    parts = _aachen_parts(root) if name == "aachen-v1.1" else _robotcar_parts(root, name)
    return [
        SetPart(part, purpose, at if "://" in at else f"{address}/{at}", there, needed)
        for part, purpose, at, there, needed in parts
    ]


def _kapture_parts(root: Path, name: SetName, locations: int) -> list[tuple[str, str, str]]:
    maps, queries = "map images, intrinsics and poses", "queries and intrinsics"
    if name == "robotcar-v2":
        whole = locations == V2_LOCATIONS
        asked = V2_ASKED if whole else [n for n in range(1, locations + 1) if (root / f"{n:02d}" / "query").is_dir()]
        rows = [(f"{n:02d}/mapping", f"{maps} of location {n:02d}") for n in range(1, locations + 1)]
        rows += [(f"{n:02d}/query", f"{queries} of location {n:02d}") for n in asked]
        return [(part, purpose, f"RobotCar_Seasons-v2_{part.replace('/', '_')}") for part, purpose in sorted(rows)]
    if name == "robotcar-v1":
        return [(p, t, f"RobotCar_Seasons-v1_{p}_wo_images") for p, t in (("mapping", maps), ("query", queries))]
    rows = [("mapping", maps), ("query_day", f"{queries} by day"), ("query_night", f"{queries} by night")]
    merged = next((part for part in ("query", "query_all") if (root / part / "sensors").is_dir()), None)
    if merged is not None:
        return [
            (*rows[0], "Aachen-Day-Night-v1.1_mapping"),
            (merged, f"{queries}, merged", "Aachen-Day-Night-v1.1_query_{day,night}"),
        ]
    return [(part, purpose, f"Aachen-Day-Night-v1.1_{part}") for part, purpose in rows]


_Row = tuple[str, str, str, bool, bool]


def _aachen_parts(root: Path) -> list[_Row]:
    model, images = aachen.find_model(root), aachen.find_images(root)
    below = images.relative_to(root).as_posix()
    packed, photographs = "aachen_v1_1.zip", "images/database_and_query_images.zip"
    rows: list[_Row] = [
        (
            f"3D-models/{model.name if model else aachen.MODELS[0]}",
            "intrinsics and poses of the map",
            packed,
            model is not None,
            True,
        )
    ]
    for condition, at in (("day", "queries/"), ("night", packed)):
        listed = aachen.find_list(root, condition)
        list_name = f"queries/{aachen.QUERIES.format(condition)}"
        at = f"{at}{aachen.QUERIES.format(condition)}" if at.endswith("/") else at
        rows.append((list_name, f"queries by {condition} and intrinsics", at, listed is not None, True))
    for folder, purpose, at in (
        ("db", "map images", photographs),
        ("sequences", "map images", packed),
        ("query/day", "queries by day", photographs),
        ("query/night", "queries by night", f"{photographs} and {packed}"),
    ):
        rows.append((f"{below}/{folder}", purpose, at, (images / folder).is_dir(), True))
    pairs = any((place / aachen.PAIRS).is_file() for place in (root, root / "3D-models"))
    rows.append((aachen.PAIRS, "the authors' pairs for the fixed map; gloam makes its own", PAIRS, pairs, False))
    return rows


def _robotcar_parts(root: Path, name: SetName) -> list[_Row]:
    rows: list[_Row] = []
    for kind, purpose in (("intrinsics", "intrinsics"), ("extrinsics", "where the cameras are on the car")):
        for camera in CAMERAS:
            file = f"{kind}/{camera}_{kind}.txt"
            rows.append((file, f"{purpose}, {camera}", file, (root / file).is_file(), True))
    models, merged = robotcar_original.MODELS.as_posix(), robotcar_original.MERGED.as_posix()
    single = (root / models).is_dir()
    rows.append((models, "poses of the map by location", models, single, not (root / merged).is_file()))
    rows.append((merged, "poses of the map in one model", merged, (root / merged).is_file(), not single))
    asked = robotcar_original.QUERIES.as_posix()
    rows.append((asked, "queries by location", asked, (root / asked).is_dir(), False))
    if name == "robotcar-v2":
        for file, purpose, needed in (
            (robotcar_original.TRAIN, "training images and their poses", True),
            (robotcar_original.TEST, "the queries that the server scores", False),
        ):
            rows.append((file, purpose, file, (root / file).is_file(), needed))
    rows.append(
        ("images", "map images and queries, a zip for each condition", "images", (root / "images").is_dir(), True)
    )
    return rows
