"""Images in tar files (WebDataset shards): the headers are read once, members are then read by their offsets.

A damaged or truncated member is an item with a problem; what follows it in the tar is still found.
"""

from __future__ import annotations

import tarfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from gloam.data.images import MAX_BYTES, TOO_LONG
from gloam.data.sources.files import Files, NoAnswer, base_name, count
from gloam.data.sources.items import IMAGE_SUFFIXES, NO_IMAGE, ImageItem, ImageList, Record, make_item
from gloam.data.text import plain_name
from gloam.errors import DataError, ImageError
from gloam.files import Stamp

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
        if self.size > MAX_BYTES:
            raise ImageError(TOO_LONG)
        content = self.files.read(self.path, self.offset, self.size)
        if len(content) != self.size:
            raise ImageError(f"truncated: {len(content)} of {self.size} bytes are there")
        return content

    def stamp(self) -> Stamp | None:
        """See :class:`gloam.data.sources.items.Origin`."""
        tar = self.files.stamp(self.path)
        return None if tar is None else Stamp(f"{self.offset}+{self.size} of {tar.text}", tar.changed_ns)


def tar_images(files: Files, paths: Sequence[str]) -> ImageList:
    """The images of tar files, in the order of the files and of their members; the member's path is the name."""
    places = [Path(path) for path in paths]
    left_out: dict[str, int] = {}

    def records() -> Iterator[Record]:
        for number, path in enumerate(paths):
            for name, offset, size, problem in tar_members(files, path, left_out):
                yield plain_name(name), number, offset, size, problem

    item = partial(_item, files, paths, places)
    repeated = "another image has this name, in {first}; names must differ"
    return ImageList(records(), item, repeated=repeated, left_out=left_out)


def _item(files: Files, paths: Sequence[str], places: Sequence[Path], record: Record) -> ImageItem:
    name, number, offset, size, problem = record
    if problem is not None:
        return ImageItem(make_item(name, places[number]).name, places[number], f"{places[number].name}: {problem}")
    return make_item(name, places[number], Member(files, paths[number], offset, size))


def tar_members(
    files: Files, path: str, left_out: dict[str, int], suffixes: Collection[str] = IMAGE_SUFFIXES
) -> Iterator[tuple[str, int, int, str | None]]:
    """Name, offset, size and problem of each member of a tar whose suffix, in lower case, is one of ``suffixes``."""
    try:
        size = files.size(path)
        with files.open(path) as file:
            yield from _read(file, size, base_name(path), left_out, suffixes)
    except NoAnswer as error:
        raise DataError(f"{path}: {error}; run again when it answers") from error
    except OSError as error:
        yield base_name(path), 0, 0, f"cannot be read: {error.strerror or error}"
    except ImageError as error:
        yield base_name(path), 0, 0, str(error)


def _read(
    file: BinaryIO, size: int, tar: str, left_out: dict[str, int], suffixes: Collection[str]
) -> Iterator[tuple[str, int, int, str | None]]:
    start: int | None = 0
    while start is not None:
        reached = start
        file.seek(start)
        try:
            headers: Any = _Headers(file)
            archive = tarfile.TarFile(fileobj=headers, encoding="utf-8", errors="surrogateescape")
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # it keeps every header otherwise
                if member.size < 0 or archive.offset < member.offset_data:  # its length leads backwards
                    break
                reached = archive.offset
                here = size - member.offset_data
                problem = _problem(member)
                if here < member.size and member.isreg() and problem is None:
                    yield member.name, 0, 0, f"truncated: {max(here, 0)} of {member.size} bytes are there"
                    return
                if _is_wanted(member, suffixes):
                    yield member.name, member.offset_data, member.size, problem
                elif not member.isdir():
                    count(left_out, NO_IMAGE)
            reached = max(reached, archive.offset) if member is None else reached
        except (tarfile.TarError, ValueError, OverflowError, EOFError, MemoryError):
            pass  # judged below by what is there
        file.seek(reached)
        block = file.read(BLOCK)
        if size > 0 and not block.strip(b"\0"):
            reached = _end_of_zeros(file, reached)  # they close a tar; another one may follow
            if reached >= size:
                return
            if _next_header(file, reached, reached + BLOCK) is not None:
                start = reached
                continue
        start = _next_header(file, reached + BLOCK)
        lost = "nothing follows" if start is None else f"nothing up to byte {start} can be read"
        yield f"{tar}@{reached}", 0, 0, f"no member begins at byte {reached}: damaged, or no tar; {lost}"


def _problem(member: tarfile.TarInfo) -> str | None:
    if not member.isreg():
        return "a link inside the tar; pack the files themselves"
    return "a sparse file inside the tar; pack it without --sparse" if member.issparse() else None


class _Headers:
    """A tar of which no part that is read at once is longer than a header can be."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """As of a file."""
        if not 0 <= size <= SEARCHED:
            raise tarfile.ReadError("a header of no sensible length")
        return self._file.read(size)


def _is_wanted(member: tarfile.TarInfo, suffixes: Collection[str]) -> bool:
    path = member.name
    hidden = path.rpartition("/")[2].startswith(".")
    return not member.isdir() and not hidden and f".{path.rpartition('.')[2].lower()}" in suffixes


def _end_of_zeros(file: BinaryIO, start: int) -> int:
    """Where, from ``start`` on, the first block begins that is not of zeros; the file's end where there is none."""
    file.seek(start)
    while content := file.read(SEARCHED):
        rest = content.lstrip(b"\0")
        if rest:
            return start + (len(content) - len(rest)) // BLOCK * BLOCK
        start += len(content)
    return start


def _next_header(file: BinaryIO, start: int, before: int | None = None) -> int | None:
    """Where, from ``start`` on and not behind ``before``, the next readable header begins."""
    searched = 8 * BLOCK  # most often it is near
    while before is None or start < before:
        file.seek(start)
        content = file.read(searched if before is None else before - start)
        if len(content) < BLOCK:
            return None
        at = content.find(MAGIC)
        while at >= 0:
            begin = at - MAGIC_AT
            if begin >= 0 and begin % BLOCK == 0 and begin + BLOCK <= len(content):
                try:
                    tarfile.TarInfo.frombuf(content[begin : begin + BLOCK], "utf-8", "surrogateescape")
                    return start + begin
                except (tarfile.HeaderError, ValueError, OverflowError):
                    pass
            at = content.find(MAGIC, at + 1)
        start += len(content) - len(content) % BLOCK
        searched = min(2 * searched, SEARCHED)
    return None
