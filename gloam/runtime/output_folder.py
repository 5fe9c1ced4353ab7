"""An output folder belongs to one job: the same job carries on in it, another is refused before anything is written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gloam.data.sources import ImageItem
from gloam.errors import IncompatibleError, StoreError
from gloam.files import TEMPORARY_PREFIX, canonical_json

MANIFEST = "manifest.json"


def occupied(folder: Path, what: str) -> bool:
    """Whether a folder holds a manifest already.

    Args:
        folder: to be written to; need not exist.
        what: that a manifest would be of, for the error.

    Raises:
        StoreError: it has none, and holds something else.
    """
    found = [path.name for path in folder.iterdir()] if folder.exists() else []
    # Asked after the listing: of several tasks that begin at once, one writes the manifest before anything else.
    if (folder / MANIFEST).exists():
        return True
    if any(not name.startswith(TEMPORARY_PREFIX) for name in found):
        raise StoreError(f"{folder}: is not empty and not {what}; choose another output folder")
    return False


def refuse_another(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any], holds: str) -> None:
    """Refuse to go on with another job.

    Args:
        folder: of the output.
        found, wanted: what decides the bytes: as the folder's manifest says it, and of this job.
        holds: what the folder holds, e.g. ``a store``.

    Raises:
        IncompatibleError: they differ; the message says in what.
    """
    differing = [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]
    if differing:
        raise IncompatibleError(
            f"{folder}: holds {holds} made with another {', '.join(differing)}; "
            "choose another output folder, or delete this one"
        )


def names_sha256(items: Iterable[ImageItem]) -> str:
    """Identity of a list of images: hex sha256 of the canonical JSON of ``[[name, problem], ...]``, never held."""
    digest = hashlib.sha256(b"[")
    for number, item in enumerate(items):
        digest.update(b"," * bool(number) + canonical_json([item.name, item.problem]).encode("utf-8"))
    digest.update(b"]")
    return digest.hexdigest()
