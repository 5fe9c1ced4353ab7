"""Writing a descriptor store: whoever makes shards of one job puts them into one folder, in any order, at any time."""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from gloam.errors import StoreError
from gloam.files import sealed_json, sha256_bytes, sha256_file, write_bytes, write_text, write_where_changed
from gloam.record import fill_dataclass
from gloam.runtime.descriptors.store import (
    AGAIN,
    CHECKSUM_KEY,
    OK,
    SCHEMA,
    Job,
    Row,
    read_manifest,
    read_rows,
    record_path,
    recorded_sums,
    shard_paths,
)
from gloam.runtime.output_folder import (
    FAILURES,
    MANIFEST,
    failures_csv,
    occupied,
    refuse_another,
    remove,
    remove_beyond,
)

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


class ShardWriter:
    """Writes the shards of one job into a folder, skipping those that are already there and whole.

    Several processes may write shards of one job into one folder; whoever sees all of them there finishes it. Made as
    it is, it looks at nothing and leaves the manifest alone: for a worker, whose job another process has begun.

    Attributes:
        damaged: files that were there, but not as they were written; their shards are to be made again.
    """

    def __init__(self, folder: str | Path, job: Job, shards: int) -> None:
        self.folder = Path(folder)
        self.job = job
        self.shards = shards
        self.damaged: list[str] = []
        self._stated: dict[str, str] = {}  # checksums of the manifest, when it was last read
        self._whole: dict[int, dict[str, str]] = {}  # checksums of shards that were found whole, or made, here

    @classmethod
    def begin(cls, folder: str | Path, job: Job, shards: int, *, grow: bool = False) -> ShardWriter:
        """The writer of a store that is new, or of the same job; what is there is left as it is.

        Args:
            folder: of the store.
            job: what decides its content.
            shards: how many it has.
            grow: take a store of other images, too; see :meth:`retract`.

        Raises:
            IncompatibleError: the folder holds a store of another job; the message names what differs.
            StoreError: the folder holds something else.
        """
        writer = cls(folder, job, shards)
        if occupied(writer.folder, "a descriptor store"):
            manifest = read_manifest(writer.folder)
            refuse_another(writer.folder, manifest["job"], _plain(job), "a store", grow=grow)
            writer._stated = manifest["sha256"]
        else:
            write_bytes(writer.folder / MANIFEST, writer._manifest({}))
        return writer

    @classmethod
    def reopen(cls, folder: str | Path) -> ShardWriter:
        """The writer of a store that is there, for :meth:`finish`.

        Raises:
            StoreError: not a store.
        """
        manifest = read_manifest(Path(folder))
        return cls.begin(folder, fill_dataclass(Job, manifest["job"], "job"), manifest["shards"])

    def rows(self, shard: int) -> list[Row] | None:
        """The rows of a shard that is there as it was written; None where it is to be made, see :attr:`damaged`."""
        descriptors, table = shard_paths(self.folder, shard)
        expected = self._sums(shard)
        if expected is None:
            return None
        try:
            content = table.read_bytes()
            sums = {table.name: sha256_bytes(content)}
            sums[descriptors.name] = expected[descriptors.name] if shard in self._whole else sha256_file(descriptors)
        except FileNotFoundError:
            return None
        except OSError:
            sums = {}
        if wrong := [name for name in sorted(expected) if sums.get(name) != expected[name]]:
            self.damaged += wrong
            return None
        self._whole[shard] = expected
        return [Row(**row) for row in read_rows(content).to_pylist()]

    def done(self, shard: int) -> bool:
        """Whether a shard is there as it was written."""
        return self.rows(shard) is not None

    def missing(self) -> list[int]:
        """Shards that are not there; what is inside them is not looked at."""
        return [shard for shard in range(self.shards) if not shard_paths(self.folder, shard)[1].is_file()]

    def failed(self, shard: int) -> int:
        """Rows of a finished shard that are not ``ok``."""
        return sum(row.status != OK for row in self.rows(shard) or [])

    def retract(self, shards: Collection[int]) -> None:
        """State the store unfinished, of this job, and without these shards, which are to be made again.

        What was noted of the others is kept. Where there is nothing to state, nothing is written.

        Raises:
            StoreError: the folder cannot be written.
        """
        if not shards and read_manifest(self.folder)["job"] == _plain(self.job):
            return
        for shard in set(range(self.shards)).difference(shards):
            if recorded_sums(self.folder, shard) is None and (sums := self._sums(shard)) is not None:
                write_text(record_path(self.folder, shard), _record(sums))
        write_where_changed(self.folder / MANIFEST, self._manifest({}))
        self._stated = {}
        for shard in shards:
            self._whole.pop(shard, None)
            remove(shard_paths(self.folder, shard)[1])
        remove_beyond(self.folder / "shards", self.shards)

    def write(self, shard: int, rows: Sequence[Row], descriptors: npt.NDArray[np.floating[Any]]) -> None:
        """Write one shard: the descriptors of its ``ok`` rows in order, then the table that makes it valid."""
        if len(descriptors) != sum(row.status == OK for row in rows):
            raise StoreError(f"{self.folder}: shard {shard} has {len(descriptors)} descriptors for its rows")
        path, table_path = shard_paths(self.folder, shard)
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(descriptors))
        content = buffer.getvalue()
        table = pa.table({key: [getattr(row, key) for row in rows] for key in Row.__dataclass_fields__}, schema=_TABLE)
        table = table.replace_schema_metadata({CHECKSUM_KEY: sha256_bytes(content).encode()})
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        sums = {path.name: sha256_bytes(content), table_path.name: sha256_bytes(sink.getvalue())}
        write_bytes(path, content)
        write_text(record_path(self.folder, shard), _record(sums))
        write_bytes(table_path, sink.getvalue())
        self._whole[shard] = sums

    def finish(self) -> int:
        """State the store complete: checksums into the manifest, failures into ``failures.csv``.

        Of a store that is complete already, whatever is as it should be is not touched.

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
        failures: list[tuple[str, str]] = []
        for shard in range(self.shards):
            rows = self.rows(shard)
            if rows is None:
                raise StoreError(f"{shard_paths(self.folder, shard)[1]}: a damaged shard; {AGAIN}")
            sums |= self._whole[shard]
            failures += [(row.image, row.status) for row in rows if row.status != OK]
        write_where_changed(self.folder / FAILURES, failures_csv(failures))
        write_where_changed(self.folder / MANIFEST, self._manifest(sums))
        self._stated = sums
        for shard in range(self.shards):
            if (record := record_path(self.folder, shard)).exists():  # a disk that is read only refuses to be asked
                remove(record)
        return len(failures)

    def _sums(self, shard: int) -> dict[str, str] | None:
        """The checksums of what was written as this shard; None where that is not known."""
        if (recorded := recorded_sums(self.folder, shard)) is not None:
            return recorded
        descriptors, table = shard_paths(self.folder, shard)
        if table.name not in self._stated and table.is_file():  # another process may have finished the store
            self._stated = read_manifest(self.folder)["sha256"]
        if {descriptors.name, table.name} <= self._stated.keys():
            return {path.name: self._stated[path.name] for path in (descriptors, table)}
        return None

    def _manifest(self, sums: Mapping[str, str]) -> bytes:
        complete = len(sums) == 2 * self.shards
        return sealed_json(
            {
                "schema": SCHEMA,
                "job": asdict(self.job),
                "shards": self.shards,
                "complete": complete,
                "sha256": dict(sums),
            }
        )


def _plain(job: Job) -> Any:
    """A job as it is read from a manifest."""
    return json.loads(json.dumps(asdict(job)))


def _record(sums: Mapping[str, str]) -> str:
    return "".join(f"{value}  {name}\n" for name, value in sums.items())
