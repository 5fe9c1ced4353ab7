"""The procedural town as a retrieval set: rendered in memory, or a town on disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gloam.data.retrieval_sets.pairing import pairs_within
from gloam.data.retrieval_sets.posed import read_kapture
from gloam.data.retrieval_sets.sets import RetrievalSet, join_sets
from gloam.data.sources import ImageItem
from gloam.data.town.training_views import render_training_views
from gloam.errors import DataError, UsageError


def read_town(
    folder: str | Path | None = None,
    *,
    seeds: Sequence[int] = (),
    places: int = 24,
    views_per_place: int = 6,
    conditions: Sequence[str] = ("day",),
    size: tuple[int, int] = (128, 96),
    look: int = 1,
    pairs_per_image: int = 2,
    side: float = 12.0,
    apart: float = 6.0,
    distance: float = 8.0,
) -> RetrievalSet:
    """Views of streets, rendered now or read from a folder that ``gloam town`` wrote.

    Args:
        folder: of a town; its mapping images are ``day``, its queries of their lists' conditions. Positives are views
            within ``distance`` metres and 40 degrees; clusters are blocks of ``side`` with gaps of ``apart`` metres.
        seeds: of streets to render instead; streets of other seeds share nothing.
        places, views_per_place: of each street; a place is a cluster.
        conditions: the views of a place have them by turns.
        size: width and height, pixels; look: of the streets.
        pairs_per_image: pairs that an image is the query of.

    Raises:
        UsageError: neither a folder nor seeds, or both.
        DataError: the folder holds no town.
    """
    if (folder is None) == (not seeds):
        raise UsageError("retrieval set of the town: give a folder, or the seeds of streets to render")
    if folder is None:
        return join_sets(
            [_street(seed, places, views_per_place, conditions, size, look, pairs_per_image) for seed in seeds]
        )
    root = Path(folder)
    for part in ("mapping", "query"):
        if not (root / part / "sensors" / "records_camera.txt").is_file():
            raise DataError(f"{root}: holds no town ({part}/sensors/records_camera.txt is missing); render one there")
    found = read_kapture(
        [root / "mapping", root / "query"],
        distance=distance,
        side=side,
        apart=apart,
        one_world=True,
        pairs_per_image=pairs_per_image,
    )
    labels = tuple(
        "day" if item.name.startswith("mapping/") else condition
        for item, condition in zip(found.images, found.conditions or ("unknown",) * len(found), strict=True)
    )
    return dataclasses.replace(found, conditions=labels)


def _street(
    seed: int,
    places: int,
    views: int,
    conditions: Sequence[str],
    size: tuple[int, int],
    look: int,
    pairs_per_image: int,
) -> RetrievalSet:
    rendered = render_training_views(seed, places, views, conditions, size, look)
    names = [
        f"street{seed}/place{place:04d}/{condition}-{row % views:02d}"
        for row, (place, condition) in enumerate(zip(rendered.places, rendered.conditions, strict=True))
    ]
    queries, positives = pairs_within(rendered.places, pairs_per_image, seed)
    return RetrievalSet(
        tuple(ImageItem(name, Path(name)) for name in names),
        np.asarray(rendered.places, np.int64),
        queries,
        positives,
        tuple(rendered.conditions),
        tuple(rendered.images),
    )
