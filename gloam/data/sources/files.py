"""Files of a source: on this machine, or behind a URL; the few things that listing and reading need of either."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from gloam.data.sources.items import Origin
from gloam.errors import ImageError


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

    def is_file(self, path: str) -> bool:
        """Whether there is such a file."""
        ...

    def names(self, folder: str) -> Iterator[str]:
        """Names of the files directly in a folder; none where there is no such folder."""
        ...

    def below(self, folder: str) -> Iterator[str]:
        """Relative paths of all files below a folder, in order, hidden ones left out."""
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
            with open(path, "rb") as file:
                file.seek(start)
                return file.read(size)
        except OSError as error:
            raise ImageError(f"cannot be read: {error.strerror or error}") from error

    def open(self, path: str) -> BinaryIO:
        """See :class:`Files`."""
        return open(path, "rb")

    def size(self, path: str) -> int:
        """See :class:`Files`."""
        return os.stat(path).st_size

    def is_file(self, path: str) -> bool:
        """See :class:`Files`."""
        return os.path.isfile(path)

    def names(self, folder: str) -> Iterator[str]:
        """See :class:`Files`."""
        try:
            with os.scandir(folder) as entries:
                yield from (entry.name for entry in entries if entry.is_file())
        except OSError:  # said by whoever lists the folder in earnest
            return

    def below(self, folder: str) -> Iterator[str]:
        """See :class:`Files`; the order is that of whole paths, which are never held."""
        with os.scandir(folder) as entries:
            found = sorted(entry.name + "/" * _is_folder(entry) for entry in entries if entry.name[:1] != ".")
        for name in found:
            inner = os.path.join(folder, name[:-1])
            if not name.endswith("/"):
                yield name
            elif not os.path.islink(inner):
                yield from (f"{name}{rest}" for rest in self.below(inner))

    def glob(self, pattern: str) -> list[str]:
        """See :class:`Files`."""
        return sorted(glob.glob(pattern, recursive=True))

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


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


local_files = LocalFiles()
