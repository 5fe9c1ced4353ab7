"""The folder that a bulk image-to-image run writes: pictures that are whole or absent, and a manifest of what they are.

``images/`` holds the pictures under their sources' names, nothing else, so that it can be read as a folder of
photographs. ``manifest.json`` names the model, the options and, per picture, its source and both hashes;
``failures.csv`` lists what could not be done. While a run is under way its finished pictures stand in
``progress.jsonl``, a line each; the next run folds them into the manifest.
"""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from gloam.data.sources import IMAGE_SUFFIXES, ImageItem, repeats
from gloam.errors import IncompatibleError, StoreError, UsageError
from gloam.files import (
    bad_name,
    load_json,
    plain_cell,
    read_sealed,
    sealed_json,
    sha256_file,
    write_bytes,
    write_failure,
    write_where_changed,
)
from gloam.record import Written, fill_dataclass, to_json
from gloam.runtime.bulk.picture_sink import Failure, Picture
from gloam.runtime.output_folder import (
    FAILURES,
    MANIFEST,
    EarlierImage,
    failures_csv,
    names_sha256,
    occupied,
    refuse_another,
    remove,
)

SCHEMA = 1


@dataclass(frozen=True)
class PictureManifest(Written):
    """``manifest.json`` of a folder of pictures.

    Attributes:
        schema: of the file.
        job: what decides a picture's bytes beside its source.
        complete: whether every source has a picture or a reason.
        images: the pictures, in the order of the sources.
    """

    schema: int
    job: Mapping[str, Any]
    complete: bool
    images: tuple[Picture, ...]


class PictureFolder:
    """Writes pictures of one job and knows which are there already.

    Args:
        folder: of the run.
        job: what decides a picture's bytes beside its source: the model's fingerprint and the options.
        items: the sources; the manifest's job states their list.
        grow: go on with other sources than the folder was begun with; pictures of those that are gone are removed.

    Attributes:
        folder, images: of the run, and of its pictures.
        damaged: see :class:`PictureSink`.

    Raises:
        IncompatibleError: the folder holds pictures of another job, the message names what differs; or, without
            ``grow``, of other images. Folders of before do not state their list: only removed images are refused.
        StoreError: the folder holds something else, or cannot be written.
    """

    def __init__(
        self, folder: str | Path, job: Mapping[str, Any], items: Iterable[ImageItem], grow: bool = False
    ) -> None:
        self.folder = Path(folder)
        self.images = self.folder / "images"
        listed = {"images_sha256": names_sha256(items)}
        self.job = json.loads(json.dumps({**job, **listed}, sort_keys=True))
        self.damaged: list[str] = []
        self._known: dict[str, Picture] = {}
        self._failed: frozenset[str] = frozenset()
        self._begun = False
        self._journal = self.folder / "progress.jsonl"
        if not occupied(self.folder, "a folder of pictures"):
            self.begin()
            return
        found = _read_manifest(self.folder / MANIFEST)
        if found.job.keys().isdisjoint(listed):
            del self.job["images_sha256"]
        refuse_another(self.folder, found.job, self.job, "pictures", grow=True)
        self._known = {picture.image: picture for picture in (*found.images, *self._read_journal())}
        self._failed = self._read_failures()
        removed = self._known.keys() - {item.name for item in items} if self._known else set()
        if removed and not grow:
            raise IncompatibleError(
                f"{self.folder}: holds pictures of {len(removed)} images that are not in the source, {min(removed)!r} "
                "first: they were removed or renamed; add --grow to remove their pictures, too, or choose another "
                "output folder"
            )
        refuse_another(self.folder, found.job, self.job, "pictures", grow=grow)

    def __enter__(self) -> PictureFolder:
        return self

    def __exit__(self, *raised: object) -> None:
        """Every picture is whole or absent; nothing is open."""

    def finished(self, image: str, source_sha256: str, output: str) -> Picture | None:
        """The picture of a source if it is there, made from the same bytes, and unharmed."""
        known = self._known.get(image)
        if known is None or (known.source_sha256, known.output) != (source_sha256, output):
            return None
        try:
            if sha256_file(self.images / output) == known.output_sha256:
                return known
            self.damaged.append(output)
        except OSError:
            pass
        return None

    def parts(self, images: int) -> list[range]:
        """The sources that are closed together: all of them."""
        return [range(images)]

    def earlier(self, part: int) -> list[EarlierImage] | None:
        """None: whether a picture is there is asked for each."""
        return None

    def earlier_of(self, image: str) -> EarlierImage | None:
        """What became of one source; None where nothing is known of it."""
        if (known := self._known.get(image)) is not None:
            return EarlierImage(image, known.source_sha256)
        return EarlierImage(image, "", "failed") if plain_cell(image) in self._failed else None

    def retract(self, parts: Collection[int]) -> None:
        """Nothing: a picture that is made again takes the place of the earlier one."""

    def open_part(self, part: int) -> None:
        """Nothing: every picture is a file of its own."""

    def begin(self) -> None:
        """State the run unfinished, with the pictures that are known."""
        if not self._begun:
            self._save(tuple(self._known.values()), complete=False)
            self._begun = True

    def write(self, output: str, content: bytes) -> None:
        """Write a picture, atomically; thread-safe for different outputs."""
        write_bytes(self._place(output), content)

    def record(self, picture: Picture, content: bytes) -> None:
        """Note a picture that was written, so that a later run need not make it again."""
        try:
            with open(self._journal, "a", encoding="utf-8") as handle:
                handle.write(json.dumps(to_json(picture), sort_keys=True) + "\n")
        except OSError as error:
            raise StoreError(write_failure(self._journal, error)) from error

    def close_part(self, part: int, rows: Sequence[Picture | Failure], stamps: Sequence[str]) -> None:
        """State the run complete: the manifest of its pictures, and ``failures.csv``. Pictures of an earlier run whose
        sources are gone or fail now are removed."""
        pictures = tuple(row for row in rows if isinstance(row, Picture))
        outputs = {picture.output for picture in pictures}
        for old in self._known.values():
            if old.output not in outputs and bad_name(old.output) is None:
                self.begin()
                remove(self._place(old.output))
        failures = [(row.image, row.reason) for row in rows if isinstance(row, Failure)]
        write_where_changed(self.folder / FAILURES, failures_csv(failures))
        self._save(pictures, complete=True)

    def finish(self) -> None:
        """Nothing is left to do: the one part is closed."""

    def _place(self, output: str) -> Path:
        """Where a picture is written or removed, which no link may lead out of the folder.

        Raises:
            StoreError: one does.
        """
        path = self.images / output
        if not path.parent.resolve().is_relative_to(self.folder.resolve()):
            raise StoreError(f"{path}: a link leads out of {self.folder}; remove it, or choose another output folder")
        return path

    def _save(self, pictures: tuple[Picture, ...], complete: bool) -> None:
        value = to_json(PictureManifest(SCHEMA, self.job, complete, pictures))
        write_where_changed(self.folder / MANIFEST, sealed_json(value))
        if self._journal.exists():
            remove(self._journal)

    def _read_journal(self) -> list[Picture]:
        try:
            lines = self._journal.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError):
            return []
        pictures = []
        for line in lines:  # the line that a kill cut off: its picture is made again
            with contextlib.suppress(ValueError, UsageError):
                pictures.append(fill_dataclass(Picture, load_json(line), self._journal.name))
        return pictures

    def _read_failures(self) -> frozenset[str]:
        try:
            with open(self.folder / FAILURES, encoding="utf-8", newline="") as file:
                return frozenset(row[0] for row in csv.reader(file) if row)
        except (OSError, ValueError, csv.Error):
            return frozenset()


def read_pictures(folder: str | Path) -> list[Picture]:
    """The pictures of a finished run, in the order of its sources.

    Raises:
        StoreError: no such run.
    """
    return list(_read_manifest(Path(folder) / MANIFEST).images)


def output_name(name: str, suffix: str) -> str:
    """Where an image's picture goes: its own name with another suffix; folders stay.

    Args:
        name: of the source.
        suffix: with the dot. It takes the place of an image suffix and is added to any other name.
    """
    path = PurePosixPath(name)
    return str(path.with_suffix(suffix) if path.suffix.lower() in IMAGE_SUFFIXES else f"{path}{suffix}")


def output_clashes(items: Sequence[ImageItem], suffix: str) -> dict[int, str]:
    """By index, why an item would overwrite an earlier one's picture; empty where none would."""

    def names() -> Iterator[str]:
        for index, item in enumerate(items):  # an item that is not run takes no name; a newline is in no other
            yield output_name(item.name, suffix) if item.problem is None else f"\n{index}"

    return {
        later: f"would overwrite the picture of {items[first].name!r} ({output_name(items[later].name, suffix)}); "
        "rename one of them"
        for later, first in repeats(names).items()
    }


def _read_manifest(path: Path) -> PictureManifest:
    try:
        value = read_sealed(path)
        schema = value["schema"]
        if schema == SCHEMA:
            return fill_dataclass(PictureManifest, value, path.name)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError, UsageError) as error:
        raise StoreError(
            f"{path}: not the manifest of a folder of pictures ({error}); choose another output folder"
        ) from error
    raise StoreError(f"{path}: a folder of schema {schema!r}, this gloam reads {SCHEMA}; choose another output folder")
