"""Files of a source: on this machine, or behind a URL; the few things that listing and reading need of either."""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from gloam.data.images import NO_MEMORY
from gloam.data.sources.items import Origin
from gloam.errors import ImageError
from gloam.files import Stamp, file_stamp, open_file

LISTED = "linked folder that leads back or is listed already"


class NoAnswer(ImageError):
    """A store that did not answer, however often it was asked.

    While images are read, one is a failure; while they are listed, the run has not begun and must not: a list without
    what is there would make another store.
    """


class Files(Protocol):
    """Where a source's files are; paths are those of this machine, or URLs."""

    def read(self, path: str, start: int = 0, size: int | None = None) -> bytes:
        """A part of a file, or all of it; fewer bytes where the file ends. A failure is an ImageError."""
        ...

    def open(self, path: str) -> BinaryIO:
        """A handle that can seek; a failure is an OSError or an ImageError."""
        ...

    def size(self, path: str) -> int:
        """Bytes of a file; a failure is an OSError or an ImageError."""
        ...

    def stamp(self, path: str) -> Stamp | None:
        """What changes when the file does; None where nothing but its bytes can tell."""
        ...

    def is_file(self, path: str) -> bool:
        """Whether there is such a file."""
        ...

    def names(self, folder: str) -> Iterator[str]:
        """Names of the files directly in a folder; none where there is no such folder."""
        ...

    def below(self, folder: str, left_out: dict[str, int] | None = None) -> Iterator[str]:
        """Relative paths of all files below a folder, in order, hidden ones left out.

        Args:
            left_out: where the number of linked folders that are not followed is added, by the reason.
        """
        ...

    def glob(self, pattern: str) -> list[str]:
        """Paths that match a pattern with ``*``, in order."""
        ...

    def origin(self, path: str) -> Origin | None:
        """How an image that is a file of its own is read; None where its path says it."""
        ...


class LocalFiles:
    """Files of this machine."""

    def read(self, path: str, start: int = 0, size: int | None = None) -> bytes:
        """See :class:`Files`."""
        try:
            with open_file(path) as file:
                file.seek(start)
                return file.read(-1 if size is None else size)
        except OSError as error:
            raise ImageError(f"cannot be read: {error.strerror or error}") from error
        except MemoryError as error:
            raise ImageError(NO_MEMORY) from error

    def open(self, path: str) -> BinaryIO:
        """See :class:`Files`."""
        return open_file(path)

    def size(self, path: str) -> int:
        """See :class:`Files`."""
        return os.stat(path).st_size

    def stamp(self, path: str) -> Stamp | None:
        """See :class:`Files`."""
        return file_stamp(path)

    def is_file(self, path: str) -> bool:
        """See :class:`Files`."""
        return os.path.isfile(path)

    def names(self, folder: str) -> Iterator[str]:
        """See :class:`Files`."""
        try:
            with os.scandir(folder) as entries:
                yield from (entry.name for entry in entries if entry.is_file())
        except (OSError, ValueError):  # said by whoever lists the folder in earnest
            return

    def below(self, folder: str, left_out: dict[str, int] | None = None) -> Iterator[str]:
        """See :class:`Files`; the order is that of whole paths, which are never held.

        A link to a folder is followed where what it leads to is not below ``folder`` and was not listed before: every
        folder is listed once, by its own path where it has one, and loops end.
        """
        root = os.path.join(os.path.realpath(folder), "")
        return self._below(folder, root, set(), left_out)

    def _below(
        self, folder: str, root: str, seen: set[tuple[int, int]], left_out: dict[str, int] | None
    ) -> Iterator[str]:
        with os.scandir(folder) as entries:
            found = sorted(entry.name + "/" * _is_folder(entry) for entry in entries if entry.name[:1] != ".")
        for name in found:
            inner = os.path.join(folder, name[:-1])
            if not name.endswith("/"):
                yield name
                continue
            place = os.stat(inner)
            real = os.path.join(os.path.realpath(inner), "")
            known = (place.st_dev, place.st_ino) in seen
            if os.path.islink(inner) and (known or root.startswith(real) or real.startswith(root)):
                count(left_out, LISTED)
            elif not known:  # a folder that a link led to before is listed by that link
                seen.add((place.st_dev, place.st_ino))
                yield from (f"{name}{rest}" for rest in self._below(inner, root, seen, left_out))

    def glob(self, pattern: str) -> list[str]:
        """See :class:`Files`; ``**`` goes where :meth:`below` goes."""
        parts = pattern.split("/")
        if "**" not in parts:
            return sorted(glob.glob(pattern))
        fixed = next(at for at, part in enumerate(parts) if glob.has_magic(part))
        base = "/".join(parts[:fixed]) + "/" if fixed else "."
        wanted = [part for at, part in enumerate(parts) if part != "**" or parts[at - 1] != "**"][fixed:]
        with contextlib.suppress(OSError):
            names = [name for name in self.below(base) if _matches(name.split("/"), wanted)]
            return [name if base == "." else os.path.join(base, name) for name in names]
        return []

    def origin(self, path: str) -> Origin | None:
        """See :class:`Files`."""
        return None


def is_url(text: str) -> bool:
    """Whether a text names a file elsewhere: ``scheme://...``."""
    scheme, separator, _ = text.partition("://")
    return bool(separator) and scheme.isalnum()


def base_name(path: str) -> str:
    """The last part of a path or URL."""
    return Path(path).name


def count(left_out: dict[str, int] | None, reason: str) -> None:
    """Add one to a reason's number."""
    if left_out is not None:
        left_out[reason] = left_out.get(reason, 0) + 1


def _matches(names: list[str], wanted: list[str]) -> bool:
    if not wanted:
        return not names
    if wanted[0] == "**":
        return any(_matches(names[at:], wanted[1:]) for at in range(len(names) + (len(wanted) > 1))) or wanted == ["**"]
    return bool(names) and fnmatch.fnmatchcase(names[0], wanted[0]) and _matches(names[1:], wanted[1:])


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


local_files = LocalFiles()
