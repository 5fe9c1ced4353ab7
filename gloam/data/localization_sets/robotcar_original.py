"""Reading RobotCar Seasons as its authors give it: text files of the cameras, 3D models, and lists of queries.

The models name images ``.png``, the images are ``.jpg``. One download holds both versions; version 2 adds two lists.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sized
from pathlib import Path

import numpy as np

from gloam.data.kapture_text import read_camera
from gloam.data.localization_sets.colmap_poses import is_colmap_poses, read_colmap_poses
from gloam.data.localization_sets.dataset import LocalizationSet
from gloam.data.localization_sets.nvm import read_nvm
from gloam.data.localization_sets.robotcar import CAMERAS, NAME, REFERENCE, SCORED, condition_of, robotcar_set
from gloam.data.scene import Camera, Pose, Record, Scene, SceneFiles
from gloam.data.text import finite, listed_name, listed_names, text_lines
from gloam.errors import DataError

SIDE = 1024  # pixels, of the benchmark's images
MODELS = Path("3D-models", "individual", "colmap_reconstructions")
MERGED = Path("3D-models", "all-merged", "all.nvm")
QUERIES = Path("3D-models", "individual", "queries_per_location")
TRAIN, TEST = "robotcar_v2_train.txt", "robotcar_v2_test.txt"
ALIGNED = re.compile(r"(\d{3})_aligned")
ASKED = re.compile(r"queries_location_(\d{3})\.txt")
SQUARE = 1e-3  # how far a rotation's columns may be from unit length and right angles


def read_robotcar_v1_original(root: Path) -> LocalizationSet:
    """Version 1: every image of the lists of queries is one.

    Raises:
        DataError: a file is missing or malformed.
    """
    expect_parts(root)
    mapping, locations = _mapping(root)
    query = _scene(root, mapping.cameras, _asked(root, locations))
    return robotcar_set("robotcar-v1", root, mapping, query, rig=_rig(root), locations=locations, layout="original")


def read_robotcar_v2_original(root: Path) -> LocalizationSet:
    """Version 2: shots of the training list are known, those of the test list are queries.

    Raises:
        DataError: a file is missing or malformed.
    """
    expect_parts(root, TRAIN)
    mapping, locations = _mapping(root)
    asked = dict.fromkeys(_asked(root, locations))
    known = dict(_training(root / TRAIN))
    _expect_some(root / TRAIN, known)
    lost = next((name for name in known if name not in asked), None)
    if lost is not None:
        raise DataError(f"{root / TRAIN}: image {lost!r} is in no list of queries; take the lists of the same dataset")
    shots = {name: _shot(name) for name in asked}
    trained = {shots[name] for name in known}
    tested = set(shots.values()) - trained
    if (root / TEST).is_file():
        tested = {_shot(name) for name in _tested(root / TEST, known, asked)}
        _expect_some(root / TEST, tested)
    return robotcar_set(
        "robotcar-v2",
        root,
        mapping,
        _scene(root, mapping.cameras, [name for name in asked if shots[name] in tested]),
        rig=_rig(root),
        locations=locations,
        known=known,
        known_query=_scene(root, mapping.cameras, [name for name in asked if shots[name] in trained]),
        layout="original",
    )


def expect_parts(root: Path, *lists: str) -> None:
    """Refuse half of the dataset.

    Raises:
        DataError: naming all that is missing.
    """
    wanted = [f"{kind}/{camera}_{kind}.txt" for kind in ("intrinsics", "extrinsics") for camera in CAMERAS]
    missing = [name for name in (*wanted, *lists) if not (root / name).is_file()]
    if not _models(root) and not (root / MERGED).is_file():
        missing.append(f"{MODELS}/001_aligned")
    if not (root / QUERIES).is_dir() and not (root / "images").is_dir():
        missing.append(str(QUERIES))
    if missing:
        raise DataError(
            f"{root}: {', '.join(missing)} of RobotCar Seasons {'v2 ' if lists else ''}is not there; download it again"
        )


def _models(root: Path) -> dict[str, Path]:
    """The model of each location, by its two digits."""
    if not (root / MODELS).is_dir():
        return {}
    named = ((ALIGNED.fullmatch(path.name), path) for path in sorted((root / MODELS).iterdir()))
    return {match[1][1:]: path for match, path in named if match and is_colmap_poses(path)}


def _mapping(root: Path) -> tuple[Scene, dict[str, str]]:
    """The map, and the location of each of its images where the models of single locations are there."""
    models = _models(root)
    locations: dict[str, str] = {}
    poses: dict[str, Pose] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for place, path in models.items():
        model = read_colmap_poses(path, root / "images")
        for name, pose in model.poses.items():
            image = _jpg(name)
            condition_of(path, image)
            if image in poses:
                raise DataError(f"{path}: image {image!r} is in location {locations[image]} too; remove one of the two")
            poses[image], locations[image] = pose, place
            camera = model.camera(name)
            sizes[image.split("/")[1]] = (camera.width, camera.height)
    if not models:
        poses = {_jpg(image.name): image.pose for image in read_nvm(root / MERGED)}
    cameras = {
        camera: _camera(root / "intrinsics" / f"{camera}_intrinsics.txt", camera, sizes.get(camera, (SIDE, SIDE)))
        for camera in CAMERAS
    }
    mapping = _scene(root, cameras, poses)
    others = next((name for name in poses if condition_of(root, name) != REFERENCE), None)
    if others is not None:
        raise DataError(f"{root}: map image {others!r} is not of {REFERENCE}; take the models of RobotCar Seasons")
    mapping.poses = poses
    return mapping, locations


def _scene(root: Path, cameras: dict[str, Camera], names: Iterable[str]) -> Scene:
    files = SceneFiles("intrinsics", "3D-models", "3D-models")
    scene = Scene(root, dict(cameras), images=root / "images", files=files)
    for name in sorted(names):
        condition_of(root, name)
        _, camera, timestamp = _parts(name)
        scene.records[name] = Record(camera, int(timestamp))
    if not scene.records:
        raise DataError(f"{root}: no image is in the lists; download them again")
    return scene


def _camera(path: Path, camera: str, size: tuple[int, int]) -> Camera:
    """Intrinsics of lines ``fx 400.0``."""
    found = {}
    for number, line in text_lines(path, "the intrinsics cannot be read"):
        name, _, value = line.replace("\t", " ").partition(" ")
        if name not in ("fx", "fy", "cx", "cy") or name in found:
            raise DataError(
                f"{path}:{number}: {line[:40]!r} is not one of fx, fy, cx and cy with its number, once each"
            )
        found[name] = value.strip()
    lost = [name for name in ("fx", "fy", "cx", "cy") if name not in found]
    if lost:
        raise DataError(f"{path}: {' and '.join(lost)} is missing; the file has a line each of fx, fy, cx and cy")
    row = ["PINHOLE", *map(str, size), *(found[name] for name in ("fx", "fy", "cx", "cy"))]
    return read_camera(row, str(path), f"camera {camera!r}", needed=True)


def _rig(root: Path) -> dict[str, Pose]:
    """From the car to each camera; the files state where the cameras are on the car."""
    rig = {}
    for camera in CAMERAS:
        path = root / "extrinsics" / f"{camera}_extrinsics.txt"
        rows = [
            (f"{path}:{number}", line.split(",")) for number, line in text_lines(path, "the extrinsics cannot be read")
        ]
        if len(rows) != 4:
            raise DataError(f"{path}: {len(rows)} rows where a matrix of 4 rows belongs")
        rig[camera] = _inverse([value for _, row in rows for value in row], str(path))
    return rig


def _inverse(values: list[str], where: str) -> Pose:
    """World to camera of a matrix ``[4, 4]`` from the camera to the world, row by row.

    Raises:
        DataError: other than 16 numbers, or no rigid transform.
    """
    try:
        matrix = np.array([finite(value) for value in values]).reshape(4, 4)
    except ValueError as error:
        raise DataError(f"{where}: is no matrix of 4 x 4 numbers ({error})") from error
    rotation = matrix[:3, :3]
    square = np.abs(rotation.T @ rotation - np.eye(3)).max() <= SQUARE and np.linalg.det(rotation) > 0
    if not square or np.abs(matrix[3] - [0, 0, 0, 1]).max() > SQUARE:
        raise DataError(f"{where}: the matrix is no rotation and translation; download the file again")
    return Pose.from_matrix(rotation.T, -rotation.T @ matrix[:3, 3])


def _asked(root: Path, locations: dict[str, str]) -> list[str]:
    """All images that are not of the map; their locations are added where lists state them."""
    if not (root / QUERIES).is_dir():
        found = (path.relative_to(root / "images").as_posix() for path in sorted((root / "images").glob("*/*/*.jpg")))
        return [name for name in found if NAME.fullmatch(name) and not name.startswith(REFERENCE)]
    placed = set(locations.values())
    names: list[str] = []
    for path in sorted((root / QUERIES).iterdir()):
        match = ASKED.fullmatch(path.name)
        if match is None:
            continue
        place = match[1][1:]
        if placed and place not in placed:
            raise DataError(f"{root / MODELS / f'{match[1]}_aligned'}: is missing; {path.name} asks for that location")
        rows = text_lines(path, "the list of queries cannot be read")
        _expect_some(path, rows)
        for number, line in rows:
            name = _jpg(listed_name(line))
            condition_of(Path(f"{path}:{number}"), name)
            if name in locations:
                raise DataError(
                    f"{path}:{number}: image {name!r} is in location {locations[name]} already; remove one of the two"
                )
            locations[name] = place
            names.append(name)
    return names


def _training(path: Path) -> Iterator[tuple[str, Pose]]:
    """Rear images of version 2's training list and their poses."""
    seen: dict[str, int] = {}
    for number, line in text_lines(path, "the training list cannot be read"):
        where = f"{path}:{number}"
        listed, *values = listed_names(line) or [""]
        name = _jpg(listed)
        condition_of(Path(where), name)
        if _parts(name)[1] != SCORED:
            raise DataError(f"{where}: image {name!r} is not of the camera {SCORED}, whose poses the list states")
        if seen.setdefault(name, number) != number:
            raise DataError(f"{where}: image {name!r} is there already, in line {seen[name]}; remove one of the two")
        yield name, _inverse(values, where)


def _tested(path: Path, known: Collection[str], asked: Collection[str]) -> Iterator[str]:
    """Rear images of version 2's test list."""
    for number, line in text_lines(path, "the test list cannot be read"):
        name = _jpg(listed_name(line))
        condition_of(Path(f"{path}:{number}"), name)
        if name in known:
            raise DataError(f"{path}:{number}: image {name!r} is also in {TRAIN}; remove it from one of the two")
        if name not in asked:
            raise DataError(f"{path}:{number}: image {name!r} is in no list of queries; take the lists of one dataset")
        yield name


def _expect_some(path: Path, found: Sized) -> None:
    if not len(found):
        raise DataError(f"{path}: lists no images; download it again")


def _parts(name: str) -> tuple[str, str, str]:
    condition, camera, file = name.split("/")
    return condition, camera, file.partition(".")[0]


def _shot(name: str) -> tuple[str, str]:
    condition, _, timestamp = _parts(name)
    return condition, timestamp


def _jpg(name: str) -> str:
    return f"{name[:-4]}.jpg" if name.endswith(".png") else name
