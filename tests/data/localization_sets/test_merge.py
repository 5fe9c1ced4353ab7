"""Several datasets as one scene."""

from __future__ import annotations

from pathlib import Path

import pytest

from gloam.data.localization_sets.merge import merged
from gloam.data.scene import Camera, Pose, Record, Scene
from gloam.errors import DataError

SMALL, LARGE = (Camera("PINHOLE", side, side, (side, side, side / 2, side / 2)) for side in (32, 64))
HERE = Pose((1, 0, 0, 0), (0, 0, 0))


def scene(root: Path, name: str, camera: Camera, timestamp: int = 0) -> Scene:
    """One image of the sensor ``s``."""
    return Scene(root, {"s": camera}, {name: Record("s", timestamp)}, {name: HERE}, images=root / "images")


def test_sensors_that_agree_are_one(tmp_path: Path) -> None:
    """Images keep their folders, poses and times."""
    parts = {"one": scene(tmp_path / "1", "a.jpg", SMALL), "two": scene(tmp_path / "2", "b.jpg", SMALL, 1)}
    whole = merged(tmp_path, parts)
    assert whole.cameras == {"s": SMALL}
    assert whole.records == {"a.jpg": Record("s", 0), "b.jpg": Record("s", 1)}
    assert whole.poses.keys() == {"a.jpg", "b.jpg"}
    assert [whole.image_path(name).parent for name in whole.names] == [tmp_path / "1/images", tmp_path / "2/images"]


@pytest.mark.parametrize(("camera", "timestamp"), [(LARGE, 1), (SMALL, 0)])
def test_sensors_that_differ_take_their_part_s_name(tmp_path: Path, camera: Camera, timestamp: int) -> None:
    """Other intrinsics, or the same time: then no two images are of one sensor and time."""
    parts = {"one": scene(tmp_path / "1", "a.jpg", SMALL), "two": scene(tmp_path / "2", "b.jpg", camera, timestamp)}
    whole = merged(tmp_path, parts)
    assert whole.cameras == {"one/s": SMALL, "two/s": camera}
    assert len(set(whole.records.values())) == 2
    assert whole.camera("b.jpg") == camera


def test_an_image_in_two_parts(tmp_path: Path) -> None:
    """Both are named."""
    parts = {"one": scene(tmp_path / "1", "a.jpg", SMALL), "two": scene(tmp_path / "2", "a.jpg", SMALL)}
    with pytest.raises(DataError, match=r"image 'a\.jpg' is in one and in two; remove one of the two"):
        merged(tmp_path, parts)
