"""Images in tar files (WebDataset shards): the headers are read once, members are then read by their offsets.

A damaged or truncated member is an item with a problem; what follows it in the tar is still found.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from gloam.data.sources.files import Files, NoAnswer, base_name
from gloam.data.sources.items import IMAGE_SUFFIXES, ImageItem, ImageList, Record, make_item
from gloam.errors import DataError, ImageError

BLOCK = 512  # bytes; headers and data of a tar begin at multiples of it
MAGIC, MAGIC_AT = b"ustar", 257  # of a header
SEARCHED = 1 << 20  # bytes at once while the next header is looked for


@dataclass(frozen=True)
class Member:
    """The bytes of one member.

    Attributes:
        files, path: the tar.
        offset, size: of its data, bytes.
    """

    files: Files
    path: str
    offset: int
    size: int

    @property
    def container(self) -> str:
        """The tar's name."""
        return base_name(self.path)

    def read(self) -> bytes:
        """See :class:`gloam.data.sources.items.Origin`."""
        content = self.files.read(self.path, self.offset, self.size)
        if len(content) != self.size:
            raise ImageError(f"truncated: {len(content)} of {self.size} bytes are there")
        return content


def tar_images(files: Files, paths: Sequence[str]) -> ImageList:
    """The images of tar files, in the order of the files and of their members; the member's path is the name."""

    places = [Path(path) for path in paths]

    def records() -> Iterator[Record]:
        for number, path in enumerate(paths):
            for name, offset, size, problem in _members(files, path):
                yield name, number, offset, size, problem

    item = partial(_item, files, paths, places)
    return ImageList(records(), item, repeated="another image has this name, in {first}; names must differ")


def _item(files: Files, paths: Sequence[str], places: Sequence[Path], record: Record) -> ImageItem:
    name, number, offset, size, problem = record
    if problem is not None:
        return ImageItem(make_item(name, places[number]).name, places[number], f"{places[number].name}: {problem}")
    return make_item(name, places[number], Member(files, paths[number], offset, size))


def _members(files: Files, path: str) -> Iterator[tuple[str, int, int, str | None]]:
    """Name, offset, size and problem of each image in a tar."""
    try:
        size = files.size(path)
        with files.open(path) as file:
            yield from _read(file, size, base_name(path))
    except NoAnswer as error:
        raise DataError(f"{path}: {error}; run again when it answers") from error
    except OSError as error:
        yield base_name(path), 0, 0, f"cannot be read: {error.strerror or error}"
    except ImageError as error:
        yield base_name(path), 0, 0, str(error)


def _read(file: BinaryIO, size: int, tar: str) -> Iterator[tuple[str, int, int, str | None]]:
    start: int | None = 0
    while start is not None:
        reached = start
        file.seek(start)
        try:
            archive = tarfile.TarFile(fileobj=file, encoding="utf-8", errors="surrogateescape")
            reached = archive.offset
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # it keeps every header otherwise
                reached = archive.offset
                here = size - member.offset_data
                if here < member.size and member.isreg():
                    yield member.name, 0, 0, f"truncated: {max(here, 0)} of {member.size} bytes are there"
                    return
                if _is_image(member):
                    problem = None if member.isreg() else "a link inside the tar; pack the files themselves"
                    yield member.name, member.offset_data, member.size, problem
            reached = archive.offset
        except (tarfile.TarError, ValueError, OverflowError, EOFError):
            pass  # judged below by what is there
        file.seek(reached)
        block = file.read(BLOCK)
        if size > 0 and not block.strip(b"\0"):
            return  # the end: nothing, or the zeros that close a tar
        start = _next_header(file, reached + BLOCK)
        lost = "nothing follows" if start is None else f"nothing up to byte {start} can be read"
        yield f"{tar}@{reached}", 0, 0, f"no member begins at byte {reached}: damaged, or no tar; {lost}"


def _is_image(member: tarfile.TarInfo) -> bool:
    path = member.name
    hidden = path.rpartition("/")[2].startswith(".")
    return not member.isdir() and not hidden and f".{path.rpartition('.')[2].lower()}" in IMAGE_SUFFIXES


def _next_header(file: BinaryIO, start: int) -> int | None:
    """Where, from ``start`` on, the next readable header begins."""
    while True:
        file.seek(start)
        content = file.read(SEARCHED)
        if len(content) < BLOCK:
            return None
        at = content.find(MAGIC)
        while at >= 0:
            begin = at - MAGIC_AT
            if begin >= 0 and begin % BLOCK == 0 and begin + BLOCK <= len(content):
                try:
                    tarfile.TarInfo.frombuf(content[begin : begin + BLOCK], "utf-8", "surrogateescape")
                    return start + begin
                except tarfile.HeaderError:
                    pass
            at = content.find(MAGIC, at + 1)
        start += len(content) - len(content) % BLOCK
