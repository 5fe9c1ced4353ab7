"""An output folder belongs to one job: the same job carries on in it, another is refused before anything is written.

What a part of the output was made from is part of it: the content hash of each image, in the part's own table. Beside
it ``sources/part-000123.json`` notes the images' stamps, so that a later run need not read them again; without it, or
where a stamp is another, the image is read and its hash decides.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gloam.data.sources import ImageItem
from gloam.errors import IncompatibleError, StoreError, UsageError
from gloam.files import TEMPORARY_PREFIX, canonical_json, clear_again, load_json, plain_cell, write_failure, write_text

MANIFEST = "manifest.json"
FAILURES = "failures.csv"
LISTED = frozenset(("images_sha256", "images"))  # keys of a job that say what images it is of


@dataclass(frozen=True)
class EarlierImage:
    """What an earlier run has of one image.

    Attributes:
        name, sha256: of the image and of the bytes that were read; empty where they could not be.
        failure: why there is no result; None where there is one.
        final: whether the failure is the model's own, which the same bytes meet again.
        reduced: whether the image was made smaller first.
    """

    name: str
    sha256: str
    failure: str | None = None
    final: bool = False
    reduced: bool = False


class SourceStamps:
    """The stamps of the images that the parts of an output were made from; no part of the output's identity.

    Args:
        folder: of the output.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "sources"

    def write(self, part: int, stamps: Sequence[str]) -> None:
        """Note :attr:`gloam.files.Stamp.text` of each image of a part, in order, had before it was read; empty where
        there was none. To be written before the part.
        """
        write_text(self._path(part), canonical_json(list(stamps)) + "\n")

    def read(self, part: int, images: int) -> tuple[list[str], int]:
        """The stamps, empty where there are none; and when they were noted, nanoseconds since 1970."""
        try:
            stamps = load_json(self._path(part).read_bytes())
            noted = self._path(part).stat().st_mtime_ns
        except (OSError, ValueError):
            stamps, noted = None, 0
        whole = isinstance(stamps, list) and len(stamps) == images and all(isinstance(stamp, str) for stamp in stamps)
        return (stamps, noted) if whole else ([""] * images, 0)

    def keep(self, parts: int) -> None:
        """Remove what is noted of parts beyond the last of so many."""
        remove_beyond(self.folder, parts)

    def _path(self, part: int) -> Path:
        return self.folder / f"part-{part:06d}.json"


def occupied(folder: Path, what: str) -> bool:
    """Whether a folder holds a manifest already. A run begins there: its first write removes what killed ones left.

    Args:
        folder: to be written to; need not exist.
        what: that a manifest would be of, for the error.

    Raises:
        StoreError: it has none, and holds something else; or it is no folder that can be read.
    """
    clear_again(folder)
    try:
        found = os.listdir(folder)
    except FileNotFoundError:
        found = []
    except OSError as error:
        raise StoreError(f"{folder}: cannot be an output folder ({error.strerror}); choose another") from error
    # Asked after the listing: of several tasks that begin at once, one writes the manifest before anything else.
    if (folder / MANIFEST).exists():
        return True
    if any(not name.startswith(TEMPORARY_PREFIX) for name in found):
        raise StoreError(f"{folder}: is not empty and not {what}; choose another output folder")
    return False


def refuse_nesting(source: Path | str, output: Path) -> None:
    """Refuse an output folder inside a folder of sources, whose files would be sources of the next run.

    Raises:
        UsageError: it lies there; a kapture dataset names its images and is no such folder.
    """
    if isinstance(source, str) or not os.path.isdir(source):  # which Path.is_dir would not answer for too long a name
        return
    if (source / "sensors" / "records_camera.txt").is_file():
        return
    if output.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"{output}: lies inside the folder of the sources; choose an output folder elsewhere")


def refuse_another(
    folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any], holds: str, *, grow: bool = False
) -> None:
    """Refuse to go on with another job.

    Args:
        folder: of the output.
        found, wanted: what decides the bytes: as the folder's manifest says it, and of this job.
        holds: what the folder holds, e.g. ``a store``.
        grow: go on with a job that differs in its images alone.

    Raises:
        IncompatibleError: they differ; the message says in what.
    """
    differing = [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]
    if not differing:
        return
    made = f"{folder}: holds {holds} made with another {', '.join(differing)}"
    if not LISTED.issuperset(differing):
        raise IncompatibleError(f"{made}; choose another output folder, or delete this one")
    if not grow:
        raise IncompatibleError(
            f"{made}: images were added, removed, renamed or put in another order; add --grow to go on with those of "
            "now and keep what is unchanged, or choose another output folder"
        )


def remove_beyond(folder: Path, count: int) -> None:
    """Remove the files ``part-000123.*`` of parts beyond the last of ``count``, which a longer list of images left.

    Raises:
        StoreError: the folder cannot be written.
    """
    for path in folder.glob("part-*"):
        number = path.name.removeprefix("part-").partition(".")[0]
        if number.isdecimal() and int(number) >= count:
            remove(path)


def remove(path: Path) -> None:
    """Remove a file, if it is there.

    Raises:
        StoreError: it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(write_failure(path, error)) from error


def failures_csv(failures: Iterable[tuple[str, str]]) -> bytes:
    """``failures.csv``: name and reason of each image that failed, a line each."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "reason"])
    writer.writerows([plain_cell(cell) for cell in row] for row in failures)
    return text.getvalue().encode()


def names_sha256(items: Iterable[ImageItem]) -> str:
    """Identity of a list of images: hex sha256 of the canonical JSON of ``[[name, problem], ...]``, never held."""
    digest = hashlib.sha256(b"[")
    for number, item in enumerate(items):
        digest.update(b"," * bool(number) + canonical_json([item.name, item.problem]).encode("utf-8"))
    digest.update(b"]")
    return digest.hexdigest()
