"""Fetching published files: resumed where a connection broke, the same bytes ever after, from any mirror.

The first fetch writes each file's sha256 to a lock file; every later use must find the same. Standard library only.
"""

from __future__ import annotations

import codecs
import contextlib
import datetime
import fcntl
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gloam.data.published.names import Published, find_published, named_hash
from gloam.errors import DataError, StoreError, UsageError
from gloam.files import load_json, read_file, sha256_file, user_cache, write_failure, write_json

FOLDER_VARIABLE, MIRROR_VARIABLE = "GLOAM_PUBLISHED", "GLOAM_MIRROR"
LOCK_FILE = "published.lock.json"
SCHEMES = ("http://", "https://", "file://")
BLOCK = 1 << 18
TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 4  # connections to a server that breaks them off, each from where the last ended
MARGIN = 16 << 20  # bytes that are left free on the disk
PAGES = ("text/html", "application/xhtml+xml", "application/json", "application/xml", "text/xml")
PAGE = "sent a web page in place of the file; give another address by --mirror"

Progress = Callable[[str, int, int | None], None]  # file, bytes so far, bytes in all where known


@dataclass(frozen=True)
class Pulled:
    """A published thing on disk.

    Attributes:
        published: what it is.
        paths: its files, the main one first.
        sha256: of each.
        fetched: names of the files that were fetched now.
        pinned: names of the files whose sha256 was written to the lock file now.
    """

    published: Published
    paths: tuple[Path, ...]
    sha256: tuple[str, ...]
    fetched: tuple[str, ...]
    pinned: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "name": self.published.name,
            "kind": self.published.kind,
            "files": [str(path) for path in self.paths],
            "sha256": list(self.sha256),
            "fetched": list(self.fetched),
            "pinned": list(self.pinned),
            "licence": self.published.licence,
        }

    def __str__(self) -> str:
        """Lines for people."""
        lines = []
        for path, digest in zip(self.paths, self.sha256, strict=True):
            what = "fetched" if path.name in self.fetched else "was there"
            how = "pinned now" if path.name in self.pinned else "as pinned"
            lines.append(f"{path}: {what}, sha256 {digest} ({how})")
        lines.append(f"licence: {self.published.licence}")
        main = self.paths[0]
        if self.published.family:
            lines.append(f"next: gloam import {main} --as {self.published.family} -o {main.stem}.safetensors")
        return "\n".join(lines)


def default_folder() -> Path:
    """``$GLOAM_PUBLISHED``, or ``gloam/published`` in the user's cache."""
    given = os.environ.get(FOLDER_VARIABLE)
    return Path(given) if given else user_cache() / "published"


def pull(
    name: str,
    folder: str | Path | None = None,
    *,
    mirror: str | None = None,
    lock: str | Path | None = None,
    progress: Progress | None = None,
    wait: float = 1.0,
) -> Pulled:
    """Make sure that the files of a published name are on disk, and that they are the ones that were there before.

    Args:
        name: one of ``PUBLISHED``.
        folder: where they are kept; :func:`default_folder` where None.
        mirror: address whose files have the same names, ``http://``, ``https://`` or ``file://``; by default that of
            the environment variable ``GLOAM_MIRROR``, else the source's own.
        lock: JSON file of the pinned hashes; in ``folder`` by default. A project may keep one under version control.
        progress: told after every block.
        wait: seconds before the second connection; doubled for each one after it.

    Raises:
        UsageError: unknown name, or a mirror that is no address.
        DataError: not reachable, broken off for good (run again to resume), a page instead of the file, or other bytes
            than were pinned.
        StoreError: the disk is full or not writable, or another process fetches the same file.
    """
    published = find_published(name)
    place = Path(folder) if folder is not None else default_folder()
    mirror = mirror or os.environ.get(MIRROR_VARIABLE) or None
    if mirror is not None and not mirror.startswith(SCHEMES):
        raise UsageError(f"mirror {mirror!r}: must begin with {', '.join(SCHEMES)}")
    lock_path = Path(lock) if lock is not None else place / LOCK_FILE
    pins = _read_lock(lock_path)
    fetched, pinned, hashes = [], [], []
    for file, source in zip(published.files, published.urls, strict=True):
        addresses = _addresses(source) if mirror is None else (f"{mirror.rstrip('/')}/{file}",)
        path = place / file
        url = addresses[-1]
        if not path.is_file():
            url = _fetch_any(addresses, path, pins.get(file, {}).get("sha256"), progress, wait)
            fetched.append(file)
        digest = sha256_file(path)
        expected = pins.get(file, {}).get("sha256")
        if expected is None:
            if wrong := _wrong(path, path.name, digest, None):
                raise DataError(f"{path}: it was not pinned, as whoever gave it {wrong}; delete it and pull again")
            expected = _add_pin(lock_path, file, _pin(path, digest, url))
            pinned.append(file)
        if digest != expected:
            raise DataError(
                f"{path}: sha256 {digest[:12]}..., but {expected[:12]}... is pinned in {lock_path}; the file has "
                "changed: delete it and pull again, or delete its entry there if you trust the new one"
            )
        hashes.append(digest)
    paths = tuple(place / file for file in published.files)
    return Pulled(published, paths, tuple(hashes), tuple(fetched), tuple(pinned))


def _addresses(source: str) -> tuple[str, ...]:
    """Where to look, one after another: a source without encryption may have it by now."""
    return (source.replace("http://", "https://", 1), source) if source.startswith("http://") else (source,)


def _fetch_any(
    addresses: tuple[str, ...], path: Path, pinned: str | None, progress: Progress | None, wait: float
) -> str:
    """Fetch from the first address that has the file; returns it. The last one's failure is that of all."""
    for address in addresses[:-1]:
        part = path.with_name(path.name + ".part")
        try:
            _fetch(address, path, pinned, progress, wait, patience=1)
            return address
        except DataError:
            if part.is_file() and _read_notes(part.with_name(part.name + ".json")).get("url") == address:
                raise  # a part is there; the next run goes on from it
    _fetch(addresses[-1], path, pinned, progress, wait)
    return addresses[-1]


def _wrong(path: Path, name: str, digest: str, pinned: str | None) -> str | None:
    """What whoever sent a file did wrong, or None."""
    with open(path, "rb") as handle:
        begin = handle.read(64)
    if not begin:
        return "sent an empty file; give another address by --mirror"
    if begin.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"<"):  # neither weights nor pickles do
        return PAGE
    if pinned is not None and digest != pinned:
        return (
            f"sent a file of sha256 {digest[:12]}..., but {pinned[:12]}... is pinned from the first use; "
            "use a mirror with the old file, or delete its entry in the lock file if you trust the new one"
        )
    if not digest.startswith(named_hash(name)):
        return f"sent a file of sha256 {digest[:12]}..., but its name says {named_hash(name)}; try a mirror"
    return None


def _fetch(
    url: str, path: Path, pinned: str | None, progress: Progress | None, wait: float, patience: int = ATTEMPTS
) -> None:
    """Fetch into ``<file>.part``, check, rename."""
    part = path.with_name(path.name + ".part")
    with _alone(path):
        if path.is_file():  # another process has just fetched it
            return
        _download(url, part, progress, wait, patience, known=pinned or named_hash(path.name))
        try:
            digest = sha256_file(part)
            wrong = _wrong(part, path.name, digest, pinned)
        except OSError as error:
            raise StoreError(f"{part}: cannot be read ({error.strerror or error})") from error
        if wrong:
            _forget(part)
            raise DataError(f"{url}: {wrong}")
        try:
            os.replace(part, path)
        except OSError as error:
            raise StoreError(write_failure(path, error)) from error
        _forget(part)


def _download(url: str, part: Path, progress: Progress | None, wait: float, patience: int, known: str) -> None:
    """Fetch into a part.

    Args:
        patience: attempts to reach a server that has sent nothing.
        known: what the hash must begin with, whatever the length; empty where nothing is known of it.
    """
    reason = ""
    attempts = 1 if url.startswith("file:") else ATTEMPTS
    for attempt in range(attempts):
        if attempt:
            time.sleep(wait * 2 ** (attempt - 1))
        before = part.stat().st_size if part.is_file() else 0
        try:
            if _transfer(url, part, progress, bool(known)):
                return
            reason = "the connection broke off"
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                raise DataError(f"{url}: {error.code} {error.reason}; give another address by --mirror") from error
            reason = f"{error.code} {error.reason}"
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            reason = str(getattr(error, "reason", None) or error) or type(error).__name__
        after = part.stat().st_size if part.is_file() else 0
        if attempt >= min(attempts, patience) - 1 and after == before == 0:
            raise DataError(f"{url}: cannot be reached ({reason}); check the network or give --mirror URL")
    size = part.stat().st_size if part.is_file() else 0
    raise DataError(f"{url}: {reason} after {size:,} bytes, {attempts} times; run the same command again to resume")


def _transfer(url: str, part: Path, progress: Progress | None, checked: bool) -> bool:
    """One connection; True where the file is whole after it. ``checked``: its hash will say so in any case."""
    notes = part.with_name(part.name + ".json")
    have = part.stat().st_size if part.is_file() else 0
    known = _read_notes(notes) if have else {}
    if known.get("url") != url or not known.get("version"):
        have = 0  # of another source, or of one that cannot tell whether the file is still the same
    request = urllib.request.Request(url, headers={"User-Agent": "gloam", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", known["version"])
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing behind what is there: whole already, or another file
            if have == known.get("total"):
                return True
            _forget(part)
            return False
        raise
    with response:
        _refuse_other(url, response)
        length = response.headers.get("Content-Length")
        expected = int(length) if length is not None and length.isdigit() else None
        if getattr(response, "status", 200) != 206 or not _continues(response.headers.get("Content-Range"), have):
            have = 0
        total = None if expected is None else have + expected
        if total is None and not checked and not getattr(response, "chunked", False):
            raise DataError(
                f"{url}: does not say how long the file is, so a part could be taken for the whole; give another "
                "address by --mirror"
            )
        entity = response.headers.get("ETag") or ""
        version = entity if entity and not entity.startswith("W/") else response.headers.get("Last-Modified")
        _save(part, notes, response, have, total, {"url": url, "version": version, "total": total}, progress)
    return total is None or part.stat().st_size == total


def _refuse_other(url: str, response: Any) -> None:
    """Refuse an answer that is not the file's own bytes, by its headers."""
    encoding = (response.headers.get("Content-Encoding") or "identity").strip().lower()
    if encoding != "identity":
        raise DataError(f"{url}: sent the file encoded as {encoding[:40]!r}; give another address by --mirror")
    if response.headers.get_content_type() in PAGES:
        raise DataError(f"{url}: {PAGE}")


def _save(
    part: Path,
    notes: Path,
    response: Any,
    have: int,
    total: int | None,
    known: dict[str, Any],
    progress: Progress | None,
) -> None:
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(part.parent).free
        if total is not None and total - have + MARGIN > free:
            raise StoreError(
                f"{part.parent}: {(total - have) / 1e6:,.0f} MB are needed and {free / 1e6:,.0f} MB are free; free "
                "some space or choose another folder by --to"
            )
        write_json(notes, known)
        with open(part, "r+b" if have else "wb") as handle:
            if have:
                handle.seek(have)
                handle.truncate()
            while True:
                try:
                    block = response.read1(BLOCK) if hasattr(response, "read1") else response.read(BLOCK)
                except (http.client.HTTPException, OSError) as error:  # of the connection, not of the disk
                    raise ConnectionError(str(error) or type(error).__name__) from error
                if not block:
                    break
                handle.write(block)
                have += len(block)
                if progress is not None:
                    progress(part.name.removesuffix(".part"), have, total)
            handle.flush()
            os.fsync(handle.fileno())
    except (ConnectionError, StoreError):
        raise
    except OSError as error:
        raise StoreError(write_failure(part, error)) from error


def _continues(header: str | None, have: int) -> bool:
    return header is not None and header.startswith(f"bytes {have}-")


def _read_notes(path: Path) -> dict[str, Any]:
    try:
        notes = load_json(read_file(path))
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) else {}


def _forget(part: Path) -> None:
    for path in (part, part.with_name(part.name + ".json")):
        path.unlink(missing_ok=True)


def _read_lock(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        return {}
    try:
        pins = load_json(read_file(path))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: the lock file cannot be read ({error}); restore it, or delete it to pin anew"
        ) from error
    if not isinstance(pins, dict) or not all(isinstance(pin, dict) and "sha256" in pin for pin in pins.values()):
        raise DataError(f"{path}: is no lock file of pulled files; restore it, or delete it to pin anew")
    return pins


def _add_pin(lock: Path, file: str, pin: dict[str, Any]) -> str:
    """Add a pin to those that are in the lock file by now; returns the hash that it holds for the file then."""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(lock.parent, os.O_RDONLY)
    except OSError as error:
        raise StoreError(write_failure(lock, error)) from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # until it is closed; others that pin wait
        pins = _read_lock(lock)
        if file not in pins:
            write_json(lock, pins | {file: pin})
            return str(pin["sha256"])
        return str(pins[file]["sha256"])
    finally:
        os.close(folder)


def _pin(path: Path, digest: str, url: str) -> dict[str, Any]:
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"sha256": digest, "bytes": path.stat().st_size, "url": url, "first_use": today}


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep a second process from writing the same file."""
    guard = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = open(guard, "w")  # noqa: SIM115  # closed below
    except OSError as error:
        raise StoreError(write_failure(path, error)) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreError(f"{path}: another process is fetching it; wait for that one") from error
        yield
        guard.unlink(missing_ok=True)
    finally:
        handle.close()
