"""Reading RobotCar Seasons, versions 1 and 2."""

from __future__ import annotations

import re
from pathlib import Path

from gloam.data.kapture_io import read_rig, read_scene
from gloam.data.localization_sets.dataset import Layout, LocalizationSet, SetName
from gloam.data.localization_sets.merge import merged
from gloam.data.scene import Pose, Scene
from gloam.errors import DataError

DAYS = ("dawn", "dusk", "overcast-summer", "overcast-winter", "rain", "snow", "sun")
NIGHTS = ("night", "night-rain")
REFERENCE = "overcast-reference"  # the condition of the map
CAMERAS = ("left", "rear", "right")
SCORED = "rear"  # the server scores this camera alone
V2_LOCATIONS = 49
V2_ASKED = (4, 5, 6, *range(23, 37), 44, 45, 47, 48, 49)  # that kapture's index has queries of; others are for training
LOCATION = re.compile(r"\d\d")
NAME = re.compile(r"(?P<condition>[a-z-]+)/(?P<camera>[a-z]+)/(?P<timestamp>\d+)\.(jpg|png)")


def read_robotcar_v1_kapture(root: Path) -> LocalizationSet:
    """Read version 1: all locations in ``mapping`` and in ``query``. Which image is of which location is not stated.

    Raises:
        DataError: a part is missing or malformed.
    """
    missing = [part for part in ("mapping", "query") if not (root / part / "sensors").is_dir()]
    if missing:
        raise DataError(
            f"{root}: {' and '.join(missing)} of RobotCar Seasons v1 is not there; install "
            f"{' and '.join(f'RobotCar_Seasons-v1_{part}_wo_images' for part in missing)} with kapture's downloader"
        )
    mapping = read_scene(root / "mapping", need_cameras=True)
    others = [name for name in mapping.names if condition_of(root, name) != REFERENCE]
    if others:
        raise DataError(
            f"{root / 'mapping'}: {len(others)} images are not of {REFERENCE}, first {others[0]!r}; training images "
            "are RobotCar Seasons v2's"
        )
    _expect_poses(mapping)
    query = read_scene(root / "query", need_cameras=True)
    return robotcar_set("robotcar-v1", root, mapping, query, rig=read_rig(root / "mapping"))


def read_robotcar_v2_kapture(root: Path) -> LocalizationSet:
    """Read version 2: ``NN/mapping`` for each location, ``NN/query`` for some. Training images are no map images.

    Raises:
        DataError: a part is missing or malformed.
    """
    places = sorted(part.name for part in root.iterdir() if LOCATION.fullmatch(part.name) and part.is_dir())
    missing = [f"{place}/mapping" for place in places if not (root / place / "mapping" / "sensors").is_dir()]
    if missing:
        archives = ", ".join("RobotCar_Seasons-v2_" + part.replace("/", "_") for part in missing)
        raise DataError(
            f"{root}: {', '.join(missing)} of RobotCar Seasons v2 is not there; install {archives} with kapture's "
            "downloader"
        )
    asked = [place for place in places if (root / place / "query" / "sensors").is_dir()]
    if not asked:
        raise DataError(
            f"{root}: no location of RobotCar Seasons v2 has a query folder; half of the dataset is missing"
        )
    maps = {place: read_scene(root / place / "mapping", need_cameras=True) for place in places}
    queries = {place: read_scene(root / place / "query", need_cameras=True) for place in asked}
    locations = {name: place for scenes in (maps, queries) for place, scene in scenes.items() for name in scene.records}
    everything = merged(root, maps)
    training = {name for name in everything.records if condition_of(root, name) != REFERENCE}
    mapping = everything.part(everything.records.keys() - training)
    _expect_poses(mapping)
    known_query = everything.part(training) if training else None
    known = {}
    if known_query is not None:
        known, known_query.poses = known_query.poses, {}
    return robotcar_set(
        "robotcar-v2",
        root,
        mapping,
        merged(root, queries),
        rig=read_rig(root / places[0] / "mapping"),
        locations=locations,
        known=known,
        known_query=known_query,
    )


def robotcar_set(
    name: SetName,
    root: Path,
    mapping: Scene,
    query: Scene,
    *,
    rig: dict[str, Pose],
    locations: dict[str, str] | None = None,
    known: dict[str, Pose] | None = None,
    known_query: Scene | None = None,
    layout: Layout = "kapture",
) -> LocalizationSet:
    """The set of a map and queries; a query's condition is the first folder of its name."""
    conditions: dict[str, list[str]] = {condition: [] for condition in sorted((*DAYS, *NIGHTS))}
    for image in query.names:
        condition = condition_of(root, image)
        if condition == REFERENCE:
            raise DataError(f"{root}: query {image!r} is of {REFERENCE}, the condition of the map; is it a map image?")
        conditions[condition].append(image)
    return LocalizationSet(
        name,
        root,
        mapping,
        query,
        {condition: names for condition, names in conditions.items() if names},
        DAYS,
        NIGHTS,
        "robotcar",
        scored=_scored(query),
        locations=locations or {},
        known=known or {},
        known_query=known_query,
        layout=layout,
        rig=rig,
    )


def condition_of(root: Path, name: str) -> str:
    """Condition that an image's name states.

    Raises:
        DataError: the name is none of the dataset's.
    """
    parts = NAME.fullmatch(name)
    if parts is None or parts["condition"] not in (*DAYS, *NIGHTS, REFERENCE) or parts["camera"] not in CAMERAS:
        raise DataError(
            f"{root}: image {name!r} is none of RobotCar Seasons, whose images are condition/camera/timestamp.jpg with "
            f"the cameras {', '.join(CAMERAS)}"
        )
    return parts["condition"]


def _scored(query: Scene) -> tuple[str, ...]:
    """Sensors of the camera that is scored: one, or one of each location where these have intrinsics of their own."""
    of_rear = {name for name in query.records if name.split("/")[1] == SCORED}
    sensors = {query.records[name].camera_id for name in of_rear}
    if not sensors:
        raise DataError(f"{query.root}: no query is of the camera {SCORED}, which alone is scored; install it again")
    other = next((n for n in query.names if n not in of_rear and query.records[n].camera_id in sensors), None)
    if other is not None:
        raise DataError(
            f"{query.root}: query {other!r} is of the sensor {query.records[other].camera_id!r}, as images of {SCORED} "
            "are; sensors are left, rear and right"
        )
    return tuple(sorted(sensors))


def _expect_poses(mapping: Scene) -> None:
    unposed = [name for name in mapping.names if name not in mapping.poses]
    if unposed:
        raise DataError(
            f"{mapping.root}: {len(unposed)} map images have no pose, first {unposed[0]!r}; install the dataset again"
        )
