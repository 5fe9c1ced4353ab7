"""Test regions and the gap around them: no training image is near a test image, whatever the regions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gloam.data.weak_pairs.split import PARTS, Region, block_regions, distances, read_regions, split
from gloam.errors import DataError, UsageError

OXFORD = np.array([620_000.0, 5_735_000.0])
SQUARE = Region(rectangle=(0.0, 0.0, 10.0, 10.0))
CORNER = Region(polygon=((20.0, 0.0), (40.0, 0.0), (40.0, 20.0), (30.0, 20.0), (30.0, 10.0), (20.0, 10.0)))


def test_distances_to_a_polygon() -> None:
    points = np.array([(35.0, 15.0), (25.0, 15.0), (20.0, 0.0), (30.0, 15.0), (43.0, 24.0), (10.0, 5.0), (25.0, 5.0)])
    np.testing.assert_allclose(distances(points, CORNER.corners), [0, 5, 0, 0, 5, 10, 0], atol=1e-12)
    np.testing.assert_allclose(distances(points, CORNER.corners[::-1]), [0, 5, 0, 0, 5, 10, 0], atol=1e-12)


def test_the_gap_is_in_no_part() -> None:
    points = np.array([(5.0, 5.0), (10.0, 10.0), (10.1, 5.0), (35.0, 5.0), (35.1, 5.0), (-17.0, -17.0)])
    assert [PARTS[part] for part in split(points, [SQUARE], 25.0)] == ["test", "test", "gap", "gap", "train", "gap"]
    assert [PARTS[part] for part in split(points, [SQUARE], 0.0)] == [
        "test",
        "test",
        "train",
        "train",
        "train",
        "train",
    ]


def least_between(points: np.ndarray, parts: np.ndarray) -> float:
    train, test = points[parts == 0], points[parts == 1]
    return (
        float(np.sqrt(((train[:, None] - test[None]) ** 2).sum(axis=2)).min()) if len(train) and len(test) else np.inf
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 60.0))
def test_no_training_image_lies_within_the_gap_of_a_test_image(seed: int, gap: float) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 200, (300, 2)) + OXFORD
    angles = np.sort(rng.uniform(0, 2 * np.pi, 7))
    star = rng.uniform(5, 60, (7, 1)) * np.stack([np.cos(angles), np.sin(angles)], axis=1) + points[0]
    low, high = np.sort(rng.uniform(0, 200, (2, 2)), axis=0) + OXFORD
    regions = [Region(polygon=tuple(map(tuple, star.tolist()))), Region(rectangle=(*low.tolist(), *high.tolist()))]
    assert least_between(points, split(points, regions, gap)) > gap
    drawn = block_regions(points, 40.0, 0.3, seed)
    assert least_between(points, split(points, drawn.test, gap)) > gap


def test_blocks_hold_their_share_and_are_drawn_by_the_seed() -> None:
    points = np.random.default_rng(0).uniform(0, 1000, (2000, 2))
    drawn = block_regions(points, 100.0, 0.2, 3)
    share = (split(points, drawn.test, 0.0) == 1).mean()
    assert 0.2 <= share < 0.22
    assert block_regions(points, 100.0, 0.2, 3) == drawn != block_regions(points, 100.0, 0.2, 4)
    with pytest.raises(DataError, match="all 2000 images lie in one block of 5000 m"):
        block_regions(points, 5000.0, 0.2)
    assert len(block_regions(points, 600.0, 0.999).test) == 3  # one of four stays for training


def test_regions_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "regions.yaml"
    path.write_text("test:\n- rectangle: [0, 0, 10, 10]\n- polygon: [[20, 0], [40, 0], [40, 20]]\n")
    found = read_regions(path)
    assert found.test[0] == SQUARE
    (tmp_path / "regions.json").write_bytes(b'\xef\xbb\xbf{"test": [{"rectangle": [0, 0, 10, 10]}]}\r\n')
    assert read_regions(tmp_path / "regions.json").test == (SQUARE,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("test: []\n", "regions.yaml: names no test regions"),
        ("tests: []\n", "regions.yaml: unknown key 'tests'; did you mean 'test'"),
        ("test: [{rectangle: [0, 0, 10]}]\n", "regions.yaml: a rectangle of 3 numbers"),
        ("test: [{rectangle: [0, 0, 10, .nan]}]\n", "regions.yaml: .*not finite"),
        ("test: [{rectangle: [0, 0, 10, 0]}]\n", "regions.yaml: a region without an area"),
        (
            "test: [{polygon: [[620000.1, 5735000.1], [620001.2, 5735001.2], [620002.3, 5735002.3]]}]\n",
            "a region without an area",
        ),
        ("test: [{polygon: [[0, 0], [1, 1]]}]\n", "regions.yaml: a region without an area"),
        ("test: [{polygon: [[0, 0], [1, 1, 1]]}]\n", "regions.yaml: test: .*must have 2 values"),
        ("test: [{}]\n", "regions.yaml: a region is a rectangle or a polygon"),
        ("test: [{rectangle: [a, 0, 1, 1]}]\n", "regions.yaml: test"),
        ("- 1\n", "regions.yaml: expected keys and values"),
    ],
)
def test_regions_that_are_none_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "regions.yaml").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_regions(tmp_path / "regions.yaml")
