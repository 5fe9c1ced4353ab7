"""Features of an exported model: where they lie, whose they are, and what they are kept by."""

from __future__ import annotations

import dataclasses
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from gloam.data.photometric import apply_photometric
from gloam.data.scene import Camera, Record, Scene
from gloam.errors import DataError, ImageError, IncompatibleError, ModelError, UsageError
from gloam.model_card import FeatureRule, InputRule, KeypointRule, Photometric
from gloam.runtime.localization.features.sources import (
    KaptureFeatures,
    ModelFeatures,
    OwnFeatures,
    SiftFeatures,
    from_arrays,
    pixel_origin,
    to_arrays,
)
from gloam.runtime.localization.maps.mapping import PairMatcher
from gloam.runtime.models.local_features import LocalExtractor, LocalFeatures, OrientedFeatures
from tests.runtime.localization.bright_points import COUNT, DIMENSION, BrightModel

CAMERA = Camera("PINHOLE", 80, 48, (90.0, 90.0, 40.0, 24.0))
POINTS = [(70, 5), (3, 40), (33, 21)]  # x, y, the brightest first


def picture(points: list[tuple[int, int]] = POINTS) -> np.ndarray:
    made = np.full((CAMERA.height, CAMERA.width, 3), 20, np.uint8)
    for row, (x, y) in enumerate(points):
        made[y, x] = 250 - 10 * row
    return made


def dim() -> np.ndarray:
    """Dark blobs that SIFT sees some of."""
    made = np.full((CAMERA.height, CAMERA.width, 3), 20, np.uint8)
    for row, (x, y) in enumerate([(15, 12), (40, 30), (62, 14), (20, 36), (66, 38)]):
        cv2.circle(made, (x, y), 3 + row % 3, (30 + 9 * row,) * 3, -1)
    return made


def scene(root: Path, pixels: np.ndarray | None = None, orientation: int = 1) -> Scene:
    exif = Image.Exif()
    exif[0x0112] = orientation
    made = Scene(root, {"c": CAMERA}, {"a.png": Record("c", 0)})
    made.image_path("a.png").parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture() if pixels is None else pixels).save(made.image_path("a.png"), exif=exif)
    return made


def source(strongest: int | None = None, pixel_origin: float = 0.0, **more: Any) -> ModelFeatures:
    return ModelFeatures(LocalExtractor(BrightModel(**more), strongest), pixel_origin)  # type: ignore[arg-type]  # as much as is needed of one


@pytest.mark.parametrize("orientation", range(1, 9))
def test_keypoints_lie_on_the_stored_pixels_whatever_the_orientation(tmp_path: Path, orientation: int) -> None:
    found = source().features(scene(tmp_path, orientation=orientation), "a.png")
    assert found.keypoints.tolist() == [list(point) for point in POINTS]
    assert (found.size, found.name, found.origin, found.scores.tolist()) == ((80, 48), "bright", 0.0, [250, 240, 230])


@pytest.mark.parametrize(("model", "intrinsics"), [(0.0, 0.5), (0.5, 0.5), (0.5, 0.0), (0.0, 0.0)])
def test_keypoints_are_brought_to_the_origin_of_the_intrinsics(tmp_path: Path, model: float, intrinsics: float) -> None:
    given = source(pixel_origin=intrinsics, keypoints=KeypointRule(COUNT, origin=model))
    found = given.features(scene(tmp_path), "a.png")
    np.testing.assert_array_equal(found.keypoints, np.float32(POINTS) + np.float32(intrinsics - model))
    assert found.origin == given.gives.origin == intrinsics
    assert given.gives == FeatureRule("bright", DIMENSION, False, intrinsics)


def cameras(*given: tuple[str, int, int, tuple[float, ...]]) -> list[Camera]:
    return [Camera(*one) for one in given]


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        (cameras(("PINHOLE", 80, 48, (9, 9, 40, 24))), 0.5),
        (cameras(("PINHOLE", 80, 48, (9, 9, 39.5, 23.5))), 0.0),
        (cameras(("SIMPLE_RADIAL", 81, 47, (9, 40.5, 23.5, 0.1))), 0.5),
        (cameras(("SIMPLE_PINHOLE", 80, 48, (40, 39.5, 23.5))), 0.0),
        (cameras(("RADIAL", 80, 48, (9, 40, 24, 0, 0))), 0.5),
        (cameras(("OPENCV", 80, 48, (9, 9, 40, 24, 0, 0, 0, 0))), 0.5),
        (cameras(("PINHOLE", 80, 48, (9, 9, 40, 23.5))), None),  # of two origins at once
        (cameras(("PINHOLE", 80, 48, (9, 9, 41.3, 22.8))), None),
        (cameras(("UNKNOWN_CAMERA", 80, 48, ())), None),
        ([], None),
        (cameras(("PINHOLE", 80, 48, (9, 9, 41.3, 22.8)), ("PINHOLE", 80, 48, (9, 9, 40, 24))), 0.5),
    ],
)
def test_a_principal_point_in_the_middle_tells_the_origin(given: list[Camera], origin: float | None) -> None:
    assert pixel_origin(given) == origin


def test_cameras_of_two_origins_are_refused() -> None:
    with pytest.raises(
        UsageError, match=r"^some cameras have .* say by --pixel-origin where the intrinsics count from$"
    ):
        pixel_origin(cameras(("PINHOLE", 80, 48, (9, 9, 40, 24)), ("PINHOLE", 80, 48, (9, 9, 39.5, 23.5))))


class Other(BrightModel):
    def __init__(self, **changed: Any) -> None:
        super().__init__()
        self.fingerprint = changed.pop("fingerprint", "f")
        self.backend = dataclasses.replace(self.backend, **changed)


def test_the_key_holds_the_model_what_runs_it_and_every_option(tmp_path: Path) -> None:
    given = scene(tmp_path / "a")
    options: list[dict[str, Any]] = [
        {"strongest": 2},
        {"photometric": Photometric("clahe")},
        {"photometric": Photometric("clahe", clip=2.0)},
        {"input_rule": InputRule(64)},
    ]
    changed: list[dict[str, Any]] = [{"fingerprint": "g"}, {"backend": "other"}, {"version": "2"}, {"device": "cuda"}]
    sources = [
        source(),
        source(pixel_origin=0.5),
        *(ModelFeatures(LocalExtractor(BrightModel(), **one)) for one in options),  # type: ignore[arg-type]  # as above
        *(ModelFeatures(LocalExtractor(Other(**one))) for one in changed),  # type: ignore[arg-type]  # as above
    ]
    keys = [one.key(given, "a.png") for one in sources]
    keys.append(source().key(scene(tmp_path / "b", picture(POINTS[:2])), "a.png"))
    assert len(set(keys)) == len(keys)
    assert source().key(scene(tmp_path / "same"), "a.png") == keys[0]
    given.image_path("a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png: the image is missing$"):
        source().key(given, "a.png")


def test_a_session_gets_as_many_images_at_once_as_it_takes(tmp_path: Path) -> None:
    class Busy(BrightModel):
        now, most = 0, 0

        def run(self, inputs: Any) -> Any:
            Busy.now += 1
            Busy.most = max(Busy.most, Busy.now)
            time.sleep(0.01)
            Busy.now -= 1
            return super().run(inputs)

    given, used = scene(tmp_path), ModelFeatures(LocalExtractor(Busy()))  # type: ignore[arg-type]  # as above
    threads = [threading.Thread(target=used.features, args=(given, "a.png")) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Busy.most == 1


def test_bad_models_and_pictures_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^bright: its local features are for ASMK and have no keypoints to pose by;"):
        source(keypoints=None)
    given = scene(tmp_path)

    class Full(BrightModel):
        def run(self, inputs: Any) -> Any:
            raise ImageError("does not fit into memory")

    with pytest.raises(DataError, match=r"records_data/a\.png: does not fit into memory$"):
        ModelFeatures(LocalExtractor(Full())).features(given, "a.png")  # type: ignore[arg-type]  # as above
    given.image_path("a.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"a\.png: not an image that can be decoded$"):
        source().features(given, "a.png")


def test_an_image_of_another_size_than_its_camera_is_refused_before_the_model_runs(tmp_path: Path) -> None:
    class Never(BrightModel):
        def run(self, inputs: Any) -> Any:
            raise AssertionError

    given = scene(tmp_path, np.zeros((48, 81, 3), np.uint8))
    matcher = PairMatcher(ModelFeatures(LocalExtractor(Never())), given, given)  # type: ignore[arg-type]  # as above
    with pytest.raises(DataError, match=r"a\.png: the image is 81x48 but its camera in sensors\.txt is 80x48"):
        matcher.features("a.png")


@pytest.mark.parametrize("kind", ["plain", "oriented", "none"])
def test_what_is_kept_is_what_was_found(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = scene(tmp_path, {"plain": picture(), "none": picture([]), "oriented": dim()}[kind])
    used = SiftFeatures(contrast_threshold=0.001) if kind == "oriented" else source(pixel_origin=0.5)
    first = PairMatcher(used, given, given, cache=tmp_path / "cache").features("a.png")
    assert len(first) > 0 or kind == "none"
    monkeypatch.setattr(type(used), "features", None)
    again = PairMatcher(used, given, given, cache=tmp_path / "cache").features("a.png")
    assert type(again) is type(first) is (OrientedFeatures if kind == "oriented" else LocalFeatures)
    for what, value in vars(first).items():
        np.testing.assert_array_equal(getattr(again, what), value)
        assert type(getattr(again, what)) is type(value)
        assert np.asarray(getattr(again, what)).dtype == np.asarray(value).dtype
    with pytest.raises(KeyError):
        from_arrays({what: value for what, value in to_arrays(first).items() if what != "scores"})


def test_sift_has_sizes_and_directions_of_the_picture_as_stored(tmp_path: Path) -> None:
    wave = np.sin(np.arange(480) / 9.0)[None] * np.cos(np.arange(288) / 7.0)[:, None]
    large = scene(tmp_path, np.repeat((wave * 100 + 120).astype(np.uint8)[..., None], 3, 2))
    whole, half = (SiftFeatures(max_side=side).features(large, "a.png") for side in (480, 240))
    assert isinstance(whole, OrientedFeatures)
    assert isinstance(half, OrientedFeatures)
    assert (whole.name, whole.size, half.size) == ("sift", (480, 288), (480, 288))
    assert len(whole) == len(whole.scales) == len(whole.orientations) == len(whole.scores) > 10
    assert np.median(half.scales) / np.median(whole.scales) == pytest.approx(1, abs=0.35)
    assert 3.3 < whole.orientations.max() <= 2 * np.pi + 1e-3  # radians of a whole turn
    assert (np.diff(whole.scores) <= 0).all()


def test_sift_on_a_picture_whose_light_is_normalised(tmp_path: Path) -> None:
    given, light = scene(tmp_path / "a", dim()), Photometric("clahe", clip=8.0)
    plain, lit, less = SiftFeatures(), SiftFeatures(photometric=light), SiftFeatures(photometric=Photometric("clahe"))
    found = lit.features(given, "a.png")
    expected = plain.features(scene(tmp_path / "b", apply_photometric(dim(), light)), "a.png")
    np.testing.assert_array_equal(found.descriptors, expected.descriptors)
    assert not np.array_equal(found.descriptors, plain.features(given, "a.png").descriptors)
    assert len({each.key(given, "a.png") for each in (plain, lit, less)}) == 3


def stored(dimension: int, kind: str = "bright") -> Any:
    values = np.eye(dimension, dtype=np.float32)
    return SimpleNamespace(
        keypoints=lambda name: np.ones((dimension, 4), np.float32),
        descriptors=lambda name: values,
        feature_type=kind,
        dimension=dimension,
    )


def test_features_that_each_dataset_holds_are_read_there_and_are_of_one_length(tmp_path: Path) -> None:
    first, second = scene(tmp_path / "m"), scene(tmp_path / "q")
    used = OwnFeatures({first.root: stored(8), second.root: stored(8)})
    assert used.gives == KaptureFeatures(stored(8)).gives == FeatureRule("bright", 8)
    found = used.features(second, "a.png")
    assert (found.size, found.name, found.keypoints.shape) == ((80, 48), "bright", (8, 2))
    assert np.isnan(found.scores).all()
    assert used.key(first, "a.png") == KaptureFeatures(stored(8)).key(first, "a.png")
    message = rf"^{second.root}: descriptors 'bright' of 4 values, those of the map {first.root} have 8; extract both"
    with pytest.raises(IncompatibleError, match=message):
        OwnFeatures({first.root: stored(8), second.root: stored(4)})
