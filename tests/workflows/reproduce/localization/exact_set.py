"""The made-up world as a benchmark: exact features, four map images, a query by night."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from gloam.data.localization_sets.dataset import LocalizationSet
from gloam.data.scene import Record, Scene
from gloam.eval.localization.benchmark import Descriptors
from gloam.runtime.localization.matches.mutual import MutualMatcher
from gloam.runtime.models.local_features import LocalFeatures
from gloam.workflows.reproduce.localization.protocol import Protocol, SetLocalizer
from tests.runtime.localization import exact_world


class Dark(exact_world.Projected):
    """An image that nothing is seen in beside the others."""

    def features(self, scene: Scene, name: str) -> LocalFeatures:
        if name != "lost.png":
            return super().features(scene, name)
        none = np.zeros((0, 2), np.float32)
        return LocalFeatures(none, none[:, 0], np.zeros((0, 32), np.float32), (640, 480), name="projected")


def exact_set(root: Path) -> LocalizationSet:
    """Aachen's conditions and names, in a world of five images."""
    mapping, query = exact_world.scenes(root)
    query = dataclasses.replace(query, records={"q.png": Record("c", 9), "lost.png": Record("c", 10)})
    conditions = {"day": ["lost.png"], "night": ["q.png"]}
    return LocalizationSet("aachen-v1.1", root, mapping, query, conditions, ("day",), ("night",), "aachen")


def localizer(root: Path, **options: object) -> SetLocalizer:
    """With exact features; what is kept lies below ``root``."""
    protocol = Protocol(**{"top_k": 4, "workers": 1, **options})  # type: ignore[arg-type]  # mixed
    return SetLocalizer(exact_set(root), Dark(), MutualMatcher(), protocol, root / "workspace")


def descriptors(order: str = "mabc") -> Descriptors:
    """Of which the map images are nearest to the query in this order; the other query is like none."""
    rows = {f"{name}.png": np.array([np.cos(0.1 * n), np.sin(0.1 * n), 0], np.float32) for n, name in enumerate(order)}
    rows |= {"q.png": np.float32([1, 0, 0]), "lost.png": np.float32([0, 0, 1])}
    return Descriptors(rows)
