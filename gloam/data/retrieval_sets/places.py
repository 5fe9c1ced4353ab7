"""A user's own images: a folder for each place, a table of images and clusters, or a list of pairs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from gloam.data.day_night.read import as_item, files_below
from gloam.data.pairs import read_pairs
from gloam.data.retrieval_sets.pairing import (
    SHOWN,
    Singles,
    components,
    dropped,
    number,
    pairs_within,
    settle_singles,
)
from gloam.data.retrieval_sets.sets import RetrievalSet
from gloam.data.sources import IMAGE_SUFFIXES, ImageItem
from gloam.data.sources.items import NO_IMAGE
from gloam.data.text import plain_name, table_rows
from gloam.errors import DataError
from gloam.files import bad_name


def read_places(path: str | Path, pairs_per_image: int = 2, singles: Singles = "refuse", seed: int = 0) -> RetrievalSet:
    """A folder whose folders are places: ``PLACE/image.jpg`` or ``PLACE/CONDITION/image.jpg``.

    Args:
        path: the folder; hidden files and files that are no images by their suffix are left out, the latter counted.
        pairs_per_image: pairs that an image is the query of; positives are drawn from its place.
        singles: places of one image: ``refuse``, ``keep`` (as negatives) or ``drop``.
        seed: of the draw.

    Raises:
        DataError: no folders with images, images outside them, or places of one image; the first are named.
    """
    root = Path(path)
    left_out: dict[str, int] = {}
    below = files_below(root, left_out)
    names = [name for name in below if Path(name).suffix.lower() in IMAGE_SUFFIXES]
    if len(names) < len(below):
        left_out[NO_IMAGE] = left_out.get(NO_IMAGE, 0) + len(below) - len(names)
    outside = [name for name in names if "/" not in name]
    if outside:
        raise DataError(
            f"{root}: {len(outside)} images lie in no place's folder: {', '.join(outside[:SHOWN])}; "
            "expected PLACE/image.jpg or PLACE/CONDITION/image.jpg"
        )
    parts = [name.split("/") for name in names]
    conditions = [part[1] for part in parts] if parts and all(len(part) == 3 for part in parts) else None
    labels = [part[0] for part in parts]
    found = _from_labels(root, names, labels, conditions, pairs_per_image, singles, seed, str(root))
    return replace(found, left_out={**left_out, **found.left_out})


def read_cluster_csv(
    path: str | Path,
    images: str | Path | None = None,
    pairs_per_image: int = 2,
    singles: Singles = "refuse",
    seed: int = 0,
) -> RetrievalSet:
    """A table with the columns ``image`` and ``cluster``, and perhaps ``condition``.

    Args:
        path: the CSV table.
        images: folder that the names are relative to; the table's own by default.
        pairs_per_image, singles, seed: as in :func:`read_places`.

    Raises:
        DataError: unreadable, without these columns, or with bad rows; the first are named with their lines.
    """
    table = Path(path)
    columns, lines = table_rows(table, "the table of clusters")
    if missing := {"image", "cluster"} - set(columns):
        raise DataError(f"{table}:1: no column {sorted(missing)[0]!r}; expected image,cluster[,condition]")
    has_conditions = "condition" in columns
    rows: list[tuple[int, str, str, str]] = []
    for line, row in lines:
        name, label, condition = (row.get(key, "").strip() for key in ("image", "cluster", "condition"))
        rows.append((line, plain_name(name), label, condition))
    bad, seen = [], dict[str, int]()
    for line, name, label, condition in rows:
        if reason := bad_name(name):
            bad.append(f"line {line}: image {name!r} {reason}")
        elif not label or label.lower() == "nan":
            bad.append(f"line {line}: {name} has no cluster")
        elif has_conditions and not condition:
            bad.append(f"line {line}: {name} has no condition")
        elif seen.setdefault(name, line) != line:
            bad.append(f"line {line}: {name} again (first in line {seen[name]})")
    if bad:
        raise DataError(f"{table}: {len(bad)} bad rows: {'; '.join(bad[:SHOWN])}; correct the table")
    root = Path(images) if images is not None else table.parent
    conditions = [row[3] for row in rows] if has_conditions else None
    names, labels = [row[1] for row in rows], [row[2] for row in rows]
    return _from_labels(root, names, labels, conditions, pairs_per_image, singles, seed, str(table))


def read_pair_list(path: str | Path, images: str | Path | None = None) -> RetrievalSet:
    """A list of pairs, ``query positive`` or ``query, positive, score`` a line; images that are connected by pairs,
    directly or through others, are one cluster.

    Args:
        path: the text file.
        images: folder that the names are relative to; the list's own by default.

    Raises:
        DataError: unreadable or empty; or all images are connected, so that there are no negatives.
    """
    pairs = read_pairs(path)
    if not pairs:
        raise DataError(f"{path}: holds no pairs")
    index: dict[str, int] = {}
    for pair in pairs:
        for name in (pair.query, pair.mapping):
            index.setdefault(name, len(index))
    queries = np.array([index[pair.query] for pair in pairs], np.int64)
    positives = np.array([index[pair.mapping] for pair in pairs], np.int64)
    clusters = components(len(index), queries, positives)
    if clusters.max() == 0:
        raise DataError(
            f"{path}: its pairs connect all {len(index)} images, which leaves no negatives; give clusters by a table "
            "(image,cluster) instead"
        )
    root = Path(images) if images is not None else Path(path).parent
    return RetrievalSet(tuple(as_item(name, root) for name in index), clusters, queries, positives)


def _from_labels(
    root: Path,
    names: list[str],
    labels: list[str],
    conditions: list[str] | None,
    pairs_per_image: int,
    singles: Singles,
    seed: int,
    where: str,
) -> RetrievalSet:
    if not names:
        raise DataError(f"{where}: no images found; expected PLACE/image.jpg, or a table with rows")
    rows = settle_singles(labels, names, singles, where)
    clusters = number([labels[row] for row in rows])
    queries, positives = pairs_within(clusters, pairs_per_image, seed)
    if not len(queries):
        raise DataError(f"{where}: no cluster has two images, so there are no pairs")
    items: tuple[ImageItem, ...] = tuple(as_item(names[row], root) for row in rows)
    kept = None if conditions is None else tuple(conditions[row] for row in rows)
    return RetrievalSet(items, clusters, queries, positives, kept, left_out=dropped(len(labels) - len(rows)))
