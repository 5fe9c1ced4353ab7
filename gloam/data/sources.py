"""Where images come from: a folder, a text list, a kapture dataset, or one image."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from gloam.errors import DataError
from gloam.files import bad_name

# What a single source file is taken for an image by; the files of a folder are decoded whatever their suffix.
IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".jp2", ".mpo")
)


@dataclass(frozen=True)
class ImageItem:
    """One image to describe.

    Attributes:
        name: relative posix path, printable; the key of its descriptor.
        path: the file.
        problem: why the item cannot be used at all, or None.
    """

    name: str
    path: Path
    problem: str | None = None


def find_images(source: str | Path, root: str | Path | None = None) -> list[ImageItem]:
    """List the images of a source, in a fixed order.

    Args:
        source: a folder (searched below, hidden files left out), a text file with a name per line, a kapture
            dataset (a folder with ``sensors/records_camera.txt``), or one image.
        root: folder that a list's names are relative to; the list's own folder by default.

    Raises:
        DataError: the source is absent or unreadable, or holds no images.
    """
    place = Path(source)
    if (place / "sensors" / "records_camera.txt").is_file():
        from gloam.data.kapture_io import read_scene

        scene = read_scene(place)
        items = [ImageItem(name, scene.image_path(name)) for name in scene.names]
    elif place.is_dir():
        items = _from_folder(place)
    elif place.is_file() and place.suffix.lower() in IMAGE_SUFFIXES:
        items = [_item(place.name, place.parent)]
    elif place.is_file():
        items = _from_list(place, Path(root) if root is not None else place.parent)
    else:
        raise DataError(f"{place}: no such folder or list")
    if not items:
        raise DataError(f"{place}: no images found")
    return items


def _from_folder(folder: Path) -> list[ImageItem]:
    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: the folder cannot be read ({error.strerror})") from error

    names = []
    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        relative = Path(parent).relative_to(folder)
        names += [(relative / name).as_posix() for name in files if not name.startswith(".")]
    return [_item(name, folder) for name in sorted(names)]


def _from_list(path: Path, root: Path) -> list[ImageItem]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"{path}: the image list cannot be read ({error.strerror})") from error
    items: dict[str, ImageItem] = {}
    for line in lines:
        name = line.decode("utf-8", "surrogateescape").strip()
        if name and not name.startswith("#"):
            item = _item(name, root)
            items.setdefault(item.name, item)  # a name twice is the same image once
    return list(items.values())


def _item(name: str, root: Path) -> ImageItem:
    problem = bad_name(name)
    if problem is None:
        return ImageItem(name, root / name)
    printable = name.encode("utf-8", "backslashreplace").decode("utf-8").encode("unicode_escape").decode("ascii")
    return ImageItem(printable, root / name, f"name {problem}")
