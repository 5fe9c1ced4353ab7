"""Reading Aachen Day-Night v1.1."""

from __future__ import annotations

from pathlib import Path

from gloam.data.kapture_io import read_scene
from gloam.data.localization_sets.colmap_poses import is_colmap_poses, read_colmap_poses
from gloam.data.localization_sets.dataset import Layout, LocalizationSet
from gloam.data.localization_sets.merge import merged
from gloam.data.localization_sets.nvm import read_nvm
from gloam.data.pairs import read_pairs
from gloam.data.query_list import read_query_list
from gloam.data.scene import Record, Scene, SceneFiles
from gloam.errors import DataError

CONDITIONS = ("day", "night")
FOLDERS = ("db/", "sequences/")  # of map images
QUERIES = "{}_time_queries_with_intrinsics.txt"
MODELS = ("aachen_v_1_1", "aachen_v1_1")  # below 3D-models
IMAGES = ("images_upright", "images/images_upright", "images")
LISTS = ("database_intrinsics.txt", "db_with_intrinsics.txt", "sequences_with_intrinsics.txt")  # of NVM's images
PAIRS = "image_pairs_to_match_v1_1.txt"


def read_aachen_kapture(root: Path) -> LocalizationSet:
    """Read it as kapture's downloader lays it: ``mapping``, ``query_day`` and ``query_night``, or these two merged.

    Raises:
        DataError: a part is missing or malformed.
    """
    together = next((part for part in ("query", "query_all") if (root / part / "sensors").is_dir()), None)
    parts = ["query_day", "query_night"]
    if together is not None and not any((root / part).is_dir() for part in parts):
        parts = [together]
    missing = [part for part in ("mapping", *parts) if not (root / part / "sensors").is_dir()]
    if missing:
        raise DataError(
            f"{root}: {' and '.join(missing)} of Aachen Day-Night v1.1 is not there; install "
            f"{' and '.join(f'Aachen-Day-Night-v1.1_{part}' for part in missing)} with kapture's downloader"
        )
    mapping = read_scene(root / "mapping", need_poses=True, need_cameras=True)
    query = merged(root, {part: read_scene(root / part, need_cameras=True) for part in parts})
    return _aachen_set(root, mapping, query, "kapture")


def read_aachen_original(root: Path) -> LocalizationSet:
    """Read it as its authors give it: a COLMAP or NVM model, and lists of queries with intrinsics.

    Raises:
        DataError: a file is missing or malformed.
    """
    model, lists = find_model(root), {condition: find_list(root, condition) for condition in CONDITIONS}
    missing = [f"queries/{QUERIES.format(condition)}" for condition, path in lists.items() if path is None]
    if model is None:
        missing.insert(0, f"3D-models/{MODELS[0]}")
    if missing or model is None:
        raise DataError(
            f"{root}: {' and '.join(missing)} of Aachen Day-Night v1.1 is not there; unpack aachen_v1_1.zip and take "
            "the list of day queries from the dataset's queries folder"
        )
    images = find_images(root)
    mapping = _nvm_scene(root, model, images) if model.suffix == ".nvm" else read_colmap_poses(model, images)
    asked = {condition: read_query_list(path, images) for condition, path in lists.items() if path is not None}
    query = merged(root, asked)
    found = _aachen_set(root, mapping, query, "original", _map_pairs(root, mapping, query))
    for condition, scene in asked.items():
        others = sorted(set(scene.records) - set(found.conditions[condition]))
        if others:
            raise DataError(f"{scene.root}: {others[0]!r} is no query by {condition}; is it in the wrong list?")
    return found


def find_model(root: Path) -> Path | None:
    """The folder of the COLMAP model of version 1.1, or the NVM file of the map; None where neither is there."""
    above = root / "3D-models"
    folders = [above / name for name in MODELS]
    found = [folder for folder in (*folders, above) if is_colmap_poses(folder)]
    return next(iter(found or (*sorted(above.glob("*.nvm")), *sorted(above.glob("*/*.nvm")))), None)


def find_list(root: Path, condition: str) -> Path | None:
    """The list of queries of a condition, in the folder ``queries`` or beside the images."""
    places = [folder / QUERIES.format(condition) for folder in (root / "queries", root)]
    return next((place for place in places if place.is_file()), None)


def find_images(root: Path) -> Path:
    """The folder of the upright images."""
    return next(
        (root / name for name in IMAGES if any((root / name / part).is_dir() for part in ("db", "query"))),
        root / IMAGES[0],
    )


def _aachen_set(
    root: Path,
    mapping: Scene,
    query: Scene,
    layout: Layout,
    map_pairs: list[tuple[str, str]] | None = None,
) -> LocalizationSet:
    """The set of a map and queries; a query's condition is the folder that it lies in."""
    other = next((name for name in mapping.names if not name.startswith(FOLDERS)), None)
    if other is not None:
        raise DataError(f"{root}: map image {other!r} is in neither db nor sequences; is it of another dataset?")
    conditions: dict[str, list[str]] = {condition: [] for condition in CONDITIONS}
    for name in query.names:
        folders = name.split("/")
        if len(folders) < 3 or folders[0] != "query" or folders[1] not in CONDITIONS:
            raise DataError(
                f"{root}: query {name!r} is in neither query/day nor query/night, which state the condition; is it of "
                "another dataset?"
            )
        conditions[folders[1]].append(name)
    empty = [condition for condition, names in conditions.items() if not names]
    if empty:
        raise DataError(f"{root}: there are no queries by {empty[0]}; half of the dataset is missing")
    return LocalizationSet(
        "aachen-v1.1",
        root,
        mapping,
        query,
        conditions,
        ("day",),
        ("night",),
        "aachen",
        map_pairs=map_pairs,
        layout=layout,
    )


def _nvm_scene(root: Path, path: Path, images: Path) -> Scene:
    """The map of an NVM model, which has no intrinsics but those of lists beside it."""
    folders = dict.fromkeys((path.parent, root / "3D-models", root / "queries", root))
    lists = [folder / name for folder in folders for name in LISTS if (folder / name).is_file()]
    if not lists:
        raise DataError(f"{path}: an NVM model has no intrinsics; put {' or '.join(LISTS[:2])} beside it")
    scene = Scene(path, images=images, files=SceneFiles(lists[0].name, path.name, path.name))
    for listed in (read_query_list(place, images) for place in lists):
        scene.cameras |= listed.cameras
    for number, image in enumerate(read_nvm(path)):
        if image.name not in scene.cameras:
            raise DataError(
                f"{image.where}: image {image.name!r} has no intrinsics in {', '.join(place.name for place in lists)}"
            )
        scene.records[image.name] = Record(image.name, number)
        scene.poses[image.name] = image.pose
    scene.cameras = {name: scene.cameras[name] for name in scene.records}
    return scene


def _map_pairs(root: Path, mapping: Scene, query: Scene) -> list[tuple[str, str]] | None:
    """The authors' pairs, each once: their list has both orders, and pairs of queries, for their benchmark."""
    path = next((folder / PAIRS for folder in (root, root / "3D-models") if (folder / PAIRS).is_file()), None)
    if path is None:
        return None
    pairs = [(pair.query, pair.mapping) for pair in read_pairs(path)]
    strange = next(
        (name for pair in pairs for name in pair if name not in mapping.records and name not in query.records), None
    )
    if strange is not None:
        raise DataError(
            f"{path}: image {strange!r} is neither in the map nor a query; take the list of the same version"
        )
    kept: dict[frozenset[str], tuple[str, str]] = {}
    for pair in pairs:
        if all(name in mapping.records for name in pair):
            kept.setdefault(frozenset(pair), pair)
    return list(kept.values())
