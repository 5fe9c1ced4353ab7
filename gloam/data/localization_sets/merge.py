"""Several datasets as one scene: each image keeps its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gloam.data.scene import KAPTURE_FILES, Camera, Record, Scene
from gloam.errors import DataError


def merged(root: Path, parts: Mapping[str, Scene]) -> Scene:
    """One scene of several.

    Sensors keep their names where the parts agree on the intrinsics of each; else all are ``part/sensor``.

    Args:
        root: that messages name.
        parts: by name.

    Raises:
        DataError: an image is in two parts.
    """
    whole = Scene(root, files=next((scene.files for scene in parts.values()), KAPTURE_FILES))
    whole.origin = next((scene.origin for scene in parts.values()), None)
    folders: dict[str, Path] = {}
    places: dict[str, str] = {}
    agreed = _agreed(parts)
    for part, scene in parts.items():
        before = "" if agreed else f"{part}/"
        whole.cameras |= {before + key: camera for key, camera in scene.cameras.items()}
        for name, record in scene.records.items():
            if name in places:
                raise DataError(f"{root}: image {name!r} is in {places[name]} and in {part}; remove one of the two")
            places[name] = part
            whole.records[name] = Record(before + record.camera_id, record.timestamp)
        whole.poses |= scene.poses
        folders |= dict.fromkeys(scene.records, scene.image_folder)
    whole.folders = folders
    return whole


def _agreed(parts: Mapping[str, Scene]) -> bool:
    """Whether sensors of one name have the same intrinsics everywhere, and no two images of one are of one time."""
    cameras: dict[str, Camera] = {}
    seen: set[Record] = set()
    for scene in parts.values():
        if any(cameras.setdefault(key, camera) != camera for key, camera in scene.cameras.items()):
            return False
        records = set(scene.records.values())
        if seen & records:
            return False
        seen |= records
    return True
