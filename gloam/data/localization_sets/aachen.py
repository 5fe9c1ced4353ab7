"""Reading Aachen Day-Night v1.1."""

from __future__ import annotations

from pathlib import Path

from gloam.data.kapture_io import read_scene
from gloam.data.localization_sets.dataset import LocalizationSet
from gloam.data.localization_sets.merge import merged
from gloam.data.scene import Scene
from gloam.errors import DataError

CONDITIONS = ("day", "night")


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
    return aachen_set(root, mapping, query)


def aachen_set(root: Path, mapping: Scene, query: Scene) -> LocalizationSet:
    """The set of a map and queries; a query's condition is the folder that it lies in."""
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
    return LocalizationSet("aachen-v1.1", root, mapping, query, conditions, ("day",), ("night",), "aachen")
