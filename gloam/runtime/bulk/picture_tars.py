"""Pictures in tar shards: ``part-000123.tar`` holds those of one run of sources, whole or absent.

``part-000123.jsonl`` beside it has a line per source, the picture's hashes or the reason of its failure; its first line
states the tar's checksum, and it is written last, so that a tar without it does not exist. ``manifest.json`` and
``failures.csv`` are those of the whole. The order in a tar is that in which the model ran the images: it depends on
their sizes, never on timing.
"""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from gloam.errors import StoreError
from gloam.files import atomic_write, canonical_json, plain_cell, read_json, sha256_file, write_json, write_text
from gloam.runtime.bulk.picture_folder import Picture
from gloam.runtime.output_folder import MANIFEST, occupied, refuse_another

SCHEMA = 1


class PictureTars:
    """Writes the tar shards of one job, skipping those that are already there and whole.

    Args:
        folder: of the shards.
        job: what decides their bytes: the model's fingerprint, the options, the list of sources.
        images: sources.
        shard_size: sources per tar.

    Raises:
        IncompatibleError: the folder holds tars of another job; the message names what differs.
        StoreError: the folder holds something else, or cannot be written.
    """

    def __init__(self, folder: str | Path, job: Mapping[str, Any], images: int, shard_size: int) -> None:
        self.folder = Path(folder)
        self.job = json.loads(json.dumps({**job, "layout": "tar"}, sort_keys=True))
        self._shard_size = shard_size
        self._shards = [range(start, min(start + shard_size, images)) for start in range(0, images, shard_size)]
        self._open = ExitStack()
        self._tar: tarfile.TarFile | None = None
        if occupied(self.folder, "a folder of pictures"):
            refuse_another(self.folder, _read_job(self.folder / MANIFEST), self.job, "pictures")
        self._save({})

    def __enter__(self) -> PictureTars:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)  # a tar that is not closed is dropped

    def parts(self, images: int) -> list[range]:
        """The sources that are closed together: those of each tar."""
        return self._shards

    def closed(self, part: range) -> list[dict[str, Any]] | None:
        """What became of each source of a tar that is there and unharmed; None where it is not."""
        tar, table = self._paths(part)
        try:
            first, *rows = (json.loads(line) for line in table.read_text(encoding="utf-8").splitlines())
            return rows if sha256_file(tar) == first["tar_sha256"] and len(rows) == len(part) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def finished(self, image: str, source_sha256: str, output: str) -> Picture | None:
        """None: a tar is made as a whole."""
        return None

    def write(self, output: str, content: bytes) -> None:
        """Nothing: pictures enter the tar in order, by :meth:`record`."""

    def record(self, picture: Picture, content: bytes) -> None:
        """Add a picture to the open tar."""
        if self._tar is None:
            raise StoreError(f"{self.folder}: no tar is open")
        member = tarfile.TarInfo(picture.output)  # no owner and no time, so that the bytes are the same every time
        member.size = len(content)
        self._tar.addfile(member, io.BytesIO(content))

    def open_part(self, part: range) -> None:
        """Begin a tar."""
        handle = self._open.enter_context(atomic_write(self._paths(part)[0]))
        self._tar = tarfile.open(fileobj=handle, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115  # close_part

    def close_part(self, part: range, pictures: Sequence[Picture], failures: Sequence[tuple[str, str]]) -> None:
        """Make the tar of a part exist: rename it, then write the table that makes it valid."""
        if self._tar is None:
            raise StoreError(f"{self.folder}: no tar is open")
        self._tar.close()
        self._tar = None
        self._open.close()
        tar, table = self._paths(part)
        rows = [asdict(picture) for picture in pictures] + [{"image": name, "reason": why} for name, why in failures]
        lines = [{"tar": tar.name, "tar_sha256": sha256_file(tar)}, *rows]
        write_text(table, "".join(f"{canonical_json(line)}\n" for line in lines))

    def finish(self) -> None:
        """State the run complete: a checksum per file into the manifest, failures into ``failures.csv``."""
        sums: dict[str, str] = {}
        with atomic_write(self.folder / "failures.csv") as handle:
            text = io.TextIOWrapper(handle, encoding="utf-8", newline="")
            failures = csv.writer(text, lineterminator="\n")
            failures.writerow(["image", "reason"])
            for part in self._shards:
                rows = self.closed(part)
                if rows is None:
                    raise StoreError(f"{self._paths(part)[0]}: a damaged tar; run the same command again")
                sums |= {path.name: sha256_file(path) for path in self._paths(part)}
                failures.writerows(
                    [plain_cell(row["image"]), plain_cell(row["reason"])] for row in rows if "reason" in row
                )
            text.flush()
            text.detach()
        self._save(sums)

    def _paths(self, part: range) -> tuple[Path, Path]:
        stem = self.folder / f"part-{part.start // self._shard_size:06d}"
        return stem.with_suffix(".tar"), stem.with_suffix(".jsonl")

    def _save(self, sums: Mapping[str, str]) -> None:
        complete = len(sums) == 2 * len(self._shards)
        write_json(
            self.folder / MANIFEST, {"schema": SCHEMA, "job": self.job, "complete": complete, "sha256": dict(sums)}
        )


def _read_job(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path)
        if value["schema"] == SCHEMA:
            return dict(value["job"])
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: not the manifest of a folder of pictures; choose another output folder") from error
    raise StoreError(f"{path}: tars of schema {value['schema']!r}, this gloam reads {SCHEMA}; choose another folder")
