"""The native descriptor store: shards that are whole or absent, and a manifest that says what they are.

``shards/part-000123.npy`` holds float16 or float32 ``[n, D]`` (memory-mappable), ``part-000123.parquet`` beside it a
row per image: image, sha256, width, height, shape, status. The table is written last, so that a shard without it does
not exist. ``manifest.json`` names the identities and, once complete, a checksum per file; ``failures.csv`` lists what
could not be described. Until then ``part-000123.sha256`` holds the checksums of a shard, as ``sha256sum`` writes them.

Checksums are of what was made, never of what is found: a file that differs from its own is damaged, is read by nobody,
and is made again by the next run.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from gloam.data.npz import HEADERS
from gloam.errors import DataError, StoreError, UsageError
from gloam.files import (
    read_file,
    read_sealed,
    sha256_bytes,
    sha256_file,
)
from gloam.record import fill_dataclass
from gloam.runtime.descriptors.reading import space_of, stated_rule
from gloam.runtime.descriptors.source import finite_blocks
from gloam.runtime.output_folder import (
    FAILURES,
    MANIFEST,
    failures_csv,
)

SCHEMA = 1
CHECKSUM_KEY = b"descriptors_sha256"
OK = "ok"
AGAIN = "run the same `gloam extract` again, it makes this shard again"


@dataclass(frozen=True)
class Row:
    """One image of a shard.

    Attributes:
        image: name.
        sha256: of the file's bytes; empty where it could not be read.
        width, height: of the described image, pixels, after orientation and resizing.
        shape: ``HxW`` that the model ran at.
        status: ``ok``, or the reason of the failure.
    """

    image: str
    sha256: str = ""
    width: int = 0
    height: int = 0
    shape: str = ""
    status: str = OK


@dataclass(frozen=True)
class Job:
    """What decides a store's content; a folder made by another job is refused.

    Attributes:
        space, fingerprint: of the embedder.
        images_sha256: of the ordered list of names.
        images: how many.
        options: resize, photometric normalisation, dtype, shard size and what else changes bytes.
        untranslated_space: of the same embedder without the translation that the images passed; None where they passed
            none. As queries, such descriptors are compared with a map of that space.
    """

    space: str
    fingerprint: str
    dimension: int
    metric: str
    images_sha256: str
    images: int
    options: Mapping[str, Any]
    untranslated_space: str | None = None


class DescriptorStore:
    """A complete store, read only.

    Attributes:
        names: images that have a descriptor, in order.
        failures: reason of each image that has none, by name.
        dimension, space, fingerprint, metric: of the descriptors.
        untranslated_space: see :class:`Job`.
        input_rule: how the images were resized; None where the store does not say.
        manifest: ``manifest.json`` as read.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any], shards: Sequence[int], trust: bool = False) -> None:
        self.folder = folder
        self.manifest = manifest
        job = manifest["job"]
        self.dimension = int(job["dimension"])
        options = job.get("options", {})
        try:
            self.input_rule = stated_rule(options)
            self.space = space_of(str(job["space"]), options)
            untranslated = job.get("untranslated_space")
            self.untranslated_space = None if untranslated is None else space_of(str(untranslated), options)
        except UsageError as error:
            raise StoreError(f"{folder / MANIFEST}: the manifest is damaged ({error}); extract again") from error
        self.fingerprint = str(job["fingerprint"])
        self.metric = str(job["metric"])
        self._shards = list(shards)
        self._unread = set() if trust else set(shards)  # whose descriptors have not been compared with their checksum
        self.failures: dict[str, str] = {}
        self._sums: dict[str, str] = {}
        self.names: list[str] = []
        self._counts: list[int] = []
        for shard in self._shards:
            names = self._read_names(shard)
            self.names += names
            self._counts.append(len(names))
            self._map(shard, len(names))

    @classmethod
    def open(cls, folder: str | Path, *, allow_partial: bool = False, trust: bool = False) -> DescriptorStore:
        """Open a store: manifest and tables are compared with their checksums, descriptors with their sizes.

        The first read of a shard's descriptors compares them with their checksum; later reads of the same store do not.

        Args:
            folder: as given to ``gloam extract -o``.
            allow_partial: read the finished shards of an unfinished store.
            trust: leave out that comparison, which reads every byte once more and takes about a second a gigabyte.

        Raises:
            StoreError: not a store, of another schema, unfinished, or a shard is missing or damaged.
        """
        place = Path(folder)
        manifest = read_manifest(place)
        if not manifest["complete"] and not allow_partial:
            raise StoreError(f"{place}: the extraction is not finished; run the same `gloam extract` again")
        every = range(manifest["shards"])
        present = [shard for shard in every if all(path.is_file() for path in shard_paths(place, shard))]
        if len(present) < len(every) and not allow_partial:
            missing = min(set(every) - set(present))
            raise StoreError(f"{place}: shard {missing} is missing; run the same `gloam extract` again")
        return cls(place, manifest, present, trust)

    def __len__(self) -> int:
        return sum(self._counts)

    def drop_names(self) -> None:
        """Free the memory of the names, where :meth:`take` alone is wanted; a message then says a place."""
        self.names = []

    def blocks(self, rows: int = 65536) -> Iterator[tuple[list[str], npt.NDArray[np.float32]]]:
        """Stream the store: names and float32 ``[n, D]``, n at most ``rows``.

        Raises:
            StoreError: a shard is damaged, found before a value of it is given; or :meth:`drop_names` was called.
        """
        if len(self.names) < len(self):  # rows would come without their names
            raise StoreError(f"{self.folder}: its names were dropped; open the store again")
        first = 0
        for number, count in enumerate(self._counts):
            descriptors = self._descriptors(number)
            for start in range(0, count, rows):
                end = min(start + rows, count)
                yield self.names[first + start : first + end], np.asarray(descriptors[start:end], np.float32)
            first += count

    def load(self) -> npt.NDArray[np.float32]:
        """All descriptors, float32 ``[n, D]``; for sets that fit into memory.

        Raises:
            StoreError: see :meth:`blocks`.
            DataError: a descriptor is not finite; its image is named.
        """
        matrix = np.empty((len(self), self.dimension), np.float32)
        start = 0
        for _, block in finite_blocks(self, 65536):
            matrix[start : start + len(block)] = block
            start += len(block)
        return matrix

    def take(self, rows: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """The descriptors at some places, float32 ``[n, D]``, read where they lie.

        Args:
            rows: int ``[n]``, places in :attr:`names`, in any order.

        Raises:
            StoreError: see :meth:`blocks`; of the shards that are touched.
            DataError: a descriptor is not finite; its image is named.
        """
        wanted = np.asarray(rows, np.int64)
        chosen = np.empty((len(wanted), self.dimension), np.float32)
        ends = np.cumsum(self._counts)
        for number in np.unique(holder := np.searchsorted(ends, wanted, side="right")).tolist():
            here = np.flatnonzero(holder == number)
            descriptors = self._descriptors(number)
            chosen[here] = descriptors[wanted[here] - (ends[number] - len(descriptors))]
        finite = np.isfinite(chosen).all(axis=1)
        if not finite.all():
            place = int(wanted[int(np.argmin(finite))])
            name = repr(self.names[place]) if self.names else f"image {place}"
            raise DataError(f"the descriptor of {name} is not finite; extract it again")
        return chosen

    def shard(self, number: int) -> tuple[list[Row], npt.NDArray[np.floating[Any]]]:
        """A shard as it was written: a row per image, and the descriptors ``[n, D]`` of those that are ``ok``, mapped.

        Args:
            number: of the shard, one of those that the manifest lists.

        Raises:
            StoreError: it is damaged.
        """
        try:
            rows = [Row(**row) for row in read_rows(read_file(shard_paths(self.folder, number)[1])).to_pylist()]
        except (OSError, TypeError, pa.ArrowException) as error:
            raise StoreError(f"{shard_paths(self.folder, number)[1]}: a damaged shard; {AGAIN}") from error
        return rows, self._descriptors(self._shards.index(number))

    def verify(self) -> list[str]:
        """Names of the files that are damaged; empty where all is well. Every byte is read."""
        return [name for name, _ in damaged_files(self.folder, self.manifest)]

    def _read_names(self, shard: int) -> list[str]:
        descriptors, path = shard_paths(self.folder, shard)
        sums = self.manifest["sha256"] if self.manifest["complete"] else recorded_sums(self.folder, shard) or {}
        try:
            content = read_file(path)
            if sums.get(path.name) not in (sha256_bytes(content), None):
                raise StoreError(f"{path}: damaged, its checksum differs; {AGAIN}")
            table = read_rows(content, ["image", "status"])
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"{path}: a damaged shard; {AGAIN}") from error
        stated: bytes = (table.schema.metadata or {}).get(
            CHECKSUM_KEY, b""
        )  # all that an unfinished store of before has
        self._sums[descriptors.name] = sums.get(descriptors.name, stated.decode())
        pairs = list(zip(table["image"].to_pylist(), table["status"].to_pylist(), strict=True))
        self.failures |= {image: status for image, status in pairs if status != OK}
        return [image for image, status in pairs if status == OK]

    def _descriptors(self, number: int) -> npt.NDArray[np.floating[Any]]:
        """Of the shard at this place among those present, mapped; compared with its checksum when first read."""
        shard = self._shards[number]
        if shard in self._unread:
            self._compare(shard)
        return self._map(shard, self._counts[number])

    def _compare(self, shard: int) -> None:
        path = shard_paths(self.folder, shard)[0]
        try:
            found = sha256_file(path)
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror}); {AGAIN}") from error
        if found != self._sums[path.name]:
            raise StoreError(f"{path}: damaged, its checksum differs; {AGAIN}")
        self._unread.discard(shard)

    def _map(self, shard: int, count: int) -> npt.NDArray[np.floating[Any]]:
        path = shard_paths(self.folder, shard)[0]
        try:
            with HEADERS:
                descriptors: npt.NDArray[np.floating[Any]] = (
                    np.lib.format.open_memmap(path, mode="r") if count else np.load(path, allow_pickle=False)
                )
        except Exception as error:  # numpy's parser of a damaged header raises value, type and syntax errors alike
            raise StoreError(f"{path}: a damaged shard; {AGAIN}") from error
        if descriptors.shape != (count, self.dimension):
            raise StoreError(f"{path}: {descriptors.shape} descriptors, {(count, self.dimension)} are stated; {AGAIN}")
        if descriptors.dtype.kind != "f" or not descriptors.dtype.isnative:
            raise StoreError(f"{path}: values of type {descriptors.dtype.str}, not floating point; {AGAIN}")
        return descriptors


def shard_paths(folder: Path, shard: int) -> tuple[Path, Path]:
    """Where a shard's descriptors and its table are."""
    stem = folder / "shards" / f"part-{shard:06d}"
    return stem.with_suffix(".npy"), stem.with_suffix(".parquet")


def recorded_sums(folder: Path, shard: int) -> dict[str, str] | None:
    """The checksums that were noted when a shard was written, by file; None where there are none to be read."""
    try:
        found = re.findall(r"^([0-9a-f]{64})  (\S+)$", read_file(record_path(folder, shard)).decode("ascii"), re.M)
    except (OSError, ValueError):
        return None
    sums = {name: value for value, name in found}
    return sums if sums.keys() == {path.name for path in shard_paths(folder, shard)} else None


def damaged_files(folder: Path, manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Read every byte of a store.

    Args:
        folder: of the store.
        manifest: as read.

    Yields:
        name and fault of each file that is not as it was written, or, in a complete store, is missing.
    """
    failures: list[tuple[str, str]] | None = []
    for shard in range(manifest["shards"]):
        sums = manifest["sha256"] if manifest["complete"] else recorded_sums(folder, shard)
        for path in shard_paths(folder, shard):
            fault = "its checksum differs"
            try:
                whole = sums is None or sha256_file(path) == sums[path.name]
            except FileNotFoundError:
                whole, fault = not manifest["complete"], "is missing"
            except OSError as error:
                whole, fault = False, f"cannot be read ({error.strerror})"
            if not whole:
                failures = None
                yield path.name, fault
        if failures is not None and manifest["complete"]:
            found = read_rows(read_file(shard_paths(folder, shard)[1]), ["image", "status"]).to_pylist()
            failures += [(row["image"], row["status"]) for row in found if row["status"] != OK]
    if failures is not None and manifest["complete"]:
        with contextlib.suppress(FileNotFoundError):
            if read_file(folder / FAILURES) != failures_csv(failures):
                yield FAILURES, "is not what the tables say"


def read_rows(content: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """The table of a shard, by this thread alone.

    pyarrow's own ``read_table`` reads ahead in threads that hold the bytes when it has returned; one that lets them go
    after the interpreter has ended aborts the process.
    """
    with pq.ParquetFile(pa.BufferReader(content)) as file:
        return file.read(columns, use_threads=False)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a store, whose values have the types that they should.

    Raises:
        StoreError: none, damaged, or of another schema.
    """
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = read_sealed(path)
        schema = manifest["schema"]
        if isinstance(manifest.get("job"), dict) and "format" in manifest["job"]:
            raise StoreError(f"{folder}: not a descriptor store but a folder of pictures")
        if schema == SCHEMA:
            fill_dataclass(Job, manifest["job"], "job")
            shards, complete, sums = manifest["shards"], manifest["complete"], manifest["sha256"]
            if type(shards) is not int or type(complete) is not bool or not isinstance(sums, dict):
                raise ValueError("its values are of other types")
            stated = (
                {path.name for shard in range(shards) for path in shard_paths(folder, shard)} if complete else set()
            )
            if sums.keys() != stated:
                raise ValueError(f"{len(sums)} checksums for {shards} shards")
            return manifest
    except OSError as error:
        raise StoreError(f"{folder}: not a descriptor store (no readable manifest.json)") from error
    except (ValueError, KeyError, TypeError, UsageError) as error:
        raise StoreError(f"{path}: the manifest is damaged ({error}); extract again into another folder") from error
    raise StoreError(f"{path}: a store of schema {schema!r}, this gloam reads {SCHEMA}; extract again")


def record_path(folder: Path, shard: int) -> Path:
    """Where a shard's checksums are noted until the store is complete."""
    return shard_paths(folder, shard)[1].with_suffix(".sha256")
