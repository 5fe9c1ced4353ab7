"""What the images of a run hold: content hashes that its state is bound to, read again only where a stamp is another.

The first call of a run reads every file once, some minutes for a hundred thousand photographs before days of training;
``images.json`` in the run's folder notes hash, size, times and number of each, so that a call that carries on reads
what may have changed. Without it, or where it is damaged, all is read again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gloam.errors import StoreError
from gloam.files import file_stamp, read_sealed, sealed, sha256_bytes, sha256_file, write_bytes
from gloam.heartbeat import Heartbeat, Say

NOTES = "images.json"
ABSENT = ""  # instead of the hash of a file that cannot be read; training says so when it needs it
THREADS = 4  # a disk answers several questions at once
SHOWN = 3  # changed images that a message names


class RunContents:
    """Content hashes of the files that a run is trained on.

    Args:
        folder: of the run; None notes nothing.
        say: gets a line now and then while much is read.
    """

    def __init__(self, folder: str | Path | None = None, say: Say | None = None) -> None:
        self._path = None if folder is None else Path(folder) / NOTES
        self._say = say
        self._found: dict[str, tuple[str, str]] = {}  # path: stamp and hash
        self._changed: list[str] = []
        self._noted, self._noted_ns = self._read()

    def sha256(self, paths: Iterable[Path]) -> str:
        """Hex sha256 over the contents of files, in order."""
        places = [os.path.abspath(path) for path in paths]
        new = [place for place in dict.fromkeys(places) if place not in self._found]
        beat = Heartbeat(self._say, "reading the training images", len(new))
        with ThreadPoolExecutor(THREADS, "read") as pool:
            for place, found in zip(new, pool.map(self._look, new), strict=True):
                self._found[place] = found
                if place in self._noted and self._noted[place][1] != found[1]:
                    self._changed.append(place)
                beat.update()
        return sha256_bytes("".join(f"{self._found[place][1]}\n" for place in places).encode())

    def note(self, begun: bool) -> None:
        """Keep what was found for the next call.

        Args:
            begun: whether the run has a state, made from what was noted.

        Raises:
            StoreError: it has, and an image is another now; or the folder cannot be written.
        """
        if begun and self._changed:
            names = ", ".join(self._changed[:SHOWN])
            more = f" and {len(self._changed) - SHOWN} more" if len(self._changed) > SHOWN else ""
            raise StoreError(
                f"{names}{more}: changed since the run in {self._path and self._path.parent} began; put back what was "
                "there, or choose another folder"
            )
        kept = {**self._noted, **self._found}
        if self._path is not None and kept != self._noted:
            write_bytes(self._path, sealed(json.dumps(kept, sort_keys=True)).encode())

    def _look(self, place: str) -> tuple[str, str]:
        """Stamp and hash of a file; the stamp is from before it is read."""
        stamp = file_stamp(place)
        if stamp is None:
            return "", ABSENT
        noted, known = self._noted.get(place, ("", ABSENT))
        if known != ABSENT and stamp.holds(noted, self._noted_ns):
            return noted, known
        try:
            return stamp.text, sha256_file(place)
        except OSError:
            return "", ABSENT

    def _read(self) -> tuple[dict[str, tuple[str, str]], int]:
        if self._path is None:
            return {}, 0
        try:
            noted_ns = self._path.stat().st_mtime_ns
            noted = {place: (str(stamp), str(known)) for place, (stamp, known) in read_sealed(self._path).items()}
            return noted, noted_ns
        except (OSError, ValueError, TypeError, AttributeError):
            return {}, 0
