"""Pictures in tar shards: ``part-000123.tar`` holds those of one run of sources, whole or absent.

``part-000123.jsonl`` beside it has a line per source in order, the picture's hashes or the reason of its failure; its
first line states the checksums of the tar and of the other lines, and it is written last, so that a tar without it does
not exist. ``manifest.json`` and ``failures.csv`` are those of the whole. The order in a tar is that in which the model
ran the images: it depends on their sizes, never on timing.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from gloam.errors import StoreError, UsageError
from gloam.files import (
    atomic_write,
    canonical_json,
    load_json,
    read_sealed,
    sealed_json,
    sha256_bytes,
    sha256_file,
    write_text,
    write_where_changed,
)
from gloam.record import Written, fill_dataclass, sparse, to_json
from gloam.runtime.bulk.picture_sink import Failure, Picture
from gloam.runtime.output_folder import (
    FAILURES,
    MANIFEST,
    EarlierImage,
    SourceStamps,
    failures_csv,
    occupied,
    refuse_another,
    remove,
    remove_beyond,
)

SCHEMA = 1


@dataclass(frozen=True)
class TarHead(Written):
    """The first line of a tar's table.

    Attributes:
        tar: name of the tar.
        tar_sha256: of its bytes.
        rows_sha256: of the lines behind this one; empty in tables of before.
    """

    tar: str
    tar_sha256: str
    rows_sha256: str = sparse("")


class PictureTars:
    """Writes the tar shards of one job, skipping those that are already there and whole.

    Made as it is, it leaves the manifest alone: for a worker, whose job another process has begun.

    Args:
        folder: of the shards.
        job: what decides their bytes: the model's fingerprint, the options, the list of sources.
        images: sources.
        shard_size: sources per tar.

    Attributes:
        folder, damaged: see :class:`PictureSink`.
    """

    def __init__(self, folder: str | Path, job: Mapping[str, Any], images: int, shard_size: int) -> None:
        self.folder = Path(folder)
        self.job = json.loads(json.dumps({**job, "layout": "tar"}, sort_keys=True))
        self.damaged: list[str] = []
        self._shards = [range(start, min(start + shard_size, images)) for start in range(0, images, shard_size)]
        self._stamps = SourceStamps(self.folder)
        self._sums: dict[int, dict[str, str]] = {}  # of tars that were found whole, or made, here
        self._open = ExitStack()
        self._tar: tarfile.TarFile | None = None
        self._found = self.job

    @classmethod
    def begun(
        cls, folder: str | Path, job: Mapping[str, Any], images: int, shard_size: int, *, grow: bool = False
    ) -> PictureTars:
        """Tars that are new, or of the same job; what is there is left as it is.

        Args:
            folder, job, images, shard_size: see above.
            grow: go on with other sources than an earlier run had; see :meth:`retract`.

        Raises:
            IncompatibleError: the folder holds tars of another job; the message names what differs.
            StoreError: the folder holds something else, or cannot be written.
        """
        tars = cls(folder, job, images, shard_size)
        if occupied(tars.folder, "a folder of pictures"):
            tars._found = _read_job(tars.folder / MANIFEST)
            refuse_another(tars.folder, tars._found, tars.job, "pictures", grow=grow)
        else:
            tars._save({})
        return tars

    def __enter__(self) -> PictureTars:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)  # a tar that is not closed is dropped

    def parts(self, images: int) -> list[range]:
        """The sources that are closed together: those of each tar."""
        return self._shards

    def earlier(self, part: int) -> list[EarlierImage] | None:
        """What became of each source of a tar that is there and unharmed; None where it is not."""
        rows = self._rows(part)
        return None if rows is None else [_earlier(row) for row in rows]

    def earlier_of(self, image: str) -> EarlierImage | None:
        """None: what became of a source is said with its tar."""
        return None

    def finished(self, image: str, source_sha256: str, output: str) -> Picture | None:
        """None: a tar is made as a whole."""
        return None

    def retract(self, parts: Collection[int]) -> None:
        """State the run unfinished, of this job, and without tars that are to be made again or lie beyond the last."""
        if parts or self._found != self.job:
            self._save({})
            for part in parts:
                self._sums.pop(part, None)
                remove(self._paths(part)[1])
            remove_beyond(self.folder, len(self._shards))
        self._stamps.keep(len(self._shards))

    def begin(self) -> None:
        """Nothing: a tar that is not closed does not exist."""

    def write(self, output: str, content: bytes) -> None:
        """Nothing: pictures enter the tar in order, by :meth:`record`."""

    def record(self, picture: Picture, content: bytes) -> None:
        """Add a picture to the open tar."""
        if self._tar is None:
            raise StoreError(f"{self.folder}: no tar is open")
        member = tarfile.TarInfo(picture.output)  # no owner and no time, so that the bytes are the same every time
        member.size = len(content)
        self._tar.addfile(member, io.BytesIO(content))

    def open_part(self, part: int) -> None:
        """Begin a tar."""
        handle = self._open.enter_context(atomic_write(self._paths(part)[0]))
        self._tar = tarfile.open(fileobj=handle, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115  # close_part

    def close_part(self, part: int, rows: Sequence[Picture | Failure], stamps: Sequence[str]) -> None:
        """Make the tar of a part exist: rename it, then write the table that makes it valid."""
        if self._tar is None:
            raise StoreError(f"{self.folder}: no tar is open")
        self._tar.close()
        self._tar = None
        self._open.close()
        tar, table = self._paths(part)
        lines = "".join(f"{canonical_json(to_json(row))}\n" for row in rows)
        head = TarHead(tar.name, sha256_file(tar), sha256_bytes(lines.encode("utf-8")))
        text = f"{canonical_json(to_json(head))}\n{lines}"
        self._stamps.write(part, stamps)
        write_text(table, text)
        self._sums[part] = {tar.name: head.tar_sha256, table.name: sha256_bytes(text.encode("utf-8"))}

    def missing(self) -> list[int]:
        """Tars that are not there; what is inside them is not looked at."""
        return [part for part in range(len(self._shards)) if not self._paths(part)[1].is_file()]

    def finish(self) -> None:
        """State the run complete: a checksum per file into the manifest, failures into ``failures.csv``."""
        sums: dict[str, str] = {}
        failures: list[tuple[str, str]] = []
        for part in range(len(self._shards)):
            rows = self._rows(part)
            if rows is None:
                raise StoreError(f"{self._paths(part)[0]}: a damaged tar; run the same command again")
            sums |= self._sums[part]
            failures += [(row.image, row.reason) for row in rows if isinstance(row, Failure)]
        write_where_changed(self.folder / FAILURES, failures_csv(failures))
        self._save(sums)

    def _rows(self, part: int) -> list[Picture | Failure] | None:
        """The table of a tar that is there as it was written; None where it is to be made, see :attr:`damaged`."""
        tar, table = self._paths(part)
        if not table.exists():
            return None
        try:
            content = table.read_bytes()
            first, _, lines = content.partition(b"\n")
            head = fill_dataclass(TarHead, load_json(first), table.name)
            known = self._sums.get(part)
            tar_sha256 = sha256_file(tar) if known is None else known[tar.name]
            rows = [_row(load_json(line), table.name) for line in lines.splitlines()]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, UsageError):
            self.damaged.append(table.name)
            return None
        if tar_sha256 != head.tar_sha256 or head.rows_sha256 not in ("", sha256_bytes(lines)):
            self.damaged.append(tar.name if tar_sha256 != head.tar_sha256 else table.name)
            return None
        self._sums[part] = {tar.name: tar_sha256, table.name: sha256_bytes(content)}
        return rows

    def _paths(self, part: int) -> tuple[Path, Path]:
        stem = self.folder / f"part-{part:06d}"
        return stem.with_suffix(".tar"), stem.with_suffix(".jsonl")

    def _save(self, sums: Mapping[str, str]) -> None:
        complete = len(sums) == 2 * len(self._shards)
        value = {"schema": SCHEMA, "job": self.job, "complete": complete, "sha256": dict(sums)}
        write_where_changed(self.folder / MANIFEST, sealed_json(value))


def _row(value: Any, where: str) -> Picture | Failure:
    if isinstance(value, dict) and "reason" in value:
        return fill_dataclass(Failure, value, where)
    return fill_dataclass(Picture, value, where)


def _earlier(row: Picture | Failure) -> EarlierImage:
    if isinstance(row, Picture):
        return EarlierImage(row.image, row.source_sha256, reduced=row.reduced)
    return EarlierImage(row.image, row.source_sha256, row.reason, row.model and "memory" not in row.reason)


def _read_job(path: Path) -> dict[str, Any]:
    try:
        value = read_sealed(path)
        if value["schema"] == SCHEMA:
            return dict(value["job"])
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path}: not the manifest of a folder of pictures ({error}); choose another output folder"
        ) from error
    raise StoreError(f"{path}: tars of schema {value['schema']!r}, this gloam reads {SCHEMA}; choose another folder")
