"""The image sets that a recipe names; rendered streets are kept, so that a resumed run does not render again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gloam.data.retrieval_sets.sets import RetrievalSet, read_retrieval_set
from gloam.data.sources import ImageItem
from gloam.data.sources.items import counts_left_out
from gloam.data.town.config import REVISIONS
from gloam.data.town.looks import street_names
from gloam.files import sha256_json
from gloam.heartbeat import Say
from gloam.training.kept_arrays import read_arrays, write_arrays

KEPT = ("names", "clusters", "queries", "positives", "conditions", "pixels")


def open_set(source: Mapping[str, Any], views: str | Path | None = None, say: Say | None = None) -> RetrievalSet:
    """The set of a recipe's ``data``.

    Args:
        source: ``kind`` (``json`` by default) and the arguments of its reader.
        views: folder that keeps rendered streets, to be shared by runs; None keeps none.
        say: gets a line where streets are rendered, or where a folder holds more than images.

    Raises:
        UsageError: an unknown kind, or arguments that its reader does not take.
        DataError: what the reader finds wrong.
        StoreError: kept streets cannot be read, or new ones not be written.
    """
    where = dict(source)
    kind = str(where.pop("kind", "json"))
    if kind != "town" or not where.get("seeds") or views is None:
        found = read_retrieval_set(kind, **where)
        if say is not None and (left := counts_left_out(found.left_out)):
            say(f"{where.get('path', kind)}: {left}")
        return found
    revision = next((found for look, found in REVISIONS.items() if look == where.get("look", 1)), None)
    path = Path(views) / f"views-{sha256_json([where, revision])[:16]}.npz"
    kept = read_arrays(path)
    if kept is None:
        if say is not None:
            say(f"rendering streets {list(where['seeds'])}")
        rendered = read_retrieval_set(kind, **where)
        write_arrays(path, {name: np.asarray(getattr(rendered, name)) for name in KEPT})
        return rendered
    return RetrievalSet(
        tuple(ImageItem(name, Path(name)) for name in kept["names"].tolist()),
        kept["clusters"],
        kept["queries"],
        kept["positives"],
        tuple(kept["conditions"].tolist()),
        tuple(kept["pixels"]),
    )


def origin_of(train: Mapping[str, Any]) -> dict[str, str] | None:
    """``data`` and ``licence`` of weights that have seen nothing but the streets that a source renders; else None."""
    if train.get("kind") != "town" or not train.get("seeds"):
        return None
    return {"data": street_names(train["seeds"], train.get("look", 1)), "licence": "Apache-2.0"}
