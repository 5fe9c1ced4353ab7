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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from gloam.data.sources import IMAGE_SUFFIXES, ImageItem
from gloam.errors import IncompatibleError, StoreError
from gloam.files import sha256_file, write_bytes, write_failure, write_json, write_text

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
        self.job = json.loads(json.dumps(job))
        self._known: dict[str, Picture] = {}
        manifest = self.folder / "manifest.json"
        if manifest.exists():
            found, pictures = _read_manifest(manifest)
            differing = [key for key in {**self.job, **found} if found.get(key) != self.job.get(key)]
            if differing:
                raise IncompatibleError(
                    f"{self.folder}: holds pictures made with another {', '.join(sorted(differing))}; "
                    "choose another output folder, or delete this one"
                )
            self._known = {picture.image: picture for picture in pictures}
        elif self.folder.exists() and any(self.folder.iterdir()):
            raise StoreError(f"{self.folder}: is not empty and holds no manifest.json; choose another output folder")
        self._journal = self.folder / "progress.jsonl"
        self._known |= {picture.image: picture for picture in self._read_journal()}
        self._save(self._known.values(), complete=False)
        self._journal.unlink(missing_ok=True)

    def finished(self, image: str, source_sha256: str, output: str) -> Picture | None:
        """The picture of a source if it is there, made from the same bytes, and unharmed."""
        known = self._known.get(image)
        if known is None or (known.source_sha256, known.output) != (source_sha256, output):
            return None
        try:
            return known if sha256_file(self.images / output) == known.output_sha256 else None
        except OSError:
            return None

    def write(self, output: str, content: bytes) -> None:
        """Write a picture, atomically; thread-safe for different outputs."""
        write_bytes(self.images / output, content)

    def record(self, picture: Picture) -> None:
        """Note a picture that was written, so that a later run need not make it again."""
        try:
            with open(self._journal, "a", encoding="utf-8") as handle:
                handle.write(json.dumps(asdict(picture), sort_keys=True) + "\n")
        except OSError as error:
            raise StoreError(write_failure(self._journal, error)) from error

    def finish(self, pictures: Sequence[Picture], failures: Sequence[tuple[str, str]]) -> None:
        """State the run complete: the manifest of its pictures, and ``failures.csv``."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["image", "reason"])
        writer.writerows(failures)
        write_text(self.folder / "failures.csv", text.getvalue())
        self._save(pictures, complete=True)
        self._journal.unlink(missing_ok=True)

    def _save(self, pictures: Any, complete: bool) -> None:
        value = {"schema": SCHEMA, "job": self.job, "complete": complete, "images": [asdict(p) for p in pictures]}
        write_json(self.folder / "manifest.json", value)

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
    return _read_manifest(Path(folder) / "manifest.json")[1]


def output_names(items: Sequence[ImageItem], suffix: str) -> tuple[list[str], dict[int, str]]:
    """Where each image's picture goes: its own name with another suffix; folders stay.

    Args:
        items: the sources.
        suffix: with the dot. It takes the place of an image suffix and is added to any other name.

    Returns:
        a name per item, and for items that would overwrite an earlier one's picture, by index, the reason.
    """
    names: list[str] = []
    taken: dict[str, str] = {}
    clashes: dict[int, str] = {}
    for index, item in enumerate(items):
        path = PurePosixPath(item.name)
        name = str(path.with_suffix(suffix) if path.suffix.lower() in IMAGE_SUFFIXES else f"{path}{suffix}")
        names.append(name)
        if item.problem is None and name in taken:
            clashes[index] = f"would overwrite the picture of {taken[name]!r} ({name}); rename one of them"
        elif item.problem is None:
            taken[name] = item.name
    return names, clashes


def _read_manifest(path: Path) -> tuple[dict[str, Any], list[Picture]]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        schema = value["schema"]
        if schema == SCHEMA:
            return dict(value["job"]), [Picture(**entry) for entry in value["images"]]
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: not the manifest of a folder of pictures; choose another output folder") from error
    raise StoreError(f"{path}: a folder of schema {schema!r}, this gloam reads {SCHEMA}; choose another output folder")
