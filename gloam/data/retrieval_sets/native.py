"""gloam's own file of retrieval sets: JSON, written by ``gloam dataset build`` or by hand.

``{"format": "gloam retrieval set", "version": 1, "images_root": "images", "sets": {"train": {"images": [...],
"clusters": [...], "queries": [...], "positives": [...], "conditions": [...]}}}``. Names are relative to
``images_root``, and that to the file. Clusters are whole numbers or words; ``conditions`` may be left out. A file of
one set may have its lists at the top in place of ``sets``.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gloam.data.day_night.read import as_item
from gloam.data.retrieval_sets.pairing import SHOWN, number
from gloam.data.retrieval_sets.sets import Indices, RetrievalSet, whole_numbers
from gloam.errors import DataError, UsageError
from gloam.files import bad_name, read_json, write_text

FORMAT, VERSION = "gloam retrieval set", 1
KEYS = ("images", "clusters", "queries", "positives")


def read_native(path: str | Path, set_name: str | None = None, images: str | Path | None = None) -> RetrievalSet:
    """Read one set of a file.

    Args:
        path: the ``.json`` file.
        set_name: ``train`` where the file has it and none is named; may be left out where there is one set alone.
        images: folder that the names are relative to, in place of the file's ``images_root``.

    Raises:
        DataError: not readable, no such set, lists missing, of different lengths or with wrong values.
    """
    file = Path(path)
    content = _load(file)
    part = _chosen(content, set_name, file)
    missing = [key for key in KEYS if not isinstance(part.get(key), list)]
    if missing:
        raise DataError(f"{file}: {missing[0]!r} is missing or not a list; a set holds {', '.join(KEYS)}")
    root = Path(images) if images is not None else file.parent / str(content.get("images_root", "."))
    names = part["images"]
    wrong = [f"images[{row}] {name!r}" for row, name in enumerate(names) if not isinstance(name, str)]
    if wrong:
        raise DataError(f"{file}: {len(wrong)} images are not names: {', '.join(wrong[:SHOWN])}")
    conditions = part.get("conditions")
    if conditions is not None and not (
        isinstance(conditions, list) and all(isinstance(label, str) for label in conditions)
    ):
        raise DataError(f"{file}: 'conditions' is not a list of words; give one for each image, or leave it out")
    try:
        return RetrievalSet(
            tuple(as_item(name, root) for name in names),
            _clusters(part["clusters"]),
            whole_numbers(part["queries"], "queries"),
            whole_numbers(part["positives"], "positives"),
            None if conditions is None else tuple(conditions),
        )
    except DataError as error:
        raise DataError(f"{file}: {error}") from error


def set_names(path: str | Path) -> list[str | None]:
    """Names of a file's sets; ``[None]`` where there is one without a name."""
    content = _load(Path(path))
    return list(content["sets"]) if isinstance(content.get("sets"), dict) else [None]


def write_native(path: str | Path, sets: Mapping[str, RetrievalSet]) -> Path:
    """Write sets to one file, atomically; names are relative to the folder that holds all their images.

    Args:
        path: the ``.json`` file.
        sets: by name, such as ``train`` and ``val``; of images in files.

    Returns:
        the images' root.

    Raises:
        UsageError: images in memory. DataError: no images, or names that a list cannot hold; the first are named.
    """
    file = Path(path)
    if any(part.pixels is not None for part in sets.values()):
        raise UsageError(f"{file}: images in memory cannot be listed; write them to files first (`gloam town`)")
    paths = [item.path.absolute() for part in sets.values() for item in part.images]
    if not paths:
        raise DataError(f"{file}: the sets hold no images")
    root = Path(os.path.commonpath([path.parent for path in paths]))
    content: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    content["images_root"] = Path(os.path.relpath(root, file.absolute().parent)).as_posix()
    content["sets"] = {}
    for name, part in sets.items():
        names = [item.path.absolute().relative_to(root).as_posix() for item in part.images]
        bad = [f"{image!r} {reason}" for image in names if (reason := bad_name(image))]
        if bad:
            raise DataError(f"{file}: {len(bad)} names cannot be listed: {'; '.join(bad[:SHOWN])}; rename the files")
        lists: dict[str, Any] = {"images": names}
        lists |= {key: getattr(part, key).tolist() for key in KEYS[1:]}
        if part.conditions is not None:
            lists["conditions"] = list(part.conditions)
        content["sets"][name] = lists
    write_text(file, json.dumps(content, indent=None, separators=(", ", ": ")) + "\n")
    return root


def hold_out_clusters(whole: RetrievalSet, share: float) -> tuple[RetrievalSet, RetrievalSet]:
    """Two sets without a cluster in common: to train on, and to validate on.

    Which clusters are held out follows from a hash of their first image's name, so it stays as it is when images or
    clusters are added.

    Args:
        share: of the clusters to hold out, above 0 and below 1; at least one is, and at least one stays.

    Raises:
        UsageError: a share out of range. DataError: a single cluster.
    """
    if not 0 < share < 1:
        raise UsageError(f"validation share {share}: must be above 0 and below 1")
    labels, first = np.unique(whole.clusters, return_index=True)
    if len(labels) < 2:
        raise DataError("retrieval set: a single cluster cannot be trained on and held out")
    keys = [
        hashlib.sha256(whole.images[row].name.encode("utf-8", "surrogateescape")).digest() for row in first.tolist()
    ]
    order = sorted(range(len(labels)), key=lambda place: keys[place])
    count = min(max(1, math.floor(share * len(labels) + 0.5)), len(labels) - 1)
    apart = np.isin(whole.clusters, labels[order[:count]])
    return whole.part(np.flatnonzero(~apart)), whole.part(np.flatnonzero(apart))


def _load(file: Path) -> dict[str, Any]:
    try:
        content = read_json(file)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"{file}: not readable as a retrieval set ({reason})") from error
    if not isinstance(content, dict) or not (isinstance(content.get("sets"), dict) or "images" in content):
        raise DataError(f"{file}: not a retrieval set; expected 'sets', or the lists {', '.join(KEYS)}")
    if content.get("version", VERSION) != VERSION:
        raise DataError(
            f"{file}: is of version {content['version']}; this gloam reads version {VERSION}; build it again"
        )
    return content


def _chosen(content: Mapping[str, Any], set_name: str | None, file: Path) -> Mapping[str, Any]:
    if not isinstance(content.get("sets"), dict):
        if set_name is not None:
            raise DataError(f"{file}: holds a single set without a name; leave out the name {set_name!r}")
        return content
    sets = content["sets"]
    if set_name is None:
        set_name = next(iter(sets)) if len(sets) == 1 else "train"
    part = sets.get(set_name)
    if not isinstance(part, dict):
        raise DataError(f"{file}: has no set {set_name!r}; its sets are {', '.join(sets) or 'none'}")
    return part


def _clusters(values: list[Any]) -> Indices:
    if values and all(isinstance(value, str) for value in values):
        return number(values)
    return whole_numbers(values, "clusters")
