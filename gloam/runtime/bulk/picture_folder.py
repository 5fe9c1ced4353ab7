"""The folder that a bulk image-to-image run writes: pictures that are whole or absent, and a manifest of what they are.

``images/`` holds the pictures under their sources' names, nothing else, so that it can be read as a folder of
photographs. ``manifest.json`` names the model, the options and, per picture, its source and both hashes;
``failures.csv`` lists what could not be done. While a run is under way its finished pictures stand in
``progress.jsonl``, a line each; the next run folds them into the manifest.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from gloam.data.sources import IMAGE_SUFFIXES, ImageItem, repeats
from gloam.errors import StoreError
from gloam.files import plain_cell, read_json, sha256_file, write_bytes, write_failure, write_json, write_text
from gloam.runtime.output_folder import MANIFEST, occupied, refuse_another

SCHEMA = 1


@dataclass(frozen=True)
class Picture:
    """One finished picture.

    Attributes:
        image: the source's name.
        source_sha256: of the source's bytes.
        output: name below ``images/``.
        output_sha256: of the picture's bytes.
        width, height: pixels.
        reduced: whether the source was larger and made smaller first.
    """

    image: str
    source_sha256: str
    output: str
    output_sha256: str
    width: int
    height: int
    reduced: bool


class PictureFolder:
    """Writes pictures of one job and knows which are there already.

    Args:
        folder: of the run.
        job: what decides a picture's bytes beside its source: the model's fingerprint and the options.

    Attributes:
        folder, images: of the run, and of its pictures.

    Raises:
        IncompatibleError: the folder holds pictures of another job; the message names what differs.
        StoreError: the folder holds something else, or cannot be written.
    """

    def __init__(self, folder: str | Path, job: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.images = self.folder / "images"
        self.job = json.loads(json.dumps(job, sort_keys=True))
        self._known: dict[str, Picture] = {}
        if occupied(self.folder, "a folder of pictures"):
            found, pictures = _read_manifest(self.folder / MANIFEST)
            refuse_another(self.folder, found, self.job, "pictures")
            self._known = {picture.image: picture for picture in pictures}
        self._journal = self.folder / "progress.jsonl"
        self._known |= {picture.image: picture for picture in self._read_journal()}
        self._save(self._known.values(), complete=False)
        self._journal.unlink(missing_ok=True)

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
            return known if sha256_file(self.images / output) == known.output_sha256 else None
        except OSError:
            return None

    def parts(self, images: int) -> list[range]:
        """The sources that are closed together: all of them."""
        return [range(images)]

    def closed(self, part: range) -> list[dict[str, Any]] | None:
        """None: whether a picture is there is asked for each."""
        return None

    def open_part(self, part: range) -> None:
        """Nothing: every picture is a file of its own."""

    def write(self, output: str, content: bytes) -> None:
        """Write a picture, atomically; thread-safe for different outputs."""
        write_bytes(self.images / output, content)

    def record(self, picture: Picture, content: bytes) -> None:
        """Note a picture that was written, so that a later run need not make it again."""
        try:
            with open(self._journal, "a", encoding="utf-8") as handle:
                handle.write(json.dumps(asdict(picture), sort_keys=True) + "\n")
        except OSError as error:
            raise StoreError(write_failure(self._journal, error)) from error

    def close_part(self, part: range, pictures: Sequence[Picture], failures: Sequence[tuple[str, str]]) -> None:
        """State the run complete: the manifest of its pictures, and ``failures.csv``."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["image", "reason"])
        writer.writerows([plain_cell(cell) for cell in row] for row in failures)
        write_text(self.folder / "failures.csv", text.getvalue())
        self._save(pictures, complete=True)
        self._journal.unlink(missing_ok=True)

    def finish(self) -> None:
        """Nothing is left to do: the one part is closed."""

    def _save(self, pictures: Any, complete: bool) -> None:
        value = {"schema": SCHEMA, "job": self.job, "complete": complete, "images": [asdict(p) for p in pictures]}
        write_json(self.folder / MANIFEST, value)

    def _read_journal(self) -> list[Picture]:
        try:
            lines = self._journal.read_text(encoding="utf-8").splitlines()
        except OSError:
            return []
        pictures = []
        for line in lines:
            try:
                pictures.append(Picture(**json.loads(line)))
            except (ValueError, TypeError):  # the line that a kill cut off: its picture is made again
                continue
        return pictures


def read_pictures(folder: str | Path) -> list[Picture]:
    """The pictures of a finished run, in the order of its sources.

    Raises:
        StoreError: no such run.
    """
    return _read_manifest(Path(folder) / MANIFEST)[1]


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


def _read_manifest(path: Path) -> tuple[dict[str, Any], list[Picture]]:
    try:
        value = read_json(path)
        schema = value["schema"]
        if schema == SCHEMA:
            return dict(value["job"]), [Picture(**entry) for entry in value["images"]]
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: not the manifest of a folder of pictures; choose another output folder") from error
    raise StoreError(f"{path}: a folder of schema {schema!r}, this gloam reads {SCHEMA}; choose another output folder")
