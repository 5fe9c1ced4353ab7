"""SIFT keypoints lie where the stored pixels are, at every scale; keys change with all that features depend on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from gloam.data.plain_opencv import plain_opencv
from gloam.data.scene import Camera, Record, Scene
from gloam.errors import DataError
from gloam.runtime.localization.features import STEP, KaptureFeatures, SiftFeatures

CAMERA = Camera("PINHOLE", 400, 100, (300.0, 300.0, 200.0, 50.0))


def blobs(width: int = 400, height: int = 100, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 60, np.uint8)
    for _ in range(width // 8):
        x, y, r = rng.integers(0, width), rng.integers(0, height), rng.integers(3, 9)
        cv2.circle(picture, (int(x), int(y)), int(r), [int(v) for v in rng.integers(0, 255, 3)], -1)
    return picture


def scene(root: Path, picture: np.ndarray, name: str = "a.png", orientation: int = 1) -> Scene:
    exif = Image.Exif()
    exif[0x0112] = orientation
    made = Scene(root, {"c": CAMERA}, {name: Record("c", 0)})
    made.image_path(name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(made.image_path(name), exif=exif)
    return made


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_no_orientation_moves_a_keypoint(tmp_path: Path, orientation: int, suffix: str) -> None:
    picture = blobs()
    name = f"a.{suffix}"
    source = SiftFeatures()
    plain = source.features(scene(tmp_path / "plain", picture, name), name)
    turned = source.features(scene(tmp_path / "turned", picture, name, orientation), name)
    np.testing.assert_array_equal(turned.keypoints, plain.keypoints)
    np.testing.assert_array_equal(turned.descriptors, plain.descriptors)
    assert plain.keypoints[:, 0].max() > 300  # of a picture 400 wide and 100 high
    assert plain.keypoints[:, 1].max() < 100


def test_keypoints_of_a_reduced_picture_are_scaled_back_per_axis(tmp_path: Path) -> None:
    given = scene(tmp_path, blobs())
    grey = cv2.cvtColor(np.asarray(Image.open(given.image_path("a.png"))), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (150, 38), interpolation=cv2.INTER_AREA)  # 37.5 rows become 38: the axes differ
    found = SiftFeatures(max_side=150).features(given, "a.png").keypoints
    with plain_opencv():
        points, raw = cv2.SIFT.create(4096, contrastThreshold=0.02).detectAndCompute(small, None)
    order = np.argsort([-point.response for point in points], kind="stable")
    expected = (np.array([points[row].pt for row in order]) + 0.5) * [400 / 150, 100 / 38] - 0.5
    np.testing.assert_allclose(found, expected, atol=1e-3)
    rooted = np.sqrt(raw[order] / raw[order].sum(axis=1, keepdims=True))
    np.testing.assert_allclose(SiftFeatures(max_side=150).features(given, "a.png").descriptors, rooted, atol=STEP / 2)


def test_a_picture_of_the_largest_side_is_not_resized(tmp_path: Path) -> None:
    given = scene(tmp_path, blobs())
    native = SiftFeatures(max_side=None).features(given, "a.png")
    for side in (400, 5000):
        np.testing.assert_array_equal(SiftFeatures(max_side=side).features(given, "a.png").keypoints, native.keypoints)


def test_the_strongest_are_kept_and_descriptors_are_rooted(tmp_path: Path) -> None:
    given = scene(tmp_path, blobs())
    every, few = SiftFeatures().features(given, "a.png"), SiftFeatures(max_keypoints=10).features(given, "a.png")
    np.testing.assert_array_equal(few.keypoints, every.keypoints[:10])
    assert len(every.keypoints) > 20
    np.testing.assert_allclose(np.linalg.norm(every.descriptors, axis=1), 1, atol=2e-3)
    squares = every.descriptors.astype(np.float64) ** 2  # a root's squares are the histogram, which sums to 1
    np.testing.assert_allclose(squares.sum(axis=1), 1, atol=4e-3)  # but for the rounding
    assert np.median(squares.max(axis=1)) < 0.1


def test_the_pixel_shift_is_added_to_both_axes(tmp_path: Path) -> None:
    given = scene(tmp_path, blobs())
    for side in (150, None):
        plain = SiftFeatures(max_side=side).features(given, "a.png").keypoints
        moved = SiftFeatures(max_side=side, pixel_shift=0.5).features(given, "a.png").keypoints
        np.testing.assert_allclose(moved - plain, 0.5, atol=1e-3)


def test_a_picture_without_texture_has_no_features(tmp_path: Path) -> None:
    found = SiftFeatures().features(scene(tmp_path, np.full((100, 400, 3), 9, np.uint8)), "a.png")
    assert (found.keypoints.shape, found.descriptors.shape) == ((0, 2), (0, 128))


def test_the_key_changes_with_content_and_every_parameter(tmp_path: Path) -> None:
    given = scene(tmp_path / "one", blobs())
    base = SiftFeatures()
    changed = [{"max_keypoints": 9}, {"max_side": 99}, {"contrast_threshold": 0.5}, {"pixel_shift": 0.5}]
    keys = {dataclasses.replace(base, **item).key(given, "a.png") for item in changed}  # type: ignore[arg-type]  # mixed
    keys |= {base.key(given, "a.png"), base.key(scene(tmp_path / "two", blobs(seed=1)), "a.png")}
    assert len(keys) == 6
    assert base.key(given, "a.png") == SiftFeatures().key(scene(tmp_path / "same", blobs()), "a.png")
    with pytest.raises(DataError, match="the image is missing"):
        base.key(given, "b.png")


def reader(keypoints: np.ndarray, descriptors: np.ndarray) -> Any:
    return SimpleNamespace(keypoints=lambda name: keypoints, descriptors=lambda name: descriptors, feature_type="made")


def test_stored_features_are_normalised_and_keyed_by_both_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points, values = rng.normal(size=(5, 4)).astype(np.float32), 3 * rng.normal(size=(5, 8)).astype(np.float32)
    source, empty = KaptureFeatures(reader(points, values)), Scene(tmp_path)
    found = source.features(empty, "a")
    np.testing.assert_array_equal(found.keypoints, points[:, :2])
    np.testing.assert_allclose(found.descriptors * np.linalg.norm(values, axis=1)[:, None], values, rtol=1e-5)
    others = [KaptureFeatures(reader(points + 1, values)), KaptureFeatures(reader(points, values + 1))]
    assert len({item.key(empty, "a") for item in (source, *others)}) == 3
    with pytest.raises(DataError, match="5 keypoints but 4 descriptors"):
        KaptureFeatures(reader(points, values[:4])).features(empty, "a")


def test_keypoints_of_a_real_photograph_do_not_turn(data_pack: Callable[[str], Path], tmp_path: Path) -> None:
    path = data_pack("maupertuis_colmap")
    photo = next(iter(sorted(path.rglob("*.jpg")) + sorted(path.rglob("*.JPG"))))
    picture = np.asarray(Image.open(photo).convert("RGB"))
    source = SiftFeatures(max_keypoints=500, max_side=800)
    plain = source.features(scene(tmp_path / "a", picture), "a.png")
    turned = source.features(scene(tmp_path / "b", picture, orientation=6), "a.png")
    np.testing.assert_array_equal(turned.keypoints, plain.keypoints)
    assert plain.keypoints.max(axis=0).tolist() > [picture.shape[0], 0]
