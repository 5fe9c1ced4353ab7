"""SIFT keypoints lie where the stored pixels are, at every scale; keys change with all that features depend on."""

from __future__ import annotations

import dataclasses
import math
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
from gloam.runtime.localization.features import sources as features
from gloam.runtime.localization.features.sources import STEP, KaptureFeatures, SiftFeatures

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


def plain_sift(picture: np.ndarray, source: SiftFeatures) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints and root descriptors by the book, without a limit of the number, strongest first."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    rows, columns = height, width
    if source.max_side is not None and source.max_side < max(height, width):
        rows, columns = (round(side * source.max_side / max(height, width)) for side in (height, width))
        grey = cv2.resize(grey, (columns, rows), interpolation=cv2.INTER_AREA)
    with plain_opencv():
        sift = cv2.SIFT.create(contrastThreshold=source.contrast_threshold, enable_precise_upscale=True)
        points, raw = sift.detectAndCompute(grey, None)
    order = sorted(range(len(points)), key=lambda row: -points[row].response)
    places, descriptors = [], []
    for row in order:
        x, y = points[row].pt
        places.append(((x + 0.5) * width / columns - 0.5, (y + 0.5) * height / rows - 0.5))
        descriptors.append([math.sqrt(value / sum(raw[row])) for value in raw[row]])
    return np.array(places) + source.pixel_shift, np.array(descriptors)


@pytest.mark.parametrize(
    ("size", "source"),
    [
        ((400, 100), SiftFeatures(max_side=150)),  # 37.5 rows become 38: the axes differ
        ((400, 100), SiftFeatures(max_side=400)),
        ((400, 100), SiftFeatures(max_side=5000)),
        ((101, 301), SiftFeatures(max_side=200, pixel_shift=0.5)),
        ((301, 101), SiftFeatures(max_side=300, pixel_shift=-0.25)),
        ((97, 203), SiftFeatures(max_side=None, pixel_shift=-0.5)),
        ((203, 97), SiftFeatures(contrast_threshold=0.06)),
        ((640, 480), SiftFeatures(max_side=333, contrast_threshold=0.04)),
    ],
    ids=lambda value: "x".join(map(str, value)) if isinstance(value, tuple) else f"max side {value.max_side}",
)
def test_features_equal_the_plain_twin(tmp_path: Path, size: tuple[int, int], source: SiftFeatures) -> None:
    picture = blobs(*size)
    found = source.features(scene(tmp_path, picture), "a.png")
    places, descriptors = plain_sift(picture, source)
    assert len(places) > 10
    np.testing.assert_allclose(found.keypoints, places, atol=1e-3)
    np.testing.assert_allclose(found.descriptors, descriptors, atol=STEP / 2 + 1e-6)
    assert (found.keypoints.dtype, found.descriptors.dtype) == (np.float32, np.float32)
    np.testing.assert_array_equal(found.descriptors / STEP, np.round(found.descriptors / STEP))


def test_a_keypoint_lies_where_the_blob_is(tmp_path: Path) -> None:
    """Pixel centres at integers, in every reduction."""
    picture = np.full((300, 500, 3), 60, np.uint8)
    cv2.circle(picture, (320, 90), 24, (255, 255, 255), -1, cv2.LINE_AA)
    given = scene(tmp_path, cv2.GaussianBlur(picture, (0, 0), 12))
    for side in (None, 250, 125):
        points = SiftFeatures(max_side=side).features(given, "a.png").keypoints
        assert len(points)
        assert np.abs(points - [320, 90]).max() < 0.15
        moved = SiftFeatures(max_side=side, pixel_shift=-0.5).features(given, "a.png").keypoints
        np.testing.assert_allclose(moved - points, -0.5, atol=1e-3)


def test_the_strongest_are_kept_and_descriptors_are_rooted(tmp_path: Path) -> None:
    given = scene(tmp_path, blobs())
    every, few = SiftFeatures().features(given, "a.png"), SiftFeatures(max_keypoints=10).features(given, "a.png")
    np.testing.assert_array_equal(few.keypoints, every.keypoints[:10])
    assert len(every.keypoints) > 20
    np.testing.assert_allclose(np.linalg.norm(every.descriptors, axis=1), 1, atol=2e-3)
    squares = every.descriptors.astype(np.float64) ** 2  # a root's squares are the histogram, which sums to 1
    np.testing.assert_allclose(squares.sum(axis=1), 1, atol=4e-3)  # but for the rounding
    assert np.median(squares.max(axis=1)) < 0.1


def test_ties_beyond_the_limit_are_cut(tmp_path: Path) -> None:
    given = scene(tmp_path, np.tile(blobs(128, 128), (2, 3, 1)))  # every blob inside a tile is there six times
    for limit in (1, 7, 50):
        found = SiftFeatures(max_keypoints=limit).features(given, "a.png")
        assert len(found.keypoints) == len(found.descriptors) == limit


@pytest.mark.parametrize("side", [None, 200])
def test_a_picture_without_texture_has_no_features(tmp_path: Path, side: int | None) -> None:
    given = scene(tmp_path, np.full((100, 400, 3), 9, np.uint8))
    found = SiftFeatures(max_side=side).features(given, "a.png")
    assert (found.keypoints.shape, found.descriptors.shape) == ((0, 2), (0, 128))
    assert (found.keypoints.dtype, found.descriptors.dtype) == (np.float32, np.float32)


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    given = scene(tmp_path, blobs())
    given.image_path("a.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"records_data/a\.png: not an image that can be decoded$"):
        SiftFeatures().features(given, "a.png")


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


SIFT_KEY = "55fd48b7cdf6c8b5042671036e2622f59680b223451b8ec29a8c0cba2d0b246e"
KAPTURE_KEY = "75fd41f4387cec0bcf5af3017646a994fbc8eb191370e76764dc9ceff7d8c250"


def test_keys_of_kept_features_stay_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of given content: what an earlier run kept is found again, and anything left out would change it."""
    given = scene(tmp_path, blobs())
    given.image_path("a.png").write_bytes(b"picture")
    monkeypatch.setattr(cv2, "__version__", "1.2.3")
    source = SiftFeatures()
    assert source.key(given, "a.png") == SIFT_KEY
    monkeypatch.setattr(cv2, "__version__", "1.2.4")
    assert source.key(given, "a.png") != SIFT_KEY
    monkeypatch.setattr(cv2, "__version__", "1.2.3")
    monkeypatch.setattr(features, "STEP", STEP / 2)
    assert source.key(given, "a.png") != SIFT_KEY
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    stored = KaptureFeatures(reader(values[:, :2], values))
    assert stored.key(given, "any") == KAPTURE_KEY


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
    others.append(KaptureFeatures(SimpleNamespace(**vars(source.reader) | {"feature_type": "other"})))
    assert len({item.key(empty, "a") for item in (source, *others)}) == 4
    with pytest.raises(DataError, match="5 keypoints but 4 descriptors"):
        KaptureFeatures(reader(points, values[:4])).features(empty, "a")


def test_a_descriptor_of_zeros_stays_one(tmp_path: Path) -> None:
    values = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    found = KaptureFeatures(reader(np.ones((2, 2), np.float32), values)).features(Scene(tmp_path), "a")
    assert found.descriptors.tolist() == [[np.float32(0.6), np.float32(0.8)], [0, 0]]
    assert found.keypoints.flags.c_contiguous


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


def test_keypoints_of_a_real_photograph_do_not_turn(data_pack: Callable[[str], Path], tmp_path: Path) -> None:
    path = data_pack("maupertuis_colmap")
    photo = next(iter(sorted(path.rglob("*.jpg")) + sorted(path.rglob("*.JPG"))))
    picture = np.asarray(Image.open(photo).convert("RGB"))
    source = SiftFeatures(max_keypoints=500, max_side=800)
    plain = source.features(scene(tmp_path / "a", picture), "a.png")
    turned = source.features(scene(tmp_path / "b", picture, orientation=6), "a.png")
    np.testing.assert_array_equal(turned.keypoints, plain.keypoints)
    assert plain.keypoints.max(axis=0).tolist() > [picture.shape[0], 0]
