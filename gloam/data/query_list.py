"""Queries as hloc and the long-term localization benchmark list them: ``name MODEL width height parameters``, a line
each, with COLMAP's camera models."""

from __future__ import annotations

from pathlib import Path

from gloam.data.kapture_text import read_camera
from gloam.data.scene import Record, Scene, SceneFiles
from gloam.data.text import listed_names, text_lines
from gloam.errors import DataError
from gloam.files import bad_name

COLMAP_ORIGIN = 0.5  # of the intrinsics: the centre of the first pixel


def read_query_list(path: str | Path, images: str | Path) -> Scene:
    """Read a list of images with intrinsics; each image has a camera of its own.

    Args:
        path: text file; a name with spaces stands in double quotes.
        images: folder that the names are relative to.

    Raises:
        DataError: unreadable, empty, or a line that is no image with intrinsics, or of an image listed before; the line
            is named.
    """
    place = Path(path)
    scene = Scene(place, images=Path(images), origin=COLMAP_ORIGIN, files=SceneFiles(*[place.name] * 3))
    for number, line in text_lines(place, "the list of queries cannot be read"):
        where = f"{place}:{number}"
        name, *parameters = listed_names(line) or [""]
        if reason := bad_name(name):
            raise DataError(f"{where}: image name {name!r} {reason}")
        if name in scene.records:
            raise DataError(f"{where}: image {name!r} is listed twice; remove one of the two")
        if not parameters:
            raise DataError(f"{where}: image {name!r} has no intrinsics; expected 'name MODEL width height parameters'")
        scene.cameras[name] = read_camera(parameters, where, f"image {name!r}", needed=True)
        scene.records[name] = Record(name, len(scene.records))
    if not scene.records:
        raise DataError(f"{place}: lists no images")
    return scene
