"""A map on disk: what was written is read, and whatever is not what was written is named."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gloam.errors import GloamError, StoreError, UsageError
from gloam.files import sealed_json, sha256_file
from gloam.model_card import FeatureRule, Photometric
from gloam.runtime.localization.colmap import AbsolutePoseOptions, Triangulation
from gloam.runtime.localization.features.sources import ModelFeatures, SiftFeatures
from gloam.runtime.localization.maps.map_folder import (
    EmbedderRecord,
    ExtractorRecord,
    LocalizationMap,
    MatcherRecord,
    nearest_images,
    read_map,
    write_map,
)
from gloam.runtime.localization.maps.mapping import PairMatcher
from gloam.runtime.localization.matches.mutual import MutualMatcher
from gloam.runtime.localization.matches.stored import StoredMatches
from gloam.runtime.models.local_features import LocalExtractor, LocalFeatures, OrientedFeatures
from gloam.runtime.models.matcher import Matcher
from tests.damage import flip, named_or_harmless
from tests.runtime.localization.bright_points import BrightModel, NearestModel
from tests.runtime.localization.exact_world import CAMERA, MAP, POSES, Projected, scenes

RECORD = EmbedderRecord("s" * 64, "f" * 64, {"dtype": "float16", "max_side": 64})
OPTIONS = AbsolutePoseOptions(min_inliers=9)
RETRIEVAL = np.eye(4, 3, dtype=np.float32)


class Made(SiftFeatures):
    """SIFT of images that are not there."""

    def features(self, scene: Any, name: str) -> OrientedFeatures:
        rng, count = np.random.default_rng(ord(name[0])), 5 + ord(name[0]) % 7
        keypoints, scores, words, scales, angles = (
            rng.random((count, *more), np.float32) for more in ((2,), (), (128,), (), ())
        )
        return OrientedFeatures(keypoints * 400, scores, words, (640, 480), scales, angles, name="sift", origin=0.5)

    def key(self, scene: Any, name: str) -> str:
        return name


def made(tmp_path: Path) -> tuple[PairMatcher, Triangulation]:
    matcher = PairMatcher(Made(pixel_shift=0.5), *scenes(tmp_path), rule=MutualMatcher(0.7), seed=4)
    members = ["a.png", "c.png", "m.png"]  # b is retrieved, and no part of the map
    observed = {name: np.arange(len(matcher.features(name)), dtype=np.int64) % 6 - 1 for name in members}
    return matcher, Triangulation(np.arange(15.0).reshape(5, 3) / 7, observed, 0.25)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    matcher, world = made(tmp_path)
    write_map(tmp_path / "map", matcher, world, RETRIEVAL, RECORD, 3, OPTIONS)
    return tmp_path / "map"


def test_what_is_written_is_read(folder: Path, tmp_path: Path) -> None:
    matcher, world = made(tmp_path)
    for trust in (False, True):
        found = read_map(folder, trust=trust)
        card = found.card
        assert found.names == sorted(MAP)
        assert [image.pose for image in card.images] == [POSES[name] for name in sorted(MAP)]
        assert (card.cameras, card.embedder, card.pose, card.top_k, card.seed) == ((CAMERA,), RECORD, OPTIONS, 3, 4)
        assert (card.sift, card.extractor, card.matcher, card.ratio) == (SiftFeatures(pixel_shift=0.5), None, None, 0.7)
        assert (card.verify_queries, card.reprojection_error) == (True, 0.25)
        assert sorted(found.mapped) == sorted(world.observed)
        np.testing.assert_array_equal(found.arrays["points"], world.points)
        np.testing.assert_array_equal(found.arrays["retrieval"], RETRIEVAL)
        for name in world.observed:
            np.testing.assert_array_equal(found.observed(name), world.observed[name])
            own, expected = found.features(name), matcher.features(name)
            assert isinstance(own, OrientedFeatures)
            assert (own.size, own.name, own.origin) == ((640, 480), "sift", 0.5)
            for what in ("keypoints", "scores", "descriptors", "scales", "orientations"):
                np.testing.assert_array_equal(getattr(own, what), getattr(expected, what))
        with pytest.raises(ValueError, match="read-only"):
            found.arrays["points"][0] = 0
    assert b"pickle" not in b"".join(path.read_bytes() for path in folder.iterdir())


def test_the_same_map_has_the_same_bytes_and_takes_the_place_of_another(folder: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    matcher, world = made(tmp_path)
    (folder / "left.npy").write_bytes(b"of a run that was killed")
    write_map(folder, matcher, world, RETRIEVAL, RECORD, 3, OPTIONS)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    write_map(folder, matcher, world, RETRIEVAL * 2, RECORD, 5, OPTIONS)
    assert read_map(folder).card.top_k == 5
    np.testing.assert_array_equal(read_map(folder).arrays["retrieval"], RETRIEVAL * 2)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    matcher, world = made(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    (tmp_path / "mine" / "points.npy").write_bytes(b"of a map, or of mine")
    with pytest.raises(StoreError, match=r"mine: is not empty and holds no map; choose another folder"):
        write_map(tmp_path / "mine", matcher, world, RETRIEVAL, RECORD, 3, OPTIONS)
    with pytest.raises(StoreError, match=r"letter\.txt: is a file; choose a folder"):
        write_map(tmp_path / "mine" / "letter.txt", matcher, world, RETRIEVAL, RECORD, 3, OPTIONS)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


class MadeByModel(ModelFeatures):
    """A model's features of images that are not there."""

    def features(self, scene: Any, name: str) -> LocalFeatures:
        made = Made().features(scene, name)
        return LocalFeatures(made.keypoints, made.scores, made.descriptors[:, :8], made.size, name="bright", origin=0.5)

    def key(self, scene: Any, name: str) -> str:
        return name


@pytest.mark.parametrize("learned", [False, True])
def test_models_are_recorded(tmp_path: Path, learned: bool) -> None:
    model, network = BrightModel(), NearestModel()
    source = MadeByModel(LocalExtractor(model, 7, Photometric("clahe")), 0.5)  # type: ignore[arg-type]  # enough of one
    rule = Matcher(network, min_score=0.25) if learned else MutualMatcher()  # type: ignore[arg-type]  # as above
    matcher = PairMatcher(source, *scenes(tmp_path), rule=rule, verify_queries=False)
    observed = {name: np.full(len(matcher.features(name)), -1) for name in MAP}
    write_map(
        tmp_path / "map",
        matcher,
        Triangulation(np.zeros((0, 3)), observed, float("nan")),
        RETRIEVAL,
        RECORD,
        3,
        OPTIONS,
    )
    found = read_map(tmp_path / "map")
    card = found.card
    assert (card.sift, card.features, card.ratio) == (None, FeatureRule("bright", 8, origin=0.5), None)
    own = "bright", model.card.with_photometric(Photometric("clahe")).space(), "f"
    assert card.extractor == ExtractorRecord(*own, 7, Photometric("clahe"), 0.5)
    expected = MatcherRecord("bright", network.card.space(), "m", 0.25)
    assert card.matcher == (expected if learned else None)
    assert (card.verify_queries, card.reprojection_error, found.arrays["points"].shape) == (False, None, (0, 3))
    assert type(found.features("a.png")) is LocalFeatures


def test_features_that_no_new_image_has_are_refused(tmp_path: Path) -> None:
    matcher, world = PairMatcher(Projected(), *scenes(tmp_path)), made(tmp_path)[1]
    with pytest.raises(UsageError, match="features that a new image can have: --features sift, or an exported model"):
        write_map(tmp_path / "map", matcher, world, RETRIEVAL, RECORD, 3, OPTIONS)
    (tmp_path / "stored").mkdir()
    matcher = PairMatcher(Made(), *scenes(tmp_path), rule=StoredMatches(tmp_path / "stored"))
    with pytest.raises(UsageError, match="a matcher that a new image can have: 'mutual', or an exported model"):
        write_map(tmp_path / "map", matcher, world, RETRIEVAL, RECORD, 3, OPTIONS)
    assert not (tmp_path / "map").exists()


@pytest.mark.parametrize("name", ["map.json", "points.npy", "retrieval.npy", "descriptors.npy", "observed.npy"])
def test_damage_is_named(folder: Path, name: str) -> None:
    def read() -> list[Any]:
        found = read_map(folder)
        return [found.card, *(values.tolist() for values in found.arrays.values())]

    assert named_or_harmless(folder / name, read, 40) >= 39
    whole = (folder / name).read_bytes()
    for part in (whole[:-2], whole[:60], b""):
        (folder / name).write_bytes(part)
        with pytest.raises(StoreError, match=name):
            read_map(folder)
    (folder / name).unlink()
    with pytest.raises(StoreError, match=name):
        read_map(folder)


def changed(folder: Path, **values: Any) -> None:
    """Change the card, and seal it again."""
    path = folder / "map.json"
    path.write_bytes(sealed_json({**json.loads(path.read_text()), **values}))


def test_a_later_schema_is_said(folder: Path) -> None:
    changed(folder, schema=2)
    with pytest.raises(StoreError, match="a map of schema 2, this gloam reads 1; write the map again"):
        read_map(folder)


def test_arrays_that_do_not_belong_together_are_refused(folder: Path) -> None:
    found: LocalizationMap = read_map(folder)
    sums, rows = found.card.sha256, len(found.arrays["observed"])
    kept = {name: np.array(values) for name, values in found.arrays.items()}
    for name, wrong in (
        ("observed", np.full(rows, 5, np.int64)),
        ("observed", np.full(rows, -2, np.int64)),
        ("keypoints", kept["keypoints"][1:]),
        ("descriptors", kept["descriptors"].astype(np.float64)),
        ("points", kept["points"][:, :2]),
        ("retrieval", kept["retrieval"][:3]),
    ):
        path = folder / f"{name}.npy"
        whole = path.read_bytes()
        np.save(path, wrong)
        changed(folder, sha256={**sums, name: sha256_file(path)})
        with pytest.raises(GloamError, match=rf"{name}\.npy: .*; write the map again"):
            read_map(folder)
        path.write_bytes(whole)
    for name, stated in (
        ("scales", {name: value for name, value in sums.items() if name != "scales"}),
        ("../x", {**sums, "../x": "0" * 64}),
    ):
        changed(folder, sha256=stated)
        with pytest.raises(StoreError, match=rf"map\.json: damaged \('{re.escape(name)}' is stated, or missing\)"):
            read_map(folder)


def test_without_checksums_a_flipped_bit_passes(folder: Path) -> None:
    flip(folder / "descriptors.npy")
    read_map(folder, trust=True)
    with pytest.raises(StoreError, match=r"descriptors\.npy: damaged, its checksum differs"):
        read_map(folder)


def test_the_nearest_come_first_and_ties_keep_the_order() -> None:
    matrix = np.float32([[1, 0], [0, 1], [1, 0], [0.6, 0.8]])
    query = np.float32([0.8, 0.6])
    assert nearest_images(query, matrix, list("abcd"), 3) == ["d", "a", "c"]
    assert nearest_images(query, matrix, list("abcd"), 3, but="a") == ["d", "c", "b"]
    assert nearest_images(query, matrix, list("abcd"), 9, but="d") == ["a", "c", "b"]
