"""One image of a source, and a million of them at a few bytes of memory each."""

from __future__ import annotations

import contextlib
import marshal
import tempfile
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Protocol, overload

import numpy as np

from gloam.data.images import read_bytes
from gloam.errors import StoreError
from gloam.files import Stamp, bad_name, file_stamp, write_failure

# What a single source file is taken for an image by; the files of a folder are decoded whatever their suffix.
IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".jp2", ".mpo")
)
# What lies beside images by its name; anything else may be an image, also without a suffix.
BESIDE_SUFFIXES = frozenset(
    (
        ".txt",
        ".json",
        ".jsonl",
        ".csv",
        ".tsv",
        ".xml",
        ".yaml",
        ".yml",
        ".toml",
        ".md",
        ".html",
        ".htm",
        ".pdf",
        ".db",
        ".ini",
        ".log",
        ".xmp",
        ".aae",
        ".py",
        ".sh",
        ".mat",
        ".pkl",
        ".npy",
        ".npz",
        ".h5",
        ".onnx",
        ".pth",
        ".sqlite",
        ".lock",
        ".part",
        ".mp4",
        ".mov",
        ".avi",
        ".mkv",
        ".mp3",
        ".wav",
        ".doc",
        ".docx",
        ".xls",
        ".xlsx",
        ".exe",
        ".dll",
        ".lnk",
    )
)
BESIDE_FOLDERS = frozenset(("@eadir", "__macosx", "$recycle.bin", "system volume information"))
NO_IMAGE = "not an image"
IN_MEMORY = 1 << 20  # bytes of records; a longer list lies in a temporary file
BLOCK = 256  # records that are read at once
HASHES = 1 << 17  # of names, held while repeated ones are looked for: a million bytes

Record = tuple[Any, ...]  # of plain numbers and texts; the image's name is the first


class Origin(Protocol):
    """Where the bytes of an image are when they are no file of this machine; picklable, of a few numbers."""

    @property
    def container(self) -> str | None:
        """Name of the file that holds the image among others, or None."""
        ...

    def read(self) -> bytes:
        """The image file's bytes; a failure is an ImageError."""
        ...

    def stamp(self) -> Stamp | None:
        """What changes when the bytes do; None where nothing but the bytes can tell."""
        ...


@dataclass(frozen=True)
class ImageItem:
    """One image to describe.

    Attributes:
        name: relative posix path, printable; the key of its descriptor.
        path: the file, or the file that holds it.
        problem: why the item cannot be used at all, or None.
        origin: where its bytes are inside ``path``, or on which remote store; None where ``path`` is the image.
    """

    name: str
    path: Path
    problem: str | None = None
    origin: Origin | None = None

    def read(self) -> bytes:
        """The image file's bytes.

        Raises:
            ImageError: the reason, in a few words.
        """
        return read_bytes(self.path) if self.origin is None else self.origin.read()

    def stamp(self) -> Stamp | None:
        """What changes when the bytes do, had without reading them; None where nothing else can tell."""
        return file_stamp(self.path) if self.origin is None else self.origin.stamp()

    def explained(self, reason: str) -> str:
        """A failure's reason, after the name of the file that holds the image among others."""
        container = None if self.origin is None else self.origin.container
        return reason if container is None else f"{container}: {reason}"


class ImageList(Sequence[ImageItem]):
    """Images whose records lie in a temporary file, so that a million of them take no memory.

    Args:
        records: one per image; consumed once.
        make: turns a record into an item.
        repeated: what to do with a name that was there before: None where the source has none twice; otherwise the
            item gets this problem, formatted with ``first``, the item that has the name already.
        left_out: what the source holds beside images, counted by the reason; filled while the records are consumed.

    Attributes:
        left_out: as given, for the run's summary.

    Raises:
        StoreError: the temporary folder is full.
    """

    def __init__(
        self,
        records: Iterable[Record],
        make: Callable[[Record], ImageItem],
        repeated: str | None = None,
        left_out: Mapping[str, int] | None = None,
    ) -> None:
        self.left_out: Mapping[str, int] = {} if left_out is None else left_out
        self._make = make
        self._starts = array("q")
        self._problems: dict[int, str] = {}
        self._open()
        with _full_disk_named():
            self._length = self._store(records)
        if repeated is not None:
            for later, first in repeats(lambda: (str(record[0]) for record in self._records())).items():
                self._problems[later] = repeated.format(first=self[first].path)

    def __getstate__(self) -> tuple[Any, ...]:
        """For another process, which keeps the records in a temporary file of its own."""
        with self._lock:
            self._file.seek(0)
            content = self._file.read()
        return self._make, self._starts, self._problems, self._length, dict(self.left_out), content

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._make, self._starts, self._problems, self._length, self.left_out, content = state
        self._open()
        with _full_disk_named():
            self._file.write(content)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> ImageItem: ...

    @overload
    def __getitem__(self, index: slice) -> list[ImageItem]: ...

    def __getitem__(self, index: int | slice) -> ImageItem | list[ImageItem]:
        if isinstance(index, slice):
            return [self._item(row) for row in range(*index.indices(self._length))]
        row = index + self._length if index < 0 else index
        if not 0 <= row < self._length:
            raise IndexError(f"image {index} of {self._length}")
        return self._item(row)

    def __iter__(self) -> Iterator[ImageItem]:
        return map(self._item, range(self._length))

    def _open(self) -> None:
        self._lock = Lock()
        self._kept: tuple[int, list[Record]] = (-1, [])
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115  # lives as long as the list
        weakref.finalize(self, self._file.close)

    def _item(self, row: int) -> ImageItem:
        item = self._make(self._block(row // BLOCK)[row % BLOCK])
        if row in self._problems and item.problem is None:
            return ImageItem(item.name, item.path, self._problems[row], item.origin)
        return item

    def _records(self) -> Iterator[Record]:
        for block in range(len(self._starts) - 1):
            yield from self._block(block)

    def _block(self, block: int) -> list[Record]:
        with self._lock:
            kept, records = self._kept
            if kept != block:
                self._file.seek(self._starts[block])
                records = marshal.loads(self._file.read(self._starts[block + 1] - self._starts[block]))
                self._kept = (block, records)
            return records

    def _store(self, records: Iterable[Record]) -> int:
        count, block = 0, []
        self._starts.append(0)
        for record in records:
            block.append(record)
            count += 1
            if len(block) == BLOCK:
                self._file.write(marshal.dumps(block))
                self._starts.append(self._file.tell())
                block = []
        if block:
            self._file.write(marshal.dumps(block))
            self._starts.append(self._file.tell())
        return count


@contextlib.contextmanager
def _full_disk_named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(write_failure(Path(tempfile.gettempdir()), error)) from error


def make_item(name: str, path: Path, origin: Origin | None = None) -> ImageItem:
    """An item; a name that cannot be a key is its problem, and is made printable."""
    problem = bad_name(name)
    if problem is None:
        return ImageItem(name, path, None, origin)
    printable = name.encode("utf-8", "backslashreplace").decode("utf-8").encode("unicode_escape").decode("ascii")
    return ImageItem(printable, path, f"name {problem}", origin)


def said_left_out(items: Sequence[ImageItem]) -> str | None:
    """One line for a summary: what a source holds beside its images, or None where nothing was left out."""
    return counts_left_out(items.left_out if isinstance(items, ImageList) else {})


def counts_left_out(counts: Mapping[str, int]) -> str | None:
    """:func:`said_left_out` of counts by the reason."""
    found = sorted(counts.items())
    return f"left out: {', '.join(f'{number} x {reason}' for reason, number in found)}" if found else None


def is_beside(name: str) -> bool:
    """Whether a file of a folder is none of its images by its name: notes, tables, thumbnails that a system keeps."""
    *folders, last = name.lower().split("/")
    return last[last.rfind(".") :] in BESIDE_SUFFIXES or not BESIDE_FOLDERS.isdisjoint(folders)


def repeats(names: Callable[[], Iterable[str]]) -> dict[int, int]:
    """Which names are there twice, in the memory of :data:`HASHES` hashes.

    Args:
        names: gives them in order; called again for each part of the hashes, and where two may be equal.

    Returns:
        position of each later one: position of the first.
    """
    suspects: set[int] = set()
    part, parts = 0, 1  # a power of two
    while part < parts:
        hashes = array("q")
        for value in map(hash, names()):
            if value & (parts - 1) == part:
                hashes.append(value)
                if part == 0 and len(hashes) > HASHES:  # keep half of them, and go through the names twice as often
                    parts *= 2
                    kept = np.frombuffer(hashes, np.int64)
                    hashes = array("q", kept[kept & (parts - 1) == part].tobytes())
        ordered = np.sort(np.frombuffer(hashes, np.int64)) if hashes else np.empty(0, np.int64)
        suspects.update(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
        part += 1
    found: dict[int, int] = {}
    if suspects:
        first: dict[str, int] = {}
        for position, name in enumerate(names()):
            if hash(name) in suspects and first.setdefault(name, position) != position:
                found[position] = first[name]
    return found
