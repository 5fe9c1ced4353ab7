"""Files that are whole or absent: atomic writes, hashing, names that stay inside their folder.

Standard library only. A reader never sees a half-written file: content goes to a temporary name in the same
folder, is flushed to the disk, and is renamed over the target.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import fcntl
import gzip
import hashlib
import json
import math
import os
import re
import shutil
import stat
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from gloam.errors import DataError, StoreError, UsageError

CONTROL = re.compile(r"[\x00-\x1f\x7f]")
MOST_OF_PART, MOST_OF_NAME = 255, 2048  # bytes of a file's name, characters of a path below its folder
FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # as spreadsheets begin one, also in full width
UMASK = os.umask(0o077)  # for systems that do not tell it; read once, before there are threads
os.umask(UMASK)
NO_FILE = "a pipe, socket or device, not a file"
DEEPEST = 64  # parts of a JSON value inside each other
MOST_OF_NUMBER = 40  # digits of a whole number; a float holds any of them
MOST_OF_JSON = 1 << 31  # bytes; a manifest of ten million pictures has as many
HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")
TEMPORARY_PREFIX = ".tmp-"  # leftovers of a killed process start with this and are never read
OF_THIS_MACHINE = f"{TEMPORARY_PREFIX}{re.sub(r'[^A-Za-z0-9.]', '_', os.uname().nodename)[:64]}-"
SETTLED = 2_000_000_000  # ns: a file system may not tell two changes apart that are closer
SEAL_BITS, SEAL = 64, " \t"  # of the sha256 that ends a sealed JSON file; how 0 and 1 are written

_cleared: set[str] = set()  # folders that this process has cleared


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Open a binary handle whose content becomes ``path`` when the block ends without an error.

    A device or a pipe is written to, never replaced: another file of the name ``/dev/null`` would break the system.

    Raises:
        StoreError: the disk is full or the folder cannot be written; ``path`` is then as it was before.
    """
    target = Path(path)
    temporary: str | None = None
    try:
        if target.exists() and not target.is_file() and not target.is_dir():
            descriptor = os.open(target, os.O_WRONLY | os.O_NONBLOCK)  # a pipe that nobody reads is an error, no wait
            os.set_blocking(descriptor, True)
            with os.fdopen(descriptor, "wb") as handle:
                yield handle
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = _temporary_file(target.parent)
        with os.fdopen(descriptor, "wb") as handle:
            yield handle
            handle.flush()
            os.fchmod(handle.fileno(), 0o666 & ~_umask())  # mkstemp's 0600 would hide the result from other users
            os.fsync(handle.fileno())
            os.replace(temporary, target)  # while it is locked: nobody takes it for a dead process's
            temporary = None
        _sync_folder(target.parent)
    except OSError as error:
        raise StoreError(write_failure(target, error)) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


@contextlib.contextmanager
def temporary_folder(parent: Path, label: str = "") -> Iterator[Path]:
    """A folder inside ``parent`` that is removed when the block ends, or by the next process where this one is killed.

    Raises:
        OSError: ``parent`` cannot be written.
    """
    _clear_once(parent)
    while True:
        path = tempfile.mkdtemp(prefix=f"{OF_THIS_MACHINE}{label}", dir=parent)
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:  # another process, on its first look here, took it for a dead one's
            continue
        if _claim(descriptor, path):
            break
        os.close(descriptor)
    try:
        yield Path(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(descriptor)


@contextlib.contextmanager
def replaced_when_whole(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` for libraries that open files by name; renamed over it without an error.

    Raises:
        StoreError: the disk is full or the folder cannot be written; ``path`` is then as it was before.
    """
    target = Path(path)
    if target.exists() and not target.is_file() and not target.is_dir():
        raise StoreError(f"{target}: is {NO_FILE}; choose another output")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(target.parent) as folder:
            temporary = folder / target.name
            yield temporary
            with open(temporary, "rb+") as handle:
                os.fsync(handle.fileno())
            os.replace(temporary, target)
        _sync_folder(target.parent)
    except OSError as error:
        raise StoreError(write_failure(target, error)) from error


def expect_output(path: str | Path, suffix: str, what: str) -> None:
    """Refuse a file to write whose name is of another kind: it would take the place of a photograph or of weights. A
    device or a pipe may have any name.

    Raises:
        UsageError: it is.
    """
    target = Path(path)
    special = target.exists() and not target.is_file() and not target.is_dir()
    if target.suffix != suffix and not special:
        raise UsageError(f"{target}: {what} is written as {suffix}")


def clear_again(folder: Path) -> None:
    """Let this process, too, remove once more what processes that were killed since have left in a folder and below.

    To be called where a run begins: another one may have been killed there since this process first wrote there.
    """
    place = os.path.abspath(folder)
    _cleared.difference_update(
        [known for known in list(_cleared) if known == place or known.startswith(place + os.sep)]
    )


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically."""
    with atomic_write(path) as handle:
        handle.write(content)


def write_where_changed(path: str | Path, content: bytes) -> None:
    """:func:`write_bytes`, unless the file holds that content already; it may then be on a disk that is read only."""
    with contextlib.suppress(OSError):
        if read_file(path) == content:
            return
    write_bytes(path, content)


def write_text(path: str | Path, content: str) -> None:
    """Write UTF-8 text to ``path`` atomically."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON with sorted keys, atomically; NaN is refused."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def sealed_json(value: Any) -> bytes:
    """``value`` as :func:`write_json` has it, sealed: see :func:`sealed`."""
    return sealed(json.dumps(value, indent=2, sort_keys=True, allow_nan=False)).encode()


def sealed(text: str) -> str:
    """A JSON text with a line behind it that :func:`load_sealed` checks: the first bits of the text's sha256 as spaces
    and tabs, which every reader of JSON skips."""
    return f"{text}\n{_seal(text)}\n"


def read_sealed(path: str | Path) -> Any:
    """The value of a JSON file, checked where :func:`sealed_json` made it; files of before have no seal.

    Raises:
        OSError: it cannot be read.
        ValueError: no JSON, or changed since it was written.
    """
    return load_sealed(read_file(path))


def load_sealed(content: str | bytes) -> Any:
    """:func:`load_json`, checked where :func:`sealed` made the text; texts of before have no seal.

    Raises:
        ValueError: no JSON, or changed since it was sealed.
    """
    try:
        value = load_json(content)
    except ValueError as error:
        raise ValueError(f"no JSON: {error}") from error
    text, seal = split_seal(content if isinstance(content, str) else content.decode())
    if seal and seal != _seal(text):
        raise ValueError("its checksum differs, it was damaged or changed after it was written")
    return value


def split_seal(text: str) -> tuple[str, str]:
    """A text without what :func:`sealed` put behind it, and the seal; the text and nothing where it has none."""
    inner, _, last = text.removesuffix("\n").rpartition("\n")
    return (inner, last) if last and not last.strip() else (text, "")


def canonical_json(value: Any) -> str:
    """One spelling of a JSON value: sorted keys, no spaces, no NaN. Used for everything that is hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def load_json(content: str | bytes) -> Any:
    """The value of a JSON text, UTF-8 with or without a byte order mark, that means the same to every reader.

    Raises:
        ValueError: no JSON, a NaN or infinite number or one of more than :data:`MOST_OF_NUMBER` digits, a key twice in
            one object, text that is no Unicode, or parts more than :data:`DEEPEST` inside each other.
    """
    text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8") if isinstance(content, bytes) else content
    try:
        value = json.loads(
            text, parse_constant=_finite, parse_float=_finite, parse_int=_whole, object_pairs_hook=_keys_once
        )
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if HALF_CHARACTER.search(text):
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # a ValueError where the other half is missing
    parts = [value]
    for _ in range(DEEPEST):
        parts = [
            inner
            for part in parts
            if isinstance(part, dict | list)
            for inner in (part.values() if isinstance(part, dict) else part)
            if isinstance(inner, dict | list)
        ]
        if not parts:
            return value
    raise ValueError("nested too deep")


def read_json(path: str | Path, most: int = MOST_OF_JSON) -> Any:
    """The value of a JSON file, or of one that is packed as ``.gz``, as :func:`load_json` reads it.

    Raises:
        OSError: as :func:`open_file`.
        ValueError: as :func:`load_json`, or more than ``most`` bytes.
    """
    with contextlib.ExitStack() as opened:
        handle: BinaryIO | gzip.GzipFile = opened.enter_context(open_file(path))
        if Path(path).suffix == ".gz":
            handle = opened.enter_context(gzip.open(handle))
        try:
            content = handle.read(most + 1)
        except (EOFError, zlib.error) as error:
            raise ValueError(f"damaged: {error}") from error
    if len(content) > most:
        raise ValueError(f"more than {most} bytes")
    return load_json(content)


def sha256_bytes(content: bytes) -> str:
    """Hex sha256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def sha256_json(value: Any) -> str:
    """Hex sha256 of the canonical JSON of ``value``."""
    return sha256_bytes(canonical_json(value).encode("utf-8"))


def sha256_file(path: str | Path) -> str:
    """Hex sha256 of a file's content, read in blocks."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@dataclass(frozen=True)
class Stamp:
    """What tells without reading whether something to read may be another than before.

    Attributes:
        text: equal texts, equal bytes.
        changed_ns: when it was last changed, nanoseconds since 1970; a change in the same moment may leave the text as
            it was. 0 where the text is made from the bytes.
    """

    text: str
    changed_ns: int = 0

    def holds(self, noted: str, noted_ns: int) -> bool:
        """Whether what was noted as ``noted``, at that time, is unchanged, and no later change can be hidden."""
        return self.text == noted and self.changed_ns + SETTLED <= noted_ns


def file_stamp(path: str | Path) -> Stamp | None:
    """A file's size, times of change and number in the file system; None where it cannot be had."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return Stamp(f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}", found.st_mtime_ns)


def open_file(path: str | Path) -> BinaryIO:
    """A file opened for reading its bytes.

    Raises:
        OSError: there is none, or it is a pipe, a socket or a device, which could keep the reader waiting for ever.
    """
    if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):
        raise OSError(errno.EINVAL, NO_FILE, str(path))
    return open(path, "rb")


def read_file(path: str | Path) -> bytes:
    """A file's bytes; raises as :func:`open_file` does."""
    with open_file(path) as handle:
        return handle.read()


def inside(root: str | Path, name: str) -> Path:
    """``root / name``, refused where a name could leave ``root`` or break a line of a text format.

    Raises:
        DataError: the name is empty, absolute, has ``..``, a control character, or is not valid UTF-8.
    """
    reason = bad_name(name)
    if reason:
        raise DataError(f"image name {name!r}: {reason}; rename the file or remove it from the list")
    return Path(root) / name


def bad_name(name: str) -> str | None:
    """Why ``name`` cannot be the relative path of an image in a text format, or None where it can."""
    if not name:
        return "is empty"
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return "is not valid UTF-8"
    if CONTROL.search(name):
        return "contains a control character or newline"
    if name.startswith("/") or "\\" in name:
        return "is absolute or contains a backslash"
    parts = name.split("/")
    if ".." in parts:
        return "contains '..'"
    if max(len(part.encode("utf-8")) for part in parts) > MOST_OF_PART or len(name) > MOST_OF_NAME:
        return f"is too long for a file system (more than {MOST_OF_PART} bytes, or {MOST_OF_NAME} with its folders)"
    return None


def user_cache() -> Path:
    """gloam's folder below the user's caches, ``$XDG_CACHE_HOME`` or ``~/.cache``; it need not exist.

    Raises:
        StoreError: the user has no home folder.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gloam"
    except RuntimeError as error:
        raise StoreError(f"no folder for caches ({error}); set XDG_CACHE_HOME") from error


def write_failure(path: Path, error: OSError) -> str:
    """The one-line message for a failed write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{path}: the disk is full; free some space and run the same command again, finished work is kept"
    return f"{path}: cannot be written ({error.strerror or error})"


def printable(text: str) -> str:
    """``text`` for one line of a terminal or a report: what would move the cursor, turn the text or break the line is
    written as its escape, and what is not valid UTF-8 too."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def printable_lines(text: str) -> str:
    """:func:`printable` of each line; the lines stay."""
    return "\n".join(map(printable, text.split("\n")))


def plain_cell(text: str) -> str:
    """:func:`printable`, and an apostrophe before what a spreadsheet would take for a formula."""
    shown = printable(text)
    return f"'{shown}" if shown.lstrip()[:1] in FORMULA else shown


def _seal(text: str) -> str:
    bits = int.from_bytes(hashlib.sha256(f"{text}\n".encode()).digest()[: SEAL_BITS // 8], "big")
    return "".join(SEAL[bits >> place & 1] for place in reversed(range(SEAL_BITS)))


def _temporary_file(folder: Path) -> tuple[int, str]:
    """A new file of this process's: its descriptor, open for writing, and its path."""
    _clear_once(folder)
    while True:
        descriptor, path = tempfile.mkstemp(prefix=OF_THIS_MACHINE, dir=folder)
        if _claim(descriptor, path):
            return descriptor, path
        os.close(descriptor)


def _claim(descriptor: int, path: str) -> bool:
    """Lock what was just made, for as long as it is open; False where another process has cleared it away before."""
    with contextlib.suppress(OSError):  # a file system without locks, where nothing is cleared
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _clear_once(folder: Path) -> None:
    """Remove what processes that were killed have left in a folder, the first time that this process writes there.

    Who made a temporary file has it locked for as long as it lives. Those of other machines are left alone, for locks
    may not reach there.
    """
    if (place := os.path.abspath(folder)) in _cleared:
        return
    _cleared.add(place)
    with contextlib.suppress(OSError), os.scandir(place) as found:
        left = [entry.path for entry in found if entry.name.startswith(OF_THIS_MACHINE)]
        for path in left:
            with contextlib.suppress(OSError):
                _remove_unclaimed(path)


def _remove_unclaimed(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.isdir(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    finally:
        os.close(descriptor)


def _umask() -> int:
    """The process's mask of file modes; it can be read alone by setting it, which other threads would see."""
    with contextlib.suppress(OSError, ValueError, IndexError, StopIteration), open("/proc/self/status", "rb") as status:
        return int(next(line for line in status if line.startswith(b"Umask:")).split()[1], 8)
    return UMASK


def _whole(text: str) -> int:
    if len(text) > MOST_OF_NUMBER:
        raise ValueError(f"{text[:20]}... has more than {MOST_OF_NUMBER} digits")
    return int(text)


def _keys_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"key {twice[:80]!r} is there twice")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is not a finite number")
    return value


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
