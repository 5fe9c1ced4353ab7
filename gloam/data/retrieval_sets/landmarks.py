"""Google Landmarks: a CSV table of image ids and landmarks, and images at ``a/b/c/abc....jpg``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gloam.data.day_night.read import as_item
from gloam.data.retrieval_sets.pairing import SHOWN, Singles, dropped, number, pairs_within, settle_singles
from gloam.data.retrieval_sets.sets import RetrievalSet
from gloam.data.text import table_rows
from gloam.errors import DataError


def read_landmarks(
    path: str | Path, images: str | Path, pairs_per_image: int = 2, singles: Singles = "keep", seed: int = 0
) -> RetrievalSet:
    """Read ``train.csv`` (``id,url,landmark_id``) or ``train_clean.csv`` (``landmark_id,images``).

    Args:
        path: the table.
        images: folder of the images: ``<a>/<b>/<c>/<abc...>.jpg``, or all ``<id>.jpg`` directly in it.
        pairs_per_image: pairs that an image is the query of; positives are drawn from its landmark.
        singles: landmarks of one image: ``keep`` (as negatives), ``drop`` or ``refuse``.
        seed: of the draw.

    Raises:
        DataError: unreadable, without these columns, an id without a landmark or given twice; the first are named.
    """
    table = Path(path)
    rows = _rows(table)
    bad = [f"line {line}: id {name!r}, landmark {label!r}" for line, name, label in rows if not name or not label]
    seen: dict[str, int] = {}
    bad += [
        f"line {line}: {name} again (first in line {seen[name]})"
        for line, name, _ in rows
        if seen.setdefault(name, line) != line
    ]
    if bad:
        raise DataError(f"{table}: {len(bad)} bad rows: {'; '.join(bad[:SHOWN])}; correct the table")
    listed = len(rows)
    kept = settle_singles([label for *_, label in rows], [name for _, name, _ in rows], singles, str(table))
    rows = [rows[row] for row in kept]
    if not rows:
        raise DataError(f"{table}: lists no images to train on")
    root = Path(images)
    flat = (root / f"{rows[0][1]}.jpg").is_file()
    names = [f"{name}.jpg" if flat else "/".join((*name[:3], f"{name}.jpg")) for _, name, _ in rows]
    clusters = number([label for *_, label in rows])
    queries, positives = pairs_within(clusters, pairs_per_image, seed)
    items = tuple(as_item(name, root) for name in names)
    left_out = dropped(listed - len(rows))
    return RetrievalSet(items, np.asarray(clusters), queries, positives, left_out=left_out)


def _rows(table: Path) -> list[tuple[int, str, str]]:
    """Line, id and landmark of each image."""
    found: list[tuple[int, str, str]] = []
    columns, lines = table_rows(table, "the table of landmarks")
    if {"id", "landmark_id"} <= set(columns):
        for line, row in lines:
            found.append((line, row["id"].strip(), row["landmark_id"].strip()))
    elif {"images", "landmark_id"} <= set(columns):
        for line, row in lines:
            found += [(line, name, row["landmark_id"].strip()) for name in row["images"].split()]
    else:
        raise DataError(
            f"{table}:1: columns are {', '.join(sorted(columns)) or 'none'}; expected id,url,landmark_id or "
            "landmark_id,images"
        )
    return found
