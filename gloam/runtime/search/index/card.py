"""The card of an index, and the files that it names.

``index.json`` is the index: it names the FAISS files in the order of their vectors and the file of the images' names,
with their checksums, and it is replaced last. New content goes to names that the present card does not use
(``index.faiss``, then ``index.2.faiss``), so whatever interrupts a build, the index that was there stays whole.
"""

from __future__ import annotations

import contextlib
import operator
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, overload

import numpy as np

from gloam.errors import DataError, IncompatibleError, StoreError, UsageError
from gloam.files import (
    atomic_write,
    bad_name,
    read_file,
    read_json,
    read_sealed,
    sealed_json,
    sha256_file,
    write_bytes,
    write_json,
)
from gloam.record import fill_dataclass
from gloam.runtime.descriptors.reading import marked, space_of
from gloam.runtime.output_folder import MANIFEST
from gloam.runtime.search.index.exact import RERANK, ExactStore

SCHEMA = 2
READABLE = (1, 2)  # 1 had one file, and no search settings, recall or sizes
INDEX, NAMES, CARD = "index.faiss", "names.txt", "index.json"
BEGUN = "begun.json"  # names of the files that are being written, so that what a kill leaves of them is known as ours
OURS = re.compile(r"(index(-\d+)?(\.\d+)?\.faiss|names(\.\d+)?\.txt)")
ENDS = 4  # bytes of a name beside its own, see NameTable
MOST_SEARCHED = 1 << 12  # of a search parameter (cells visited, candidates kept), where there are fewer vectors
READING = ("max_side", "stretch", "photometric", "fast_decode")  # options that decide how an image was read


@dataclass(frozen=True)
class IndexCard:
    """What an index says of itself.

    Attributes:
        space, fingerprint, dimension, metric: of the descriptors; the fingerprint is that of the first store.
        factory: FAISS's factory string.
        count: number of vectors.
        options: how the images were read before the model (size, normalisation), as the store states it.
        versions: of the packages that built it.
        sha256: of every file.
        files: FAISS files (shards), in the order of the vectors.
        names: the file of names, a name per line in the order of the vectors.
        sizes: bytes of every file.
        search: FAISS's search parameters that a search uses by default, chosen at build: ``nprobe``, ``efSearch``,
            ``k_factor_rf`` (of re-ranking); and ``rerank``, candidates per result that are read from ``exact``.
        recall: measured at build with those parameters: ``recall@1``, ``recall@10``, ``queries``, ``target`` and
            ``vectors``, how many there were at the time. Empty for an exact index and after a merge.
        training: ``vectors`` that it learned from, ``seed`` and ``device``; empty where it learns nothing.
        exact: stores whose vectors re-rank the candidates; empty where the index has all that it searches by.
        added: checksum of the names and descriptors that were added last; empty where none were.
    """

    space: str
    fingerprint: str
    dimension: int
    metric: str
    factory: str
    count: int
    options: dict[str, Any]
    versions: dict[str, str]
    sha256: dict[str, str]
    files: list[str] = field(default_factory=lambda: [INDEX])
    names: str = NAMES
    sizes: dict[str, int] = field(default_factory=dict)
    search: dict[str, int] = field(default_factory=dict)
    recall: dict[str, float] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    exact: list[ExactStore] = field(default_factory=list)
    added: str = ""
    schema: int = SCHEMA


@dataclass(frozen=True)
class NewFiles:
    """Names for new content that leave the present index alone; see :func:`new_files`."""

    files: list[str]
    names: str


def read_index_card(folder: Path) -> IndexCard:
    """The card of an index.

    Raises:
        StoreError: no index, one that was not finished, of another schema, or a damaged card.
    """
    path = folder / CARD
    try:
        value = read_sealed(path)
        if value["schema"] not in READABLE:
            known = " and ".join(map(str, READABLE))
            raise StoreError(f"{path}: an index of schema {value['schema']!r}, this gloam reads {known}; build again")
        card = fill_dataclass(IndexCard, value, "card")
        card = replace(card, space=space_of(card.space, card.options), options=marked(card.options))
        if {*card.files, card.names} != set(card.sha256):
            raise ValueError("files and checksums do not belong together")
        if not card.files or card.count < 1 or card.metric != "cosine":
            raise ValueError(f"{card.count} vectors in {len(card.files)} files by metric {card.metric!r}")
        if wild := [name for name, value in card.search.items() if not 1 <= value <= max(card.count, MOST_SEARCHED)]:
            raise ValueError(f"a search of {wild[0]} {card.search[wild[0]]}")
        behind = sum(store.count for store in card.exact)
        if (RERANK in card.search) != bool(card.exact) or (card.exact and behind != card.count):
            raise ValueError(f"{card.count} vectors re-ranked from {len(card.exact)} stores")
        if elsewhere := [name for name in card.sha256 if bad_name(name) or "/" in name or name in (".", CARD)]:
            raise ValueError(f"{elsewhere[0]!r} is no file of an index")
        return card
    except OSError as error:
        raise StoreError(f"{folder}: not an index, or one that was not finished; run `gloam index` again") from error
    except (ValueError, KeyError, TypeError, UsageError) as error:
        raise StoreError(f"{path}: damaged ({error}); build the index again") from error


def check_files(folder: Path, card: IndexCard, *, sizes_only: bool = False) -> None:
    """Compare the files of an index with its card.

    Args:
        folder: of the index.
        card: its card.
        sizes_only: compare the FAISS files' sizes instead of reading every byte of them for the checksum. A card of
            schema 1 states no sizes; then the checksums are compared.

    Raises:
        StoreError: a file is absent, of another size, or its checksum differs.
    """
    for name, expected in card.sha256.items():
        try:
            size = (folder / name).stat().st_size
            found = None if sizes_only and name in card.sizes and name != card.names else sha256_file(folder / name)
        except OSError as error:
            raise StoreError(f"{folder / name}: cannot be read ({error.strerror}); build the index again") from error
        if size != card.sizes.get(name, size):
            raise StoreError(
                f"{folder / name}: damaged, {size} bytes where {card.sizes[name]} are stated; build the index again"
            )
        if found not in (None, expected):
            raise StoreError(f"{folder / name}: damaged, its checksum differs; build the index again")


def resident_bytes(card: IndexCard) -> int:
    """What an opened index keeps in memory: its FAISS files and its names; vectors that stay on a disk do not count."""
    return sum(card.sizes[name] for name in card.files) + card.sizes[card.names] + ENDS * card.count


def read_names(folder: Path, card: IndexCard) -> NameTable:
    """Names of the images, in the order of the vectors.

    Raises:
        StoreError: they cannot be read.
    """
    try:
        return NameTable(read_file(folder / card.names))
    except (OSError, ValueError) as error:
        raise StoreError(f"{folder / card.names}: cannot be read ({error}); build the index again") from error


class NameTable(Sequence[str]):
    """Names in the memory that their bytes take, and 4 or 8 more; as strings they would take 60.

    Args:
        text: UTF-8, a line each.

    Raises:
        ValueError: not UTF-8, or the last line does not end.
    """

    def __init__(self, text: bytes) -> None:
        text.decode("utf-8")
        if text and not text.endswith(b"\n"):
            raise ValueError("the last line does not end")
        ends = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n"))
        self._text, self._ends = text, ends.astype(np.uint32 if len(text) < 1 << 32 else np.uint64)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, item: int) -> str: ...

    @overload
    def __getitem__(self, item: slice) -> list[str]: ...

    def __getitem__(self, item: int | slice) -> str | list[str]:
        if isinstance(item, slice):
            return [self[place] for place in range(*item.indices(len(self)))]
        place = int(item) + (len(self) if item < 0 else 0)
        if not 0 <= place < len(self):
            raise IndexError(item)
        start = int(self._ends[place - 1]) + 1 if place else 0
        return self._text[start : int(self._ends[place])].decode("utf-8")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # as of a list


def write_names(path: Path, names: Iterable[str]) -> None:
    """Write the file of names.

    Raises:
        DataError: a name cannot be a line of a text file.
    """
    with atomic_write(path) as handle:
        for name in names:
            if reason := bad_name(name):
                raise DataError(f"{path.parent}: image name {name!r} {reason}; rename the image and extract again")
            handle.write(f"{name}\n".encode())


@contextlib.contextmanager
def new_files(folder: Path, shards: int, *, after: int = 0) -> Iterator[NewFiles]:
    """Names that nothing in the folder has; what was written under them is removed where the block fails.

    Args:
        folder: of the index, which may not exist yet; what a killed rebuild left in it is removed.
        shards: FAISS files to name; one of a single file has no number.
        after: number of the first, where the files follow shards that stay.
    """
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise StoreError(f"{folder}: is a file, where an index needs a folder; choose another output folder")
    if (folder / MANIFEST).is_file():
        raise StoreError(f"{folder}: holds a store or pictures; choose another output folder")
    remove_strays(folder)
    numbers = range(after, after + shards)
    stems = ["index"] if shards == 1 and not after else [f"index-{number:05d}" for number in numbers]
    fresh = NewFiles([_fresh(folder, stem, ".faiss") for stem in stems], _fresh(folder, "names", ".txt"))
    write_json(folder / BEGUN, [*fresh.files, fresh.names])
    try:
        yield fresh
    except BaseException:
        named = _named(folder) or set()  # the card may already be the new one
        for name in {*fresh.files, fresh.names, BEGUN} - named:
            (folder / name).unlink(missing_ok=True)
        raise


def publish(folder: Path, card: IndexCard) -> None:
    """Replace the card, which makes the new files the index, and remove files of ours that it does not name."""
    stated = asdict(card)
    for key in ("added", "exact"):  # cards that have no use for them are what they were
        if not stated[key]:
            del stated[key]
    write_bytes(folder / CARD, sealed_json(stated))
    remove_strays(folder)


def sums_and_sizes(folder: Path, names: Sequence[str]) -> tuple[dict[str, str], dict[str, int]]:
    """The checksums and sizes of files, as a card states them."""
    sums = {name: sha256_file(folder / name) for name in names}
    return sums, {name: (folder / name).stat().st_size for name in names}


def package_versions(faiss_version: str) -> dict[str, str]:
    """The packages that decide the bytes of an index."""
    return {"gloam": metadata.version("gloam"), "faiss": faiss_version, "numpy": np.__version__}


def expect_same_reading(first: dict[str, Any], second: dict[str, Any], where: str) -> None:
    """Refuse descriptors of images that were read otherwise (size, normalisation) than those of the index.

    Raises:
        IncompatibleError: names the option.
    """
    for key in READING:
        if first.get(key) != second.get(key):
            raise IncompatibleError(
                f"{where}: images were read with {key} {second.get(key)!r}, those of the index with "
                f"{first.get(key)!r}; extract them again alike"
            )


def expect_new_names(known: set[str], names: Iterable[str], where: str) -> None:
    """Add names to ``known``.

    Raises:
        DataError: one is already there.
    """
    for name in names:
        if name in known:
            raise DataError(f"{where}: image {name!r} is already in the index; leave it out or build the index again")
        known.add(name)


def remove_strays(folder: Path) -> None:
    """Remove files of ours that the card does not name; where there is no card, those that a killed build had begun."""
    named = _named(folder)
    if named is not None:
        strays = [path.name for path in folder.iterdir() if path.name not in named]
    else:
        try:
            strays = [str(name) for name in read_json(folder / BEGUN)]
        except (OSError, ValueError, TypeError):
            return  # nothing says whose files these are
    for name in strays:
        if OURS.fullmatch(name):
            (folder / name).unlink(missing_ok=True)
    (folder / BEGUN).unlink(missing_ok=True)


def _named(folder: Path) -> set[str] | None:
    """Files that the card names; None where there is no card that can be read."""
    try:
        return set(read_index_card(folder).sha256)
    except StoreError:
        return None


def _fresh(folder: Path, stem: str, suffix: str) -> str:
    name, number = f"{stem}{suffix}", 1
    while (folder / name).exists():
        number += 1
        name = f"{stem}.{number}{suffix}"
    return name
