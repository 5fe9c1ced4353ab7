"""The native descriptor store: shards that are whole or absent, and a manifest that says what they are.

``shards/part-000123.npy`` holds float16 or float32 ``[n, D]`` (memory-mappable), ``part-000123.parquet`` beside it a
row per image: image, sha256, width, height, shape, status. The parquet file carries the checksum of the descriptors
and is written last, so that a shard without it does not exist. ``manifest.json`` names the identities and, once
complete, a checksum per shard; ``failures.csv`` lists what could not be described.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from gloam.errors import StoreError, UsageError
from gloam.files import atomic_write, plain_cell, sha256_bytes, sha256_file, write_bytes, write_json
from gloam.record import fill_dataclass
from gloam.runtime.descriptors.reading import space_of, stated_rule
from gloam.runtime.output_folder import MANIFEST, occupied, refuse_another

SCHEMA = 1
CHECKSUM_KEY = b"descriptors_sha256"
OK = "ok"


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


class ShardWriter:
    """Writes the shards of one job into a folder, skipping those that are already there and whole.

    Several processes may write shards of one job into one folder; whoever sees all of them there finishes it. Made as
    it is, it looks at nothing and leaves the manifest alone: for a worker, whose job another process has begun.
    """

    def __init__(self, folder: str | Path, job: Job, shards: int) -> None:
        self.folder = Path(folder)
        self.job = job
        self.shards = shards

    @classmethod
    def begin(cls, folder: str | Path, job: Job, shards: int) -> ShardWriter:
        """The writer of a store that is new, or of the same job; the manifest states it unfinished.

        Raises:
            IncompatibleError: the folder holds a store of another job; the message names what differs.
            StoreError: the folder holds something else.
        """
        writer = cls(folder, job, shards)
        if occupied(writer.folder, "a descriptor store"):
            found = _read_manifest(writer.folder / MANIFEST)["job"]
            refuse_another(writer.folder, found, json.loads(json.dumps(asdict(job))), "a store")
        writer._save_manifest({})
        return writer

    @classmethod
    def reopen(cls, folder: str | Path) -> ShardWriter:
        """The writer of a store that is there, for :meth:`finish`.

        Raises:
            StoreError: not a store.
        """
        place = Path(folder)
        manifest = _read_manifest(place / MANIFEST)
        try:
            job, shards = fill_dataclass(Job, manifest["job"], "job"), int(manifest["shards"])
        except (KeyError, TypeError, ValueError, UsageError) as error:
            raise StoreError(f"{place / MANIFEST}: the manifest is damaged ({error}); extract again") from error
        return cls.begin(place, job, shards)

    def done(self, shard: int) -> bool:
        """Whether a shard is there and its descriptors have the checksum that its table states."""
        descriptors, table = _paths(self.folder, shard)
        try:
            return descriptors.is_file() and sha256_file(descriptors) == _stated(pq.read_schema(table))
        except (OSError, pa.ArrowInvalid):
            return False

    def missing(self) -> list[int]:
        """Shards that are not there; what is inside them is not looked at."""
        return [shard for shard in range(self.shards) if not _paths(self.folder, shard)[1].is_file()]

    def failed(self, shard: int) -> int:
        """Rows of a finished shard that are not ``ok``."""
        status = pq.read_table(_paths(self.folder, shard)[1], columns=["status"])["status"]
        return sum(value != OK for value in status.to_pylist())

    def write(self, shard: int, rows: Sequence[Row], descriptors: npt.NDArray[np.floating[Any]]) -> None:
        """Write one shard: the descriptors of its ``ok`` rows in order, then the table that makes it valid."""
        if len(descriptors) != sum(row.status == OK for row in rows):
            raise StoreError(f"{self.folder}: shard {shard} has {len(descriptors)} descriptors for its rows")
        path, table_path = _paths(self.folder, shard)
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(descriptors))
        content = buffer.getvalue()
        write_bytes(path, content)
        table = pa.table({key: [getattr(row, key) for row in rows] for key in Row.__dataclass_fields__}, schema=_TABLE)
        table = table.replace_schema_metadata({CHECKSUM_KEY: sha256_bytes(content).encode()})
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        write_bytes(table_path, sink.getvalue())

    def finish(self) -> int:
        """State the store complete: checksums into the manifest, failures into ``failures.csv``.

        Returns:
            how many images failed.

        Raises:
            StoreError: a shard is missing or damaged; the message says which.
        """
        if missing := self.missing():
            raise StoreError(
                f"{self.folder}: {len(missing)} of {self.shards} shards are missing, {missing[0]} first; "
                "run `gloam extract` for them, then finish"
            )
        sums: dict[str, str] = {}
        failed = 0
        with atomic_write(self.folder / "failures.csv") as handle:
            text = io.TextIOWrapper(handle, encoding="utf-8", newline="")
            failures = csv.writer(text, lineterminator="\n")
            failures.writerow(["image", "reason"])
            for shard in range(self.shards):
                descriptors, path = _paths(self.folder, shard)
                try:
                    sums |= {file.name: sha256_file(file) for file in (descriptors, path)}
                    table = pq.read_table(path, columns=["image", "status"])
                except (OSError, pa.ArrowException):
                    table = None
                if table is None or _stated(table.schema) != sums[descriptors.name]:
                    raise StoreError(f"{path}: a damaged shard; run the same `gloam extract` again")
                for image, status in zip(table["image"].to_pylist(), table["status"].to_pylist(), strict=True):
                    if status != OK:
                        failures.writerow([plain_cell(image), plain_cell(status)])
                        failed += 1
            text.flush()
            text.detach()
        self._save_manifest(sums)
        return failed

    def _save_manifest(self, sums: Mapping[str, str]) -> None:
        complete = len(sums) == 2 * self.shards
        manifest = {
            "schema": SCHEMA,
            "job": asdict(self.job),
            "shards": self.shards,
            "complete": complete,
            "sha256": sums,
        }
        write_json(self.folder / MANIFEST, manifest)


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

    def __init__(self, folder: Path, manifest: dict[str, Any], shards: Sequence[int]) -> None:
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
        self.failures: dict[str, str] = {}
        self._names = [self._read_names(shard) for shard in self._shards]
        self.names = [name for names in self._names for name in names]

    @classmethod
    def open(cls, folder: str | Path, *, allow_partial: bool = False) -> DescriptorStore:
        """Open a store.

        Args:
            folder: as given to ``gloam extract -o``.
            allow_partial: read the finished shards of an unfinished store.

        Raises:
            StoreError: not a store, of another schema, unfinished, or a shard is missing.
        """
        place = Path(folder)
        manifest = _read_manifest(place / MANIFEST)
        if not manifest["complete"] and not allow_partial:
            raise StoreError(f"{place}: the extraction is not finished; run the same `gloam extract` again")
        every = range(int(manifest["shards"]))
        present = [shard for shard in every if all(path.is_file() for path in _paths(place, shard))]
        if len(present) < len(every) and not allow_partial:
            missing = min(set(every) - set(present))
            raise StoreError(f"{place}: shard {missing} is missing; run the same `gloam extract` again")
        return cls(place, manifest, present)

    def __len__(self) -> int:
        return len(self.names)

    def blocks(self, rows: int = 65536) -> Iterator[tuple[list[str], npt.NDArray[np.float32]]]:
        """Stream the store: names and float32 ``[n, D]``, n at most ``rows``."""
        for shard, names in zip(self._shards, self._names, strict=True):
            descriptors = self._map(shard, len(names))
            for start in range(0, len(names), rows):
                yield names[start : start + rows], np.asarray(descriptors[start : start + rows], np.float32)

    def load(self) -> npt.NDArray[np.float32]:
        """All descriptors, float32 ``[n, D]``; for sets that fit into memory."""
        matrix = np.empty((len(self), self.dimension), np.float32)
        start = 0
        for _, block in self.blocks():
            matrix[start : start + len(block)] = block
            start += len(block)
        return matrix

    def verify(self) -> list[str]:
        """Names of shard files whose checksum is not the manifest's; empty where all is well."""
        sums = self.manifest["sha256"]
        return [name for name, expected in sums.items() if sha256_file(self.folder / "shards" / name) != expected]

    def _read_names(self, shard: int) -> list[str]:
        path = _paths(self.folder, shard)[1]
        try:
            table = pq.read_table(path, columns=["image", "status"])
        except (OSError, pa.ArrowInvalid) as error:
            raise StoreError(f"{path}: a damaged shard; run the same `gloam extract` again") from error
        pairs = list(zip(table["image"].to_pylist(), table["status"].to_pylist(), strict=True))
        self.failures |= {image: status for image, status in pairs if status != OK}
        return [image for image, status in pairs if status == OK]

    def _map(self, shard: int, count: int) -> npt.NDArray[np.floating[Any]]:
        path = _paths(self.folder, shard)[0]
        try:
            descriptors: npt.NDArray[np.floating[Any]] = np.load(
                path, mmap_mode="r" if count else None, allow_pickle=False
            )
        except (OSError, ValueError) as error:
            raise StoreError(f"{path}: a damaged shard; run the same `gloam extract` again") from error
        if descriptors.shape != (count, self.dimension):
            raise StoreError(f"{path}: {descriptors.shape} descriptors, {(count, self.dimension)} are stated")
        return descriptors


_TABLE = pa.schema(
    [
        ("image", pa.string()),
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("shape", pa.string()),
        ("status", pa.string()),
    ]
)


def _paths(folder: Path, shard: int) -> tuple[Path, Path]:
    stem = folder / "shards" / f"part-{shard:06d}"
    return stem.with_suffix(".npy"), stem.with_suffix(".parquet")


def _stated(schema: Any) -> str:
    """The checksum of the descriptors that a shard's table states; empty where it states none."""
    checksum: bytes = (schema.metadata or {}).get(CHECKSUM_KEY, b"")
    return checksum.decode()


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        schema = manifest["schema"]
    except OSError as error:
        raise StoreError(f"{path.parent}: not a descriptor store (no readable manifest.json)") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: the manifest is damaged ({error}); extract again into another folder") from error
    if schema != SCHEMA:
        raise StoreError(f"{path}: a store of schema {schema!r}, this gloam reads {SCHEMA}; extract again")
    return manifest
