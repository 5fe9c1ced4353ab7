"""Files behind URLs, by fsspec: S3 and its like, HTTP, and whatever else has a package for its scheme.

A store that does not answer is asked again, some seconds later, a few times; then the image is a failure. Where many
images in a row have failed, each is asked for once, so that a run on a store that is gone comes to its end.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar, cast

from gloam.data.sources.files import NoAnswer
from gloam.data.sources.items import Origin
from gloam.errors import DataError, ImageError, MissingExtraError, require
from gloam.files import Stamp

WAITS = (0.5, 2.0, 8.0)  # seconds between attempts
TIMEOUT = 60.0  # seconds for one attempt
GONE = 20  # images in a row that failed at every attempt
ETAGS = ("ETag", "etag", "e_tag")  # as file systems spell it
PART = 1 << 20  # bytes that are fetched at once while headers are read

Found = TypeVar("Found")


@dataclass(frozen=True)
class RemoteFile:
    """An image that is a file of a store."""

    files: RemoteFiles
    url: str
    container: str | None = None

    def read(self) -> bytes:
        """See :class:`gloam.data.sources.items.Origin`."""
        return self.files.read(self.url)

    def stamp(self) -> Stamp | None:
        """See :class:`gloam.data.sources.items.Origin`; a web server, which lists nothing, is not asked for each."""
        web = self.url.startswith(("http://", "https://"))
        return None if web else self.files.stamp(self.url)


class RemoteFiles:
    """Files of one store; see :class:`gloam.data.sources.files.Files`.

    Args:
        system: an fsspec file system.
    """

    def __init__(self, system: Any) -> None:
        self.system = system
        self._failed = 0  # images in a row
        self._listed: tuple[str, list[str]] | None = None
        self._stamped: tuple[str, Stamp | None] = ("", None)

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteFiles, (self.system,)

    @classmethod
    def of(cls, url: str) -> RemoteFiles:
        """The store of a URL.

        Raises:
            MissingExtraError: fsspec, or the package of the scheme, is not installed.
            DataError: an unknown scheme.
        """
        fsspec = require("fsspec", "remote", "read URLs")
        scheme = url.partition("://")[0]
        try:
            system, _ = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise MissingExtraError(
                f"{scheme}:// needs another package ({error}); pip install 'gloam[remote]'"
            ) from error
        except Exception as error:  # every file system checks its URLs in its own way
            raise DataError(f"{url}: cannot be opened ({_first_line(error)})") from error
        with contextlib.suppress(Exception):  # what an earlier run of this process has listed
            system.invalidate_cache()
        return cls(system)

    def read(self, path: str, start: int = 0, size: int | None = None) -> bytes:
        """See :class:`gloam.data.sources.files.Files`."""
        end = None if size is None else start + size
        whole = start == 0 and end is None
        content: bytes = self._ask(lambda: self._fetch(path, None if whole else start, end))
        return content

    def open(self, path: str) -> BinaryIO:
        """See :class:`gloam.data.sources.files.Files`."""
        return cast(BinaryIO, io.BufferedReader(_Ranges(self, path, self.size(path)), PART))

    def size(self, path: str) -> int:
        """See :class:`gloam.data.sources.files.Files`."""
        return int(self._ask(lambda: self.system.size(path)))

    def stamp(self, path: str) -> Stamp | None:
        """See :class:`gloam.data.sources.files.Files`: the store's ETag, unless it is a weak one.

        It is asked for once where the same file is meant again and again, as a tar is by its members.
        """
        asked, stamp = self._stamped
        if asked != path:
            try:
                found = self._ask(lambda: self.system.info(path))
            except ImageError:
                return None
            tag = next((str(found[key]) for key in ETAGS if found.get(key)), "W/")
            stamp = None if tag.startswith("W/") else Stamp(f"{found.get('size')} {tag}")
            self._stamped = path, stamp
        return stamp

    def is_file(self, path: str) -> bool:
        """See :class:`gloam.data.sources.files.Files`; a URL that ends with a slash is a folder."""
        return not path.endswith("/") and bool(self._list(path, lambda: self.system.isfile(path)))

    def names(self, folder: str) -> Iterator[str]:
        """See :class:`gloam.data.sources.files.Files`."""
        return (name for name in self.below(folder) if "/" not in name)

    def below(self, folder: str, left_out: dict[str, int] | None = None) -> Iterator[str]:
        """See :class:`gloam.data.sources.files.Files`."""
        if self._listed is None or self._listed[0] != folder:
            root = str(self.system._strip_protocol(folder)).rstrip("/") + "/"
            paths = self._list(folder, lambda: self.system.find(folder))
            names = (path[len(root) :] for path in paths if path.startswith(root))
            seen = (name for name in names if not any(part.startswith(".") for part in name.split("/")))
            self._listed = (folder, sorted(seen))
        return iter(self._listed[1])

    def glob(self, pattern: str) -> list[str]:
        """See :class:`gloam.data.sources.files.Files`."""
        paths = self._list(pattern, lambda: self.system.glob(pattern))
        return sorted(str(self.system.unstrip_protocol(path)) for path in paths)

    def origin(self, path: str) -> Origin:
        """See :class:`gloam.data.sources.files.Files`."""
        return RemoteFile(self, path)

    def _fetch(self, path: str, start: int | None, end: int | None) -> Any:
        if getattr(self.system, "async_impl", False):  # these have no time-out of their own that all understand
            asyn = require("fsspec.asyn", "remote", "read URLs")
            fetch = self.system._cat_file
            return asyn.sync(self.system.loop, fetch, path, start=start, end=end, timeout=TIMEOUT)
        return self.system.cat_file(path, start=start, end=end)

    def _ask(self, call: Callable[[], Found]) -> Found:
        """The answer of a store that may need to be asked again."""
        waits = WAITS if self._failed < GONE else ()
        for wait in (*waits, None):
            try:
                answer = call()
            except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
                self._failed = 0  # it does answer
                raise ImageError(f"cannot be read: {_first_line(error)}") from error
            except Exception as error:  # every store has errors of its own
                if wait is None:
                    self._failed += 1
                    times = f"{len(waits) + 1} attempts" if waits else "1 attempt, like those before it"
                    raise NoAnswer(f"cannot be read after {times}: {_first_line(error)}") from error
                with contextlib.suppress(Exception):
                    self.system.invalidate_cache()
                time.sleep(wait)
            else:
                self._failed = 0
                return answer
        raise AssertionError("the last attempt returns or raises")

    def _list(self, url: str, call: Callable[[], Found]) -> Found:
        try:
            return self._ask(call)
        except ImageError as error:
            raise DataError(f"{url}: {error}") from error


class _Ranges(io.RawIOBase):
    """A file of a store that can seek; every part of it is asked for as an image is, attempts and all."""

    def __init__(self, files: RemoteFiles, url: str, size: int) -> None:
        self._files, self._url, self._size, self._at = files, url, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size - self._at)
        content = self._files.read(self._url, self._at, wanted) if wanted > 0 else b""
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
