"""SIFT of a COLMAP database: keypoints, shapes and descriptors of each image, or what is wrong with them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from gloam.data.scene import Scene
from gloam.errors import DataError
from gloam.runtime.localization.features.database import DatabaseFeatures
from gloam.runtime.models.local_features import OrientedFeatures
from tests.runtime.localization.colmap_files import write_database
from tests.runtime.localization.exact_world import POINTS, POSES, project, scenes, seen


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return scenes(tmp_path)[0]


@pytest.mark.parametrize(("columns", "scale", "turn"), [(2, 0.0, 0.0), (4, 2.0, 0.5), (6, 5.0, np.arctan2(4, 3))])
def test_rows_are_features_of_unit_length(
    tmp_path: Path, scene: Scene, columns: int, scale: float, turn: float
) -> None:
    source = DatabaseFeatures(write_database(tmp_path / "d.db", ["a.png", "b.png"], columns))
    before = source.path.read_bytes()
    found = source.features(scene, "b.png")
    assert isinstance(found, OrientedFeatures)
    np.testing.assert_allclose(found.keypoints, project(POSES["b.png"], POINTS[seen("b.png")]), atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found.scales, scale)
    np.testing.assert_allclose(found.orientations, turn, rtol=1e-6)
    assert (found.size, found.name, found.origin) == ((640, 480), "sift", 0.5)
    assert (source.gives.name, source.gives.dimension, source.gives.oriented) == ("sift", 128, True)
    with sqlite3.connect(source.path) as database:
        (stored,) = database.execute("SELECT data FROM descriptors WHERE image_id = 2").fetchone()
    database.close()
    stored = np.frombuffer(stored, np.uint8).reshape(-1, 128).astype(float)
    cosine = (found.descriptors * stored).sum(1) / np.linalg.norm(stored, axis=1)
    np.testing.assert_allclose(cosine, 1, atol=1e-6)
    assert source.key(scene, "a.png") != source.key(scene, "b.png")
    assert source.path.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("DELETE FROM descriptors WHERE image_id = 1", "image 'a.png' has no keypoints and descriptors; extract"),
        ("DELETE FROM images WHERE image_id = 1", "image 'a.png' has no keypoints and descriptors; extract"),
        ("UPDATE keypoints SET data = x'00'", "keypoints of image 'a.png' are damaged"),
        ("UPDATE keypoints SET cols = 5", "keypoints of image 'a.png' are damaged"),
        (
            "UPDATE descriptors SET cols = 64, rows = 2 * rows",
            "descriptors of image 'a.png' are not 128 bytes for each",
        ),
        ("UPDATE descriptors SET data = x'00'", "descriptors of image 'a.png' are not 128 bytes for each"),
        ("UPDATE keypoints SET data = zeroblob(4 * cols), rows = 1", "are not 128 bytes for each of 1 keypoints"),
        ("DROP TABLE keypoints", "is no COLMAP database that can be read (no such table: keypoints)"),
    ],
)
def test_what_is_no_sift_is_named(tmp_path: Path, scene: Scene, change: str, message: str) -> None:
    path = write_database(tmp_path / "d.db", ["a.png"])
    with sqlite3.connect(path) as database:
        database.execute(change)
    database.close()
    with pytest.raises(DataError) as caught:
        DatabaseFeatures(path).features(scene, "a.png")
    assert str(caught.value).startswith(f"{path}: {message}" if message[:2] != "ar" else f"{path}: ")
    assert message in str(caught.value)


def test_a_file_that_is_no_database_is_named(tmp_path: Path, scene: Scene) -> None:
    (tmp_path / "d.db").write_bytes(b"no database" * 99)
    for path in (tmp_path / "d.db", tmp_path / "none.db"):
        with pytest.raises(DataError, match=rf"^{path}: is no COLMAP database that can be read"):
            DatabaseFeatures(path).features(scene, "a.png")
    assert not (tmp_path / "none.db").exists()


def test_an_image_without_a_keypoint_has_none(tmp_path: Path, scene: Scene) -> None:
    path = write_database(tmp_path / "d.db", ["a.png"])
    with sqlite3.connect(path) as database:
        database.execute("UPDATE keypoints SET rows = 0, data = NULL")
        database.execute("UPDATE descriptors SET rows = 0, cols = 0, data = NULL")
    database.close()
    found = DatabaseFeatures(path).features(scene, "a.png")
    assert (found.keypoints.shape, found.descriptors.shape) == ((0, 2), (0, 128))
