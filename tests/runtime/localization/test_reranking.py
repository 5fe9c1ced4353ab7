"""Retrieved images by verified matches: as a plain loop counts them, whatever is left of a query's matches."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from gloam.data.scene import Scene
from gloam.runtime.localization.colmap import verify_matches
from gloam.runtime.localization.maps.mapping import PairMatcher
from gloam.runtime.localization.matches.mutual import match_mutual
from gloam.runtime.localization.reranking import rerank
from gloam.runtime.models.local_features import LocalFeatures
from tests.runtime.localization.exact_world import CAMERA, MAP, Projected, scenes

WRONG = {"m.png": 0.7, "a.png": 0.0, "b.png": 0.3, "c.png": 1.0}  # share of keypoints that lie elsewhere


class PartlyWrong(Projected):
    """The made-up world where some keypoints of the map's images are not where they should be."""

    def features(self, scene: Scene, name: str) -> LocalFeatures:
        found = super().features(scene, name)
        moved = found.keypoints.copy()
        draw = np.random.default_rng(ord(name[0]))
        rows = draw.choice(len(moved), round(WRONG.get(name, 0.0) * len(moved)), replace=False)
        moved[rows] = draw.uniform([0, 0], [640, 480], (len(rows), 2))
        return dataclasses.replace(found, keypoints=moved)


def counted(query: str, image: str) -> int:
    """The plain twin."""
    first, second = sorted((query, image))
    a, b = (PartlyWrong().features(Scene(Path("nowhere")), name) for name in (first, second))
    raw = match_mutual(a.descriptors, b.descriptors)
    return len(verify_matches(CAMERA, a.keypoints, CAMERA, b.keypoints, raw, 3))


@pytest.mark.parametrize("verified", [True, False], ids=["verified", "raw"])
def test_images_come_by_verified_matches(tmp_path: Path, verified: bool) -> None:
    given = PairMatcher(PartlyWrong(), *scenes(tmp_path), seed=3, verify_queries=verified)
    twin = {name: counted("q.png", name) for name in MAP}
    assert twin["a.png"] > twin["b.png"] > twin["m.png"] > twin["c.png"]
    with ThreadPoolExecutor(2) as pool:
        found = rerank(given, {"q.png": [*MAP, "m.png"], "r.png": []}, 9, pool)
        assert found == {"q.png": [(name, twin[name]) for name in ("a.png", "b.png", "m.png", "c.png")], "r.png": []}
        assert rerank(given, {"q.png": MAP}, 2, pool) == {"q.png": found["q.png"][:2]}
        assert given.count_verified("a.png", "q.png") == given.count_verified("q.png", "a.png") == twin["a.png"]
        assert given.count_verified("b.png", "a.png") == len(given.matches("a.png", "b.png"))  # by their known poses


def test_images_of_as_many_matches_stay_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = PairMatcher(Projected(), *scenes(tmp_path))
    monkeypatch.setattr(PairMatcher, "count_verified", lambda self, query, image: 7 if image == "b.png" else 5)
    with ThreadPoolExecutor(1) as pool:
        found = rerank(given, {"q.png": ["c.png", "m.png", "b.png", "a.png"]}, 4, pool)
    assert [name for name, _ in found["q.png"]] == ["b.png", "c.png", "m.png", "a.png"]
