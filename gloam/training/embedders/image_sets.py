"""The image sets that a recipe names; rendered streets are kept, so that a resumed run does not render again."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gloam.data.retrieval_sets.sets import RetrievalSet, read_retrieval_set
from gloam.data.sources import ImageItem
from gloam.data.town.config import REVISION
from gloam.errors import StoreError
from gloam.files import atomic_write, sha256_json


def open_set(
    source: Mapping[str, Any], views: str | Path | None = None, say: Callable[[str], None] | None = None
) -> RetrievalSet:
    """The set of a recipe's ``data``.

    Args:
        source: ``kind`` (``json`` by default) and the arguments of its reader.
        views: folder that keeps rendered streets, to be shared by runs; None keeps none.
        say: gets a line where streets are rendered.

    Raises:
        UsageError: an unknown kind, or arguments that its reader does not take.
        DataError: what the reader finds wrong.
        StoreError: kept streets cannot be read, or new ones not be written.
    """
    where = dict(source)
    kind = str(where.pop("kind", "json"))
    if kind != "town" or not where.get("seeds") or views is None:
        return read_retrieval_set(kind, **where)
    path = Path(views) / f"views-{sha256_json([where, REVISION])[:16]}.npz"
    if path.is_file():
        return _read(path)
    if say is not None:
        say(f"rendering streets {list(where['seeds'])}")
    rendered = read_retrieval_set(kind, **where)
    _write(path, rendered)
    return rendered


def origin_of(train: Mapping[str, Any]) -> dict[str, str] | None:
    """``data`` and ``licence`` of weights that have seen nothing but the streets that a source renders; else None."""
    if train.get("kind") != "town" or not train.get("seeds"):
        return None
    return {"data": f"procedural streets {', '.join(map(str, train['seeds']))}", "licence": "Apache-2.0"}


def _write(path: Path, images: RetrievalSet) -> None:
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: getattr(images, name) for name in ("clusters", "queries", "positives")}
    arrays |= {name: np.array(getattr(images, name)) for name in ("names", "conditions", "pixels")}
    np.savez(buffer, **arrays)
    with atomic_write(path) as handle:
        handle.write(buffer.getbuffer())


def _read(path: Path) -> RetrievalSet:
    try:
        with np.load(path) as kept:
            return RetrievalSet(
                tuple(ImageItem(name, Path(name)) for name in kept["names"].tolist()),
                kept["clusters"],
                kept["queries"],
                kept["positives"],
                tuple(kept["conditions"].tolist()),
                tuple(kept["pixels"]),
            )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise StoreError(f"{path}: not readable ({error}); remove it to render again") from error
