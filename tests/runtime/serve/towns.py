"""A small town with a saved map, to be served."""

from __future__ import annotations

from pathlib import Path

from gloam.data.scene import Scene
from gloam.data.sources import find_images
from gloam.data.town import TownConfig, write_town
from gloam.eval.localization.localize import localize
from gloam.eval.localization.request import LocalizeRequest
from gloam.runtime.backends.placement import Placement
from gloam.runtime.bulk.extract import ExtractOptions, extract
from gloam.runtime.models.embedder import Embedder
from gloam.workflows.demo_embedder import SHIPPED

MODEL = SHIPPED[1]["trained"]
ONE = Placement(threads=1)


def write_served(folder: Path, config: TownConfig) -> Scene:
    """Write ``town`` and its ``map`` into a folder; the queries come back."""
    town = write_town(folder / "town", config)
    embedder = Embedder.load(MODEL, ONE)
    for part in ("query", "mapping"):
        extract(find_images(folder / "town" / part), embedder, folder / part, ExtractOptions(dtype="float32"))
    localize(
        LocalizeRequest(
            town.mapping.root,
            town.query.root,
            folder / "poses",
            stores=[folder / "query", folder / "mapping"],
            top_k=4,
            max_keypoints=600,
            pixel_shift=0.5,
            workers=1,
            save_map=folder / "map",
        )
    )
    return town.query
