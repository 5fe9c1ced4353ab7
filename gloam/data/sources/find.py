"""What a source is, and its images in a fixed order."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from gloam.data.sources.files import Files, base_name, count, is_url, local_files
from gloam.data.sources.items import (
    IMAGE_SUFFIXES,
    NO_IMAGE,
    ImageItem,
    ImageList,
    Record,
    is_beside,
    make_item,
    repeats,
)
from gloam.data.sources.patterns import expand, is_pattern
from gloam.data.sources.tar import tar_images
from gloam.data.text import lines_of, listed_name
from gloam.errors import DataError, ImageError
from gloam.files import NO_FILE

COMPRESSED = (".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")


def find_images(source: str | Path, root: str | Path | None = None) -> Sequence[ImageItem]:
    """List the images of a source, in a fixed order.

    Args:
        source: a folder (searched below, linked folders too; hidden files, and what is no image by its name, left
            out), a text file with a name per line (see :mod:`gloam.data.text`), a kapture
            dataset (a folder with ``sensors/records_camera.txt``), one image; a ``.tar`` or ``.parquet`` file, a
            folder of such, or a pattern of them (``train-{000..099}.tar``, ``*.parquet``); or a URL
            (``s3://``, ``https://``, ...) of a folder or any of these files.
        root: folder or URL that a list's names are relative to; the list's own folder by default.

    Returns:
        the images; however many they are, they take next to no memory. What an :class:`ImageList` left out is counted
        in its ``left_out``.

    Raises:
        DataError: the source is absent or unreadable, or holds no images.
        MissingExtraError: a URL, and the package for its scheme is not installed.
    """
    text = str(source)
    files = _files(text)
    if is_pattern(text) and not (files is local_files and os.path.exists(text)):
        items = _from_shards(files, expand(text, files), text)
    elif files is local_files and os.path.isfile(os.path.join(text, "sensors", "records_camera.txt")):
        from gloam.data.kapture_io import read_scene

        scene = read_scene(Path(text))
        items = [ImageItem(name, scene.image_path(name)) for name in scene.names]
    elif files.is_file(text):
        items = _from_file(files, text, root)
    elif shards := _shards_in(files, text):
        items = _from_shards(files, shards, text)
    elif files is not local_files or os.path.isdir(text):
        items = _from_folder(files, text)
    elif os.path.exists(text):
        raise DataError(f"{text}: {NO_FILE}; give a folder, a list or an image")
    else:
        raise DataError(f"{text}: no such folder or list")
    if not items:
        raise DataError(f"{text}: no images found")
    return items


def _files(place: str) -> Files:
    if not is_url(place):
        return local_files
    from gloam.data.sources.remote import RemoteFiles

    return RemoteFiles.of(place)


def _shards_in(files: Files, folder: str) -> list[str]:
    """The .tar or .parquet files of a folder that holds such files and no image beside them."""
    found: dict[str, list[str]] = {".tar": [], ".parquet": []}
    for name in files.names(folder):
        if _suffix(name) in IMAGE_SUFFIXES:
            return []
        if _suffix(name) in found and not name.startswith("."):
            found[_suffix(name)].append(posixpath.join(folder, name))
    return sorted(found[".tar"]) or sorted(found[".parquet"])


def _from_shards(files: Files, paths: Sequence[str], source: str) -> Sequence[ImageItem]:
    kinds = {_suffix(path) for path in paths}
    if not paths:
        raise DataError(f"{source}: no file matches this pattern")
    if kinds == {".tar"}:
        return tar_images(files, paths)
    if kinds == {".parquet"}:
        from gloam.data.sources.parquet import parquet_images

        return parquet_images(files, paths)
    raise DataError(f"{source}: a pattern must name .tar files or .parquet files, not {', '.join(sorted(kinds))}")


def _from_file(files: Files, path: str, root: str | Path | None) -> Sequence[ImageItem]:
    if path.lower().endswith(COMPRESSED):
        raise DataError(f"{path}: a compressed tar cannot be read at any place; unpack it to .tar")
    if _suffix(path) in (".tar", ".parquet"):
        return _from_shards(files, [path], path)
    if _suffix(path) in IMAGE_SUFFIXES:
        return [make_item(base_name(path), Path(path), files.origin(path))]
    return _from_list(files, path, root)


def _from_folder(files: Files, folder: str) -> Sequence[ImageItem]:
    left_out: dict[str, int] = {}

    def records() -> Iterator[Record]:
        try:
            for name in files.below(folder, left_out):
                if is_beside(name):
                    count(left_out, NO_IMAGE)
                else:
                    yield (name,)
        except OSError as error:
            raise DataError(f"{error.filename}: the folder cannot be read ({error.strerror})") from error

    return ImageList(records(), partial(_item, files, folder), left_out=left_out)


def _from_list(files: Files, path: str, root: str | Path | None) -> Sequence[ImageItem]:
    parent = posixpath.dirname(path) or "." if root is None else str(root)
    base = files if root is None else _files(parent)
    try:
        content = files.read(path)
    except ImageError as error:
        raise DataError(f"{path}: the image list {error}") from error

    try:
        lines_of(content, "surrogateescape")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start})") from error

    def names() -> Iterator[str]:
        return (listed_name(line) for _, line in lines_of(content, "surrogateescape"))

    again = repeats(names)  # a name twice is the same image once
    chosen = ((name,) for position, name in enumerate(names()) if position not in again)
    return ImageList(chosen, partial(_item, base, parent))


def _item(files: Files, folder: str, record: Record) -> ImageItem:
    name = record[0]
    path = posixpath.join(folder, name)
    return make_item(name, Path(path), files.origin(path))


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()
