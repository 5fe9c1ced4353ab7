"""Stored features: hloc's are moved to the intrinsics' origin, and other image sets and matchers are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gloam.data.hloc_io import HlocFeatureFile, ImageFeatures, write_hloc_features
from gloam.data.scene import Camera, Record, Scene
from gloam.errors import DataError, IncompatibleError, UsageError
from gloam.model_card import FeatureRule
from gloam.runtime.localization.features.sources import KaptureFeatures
from gloam.runtime.localization.features.stored import HlocFeatures, expect_matched_by, named_for, open_stored
from gloam.runtime.models.matcher import Matcher
from tests.runtime.localization.bright_points import DIMENSION, NearestModel

CAMERA = Camera("PINHOLE", 80, 48, (90.0, 90.0, 40.0, 24.0))
KEYPOINTS = np.float32([[3, 4], [70.5, 40]])


def scene(root: Path, camera: Camera = CAMERA) -> Scene:
    return Scene(root, {"c": camera}, {"a.png": Record("c", 0)})


def written(
    path: Path, network: str = "bright", descriptors: np.ndarray | None = None, size: tuple[int, int] = (80, 48)
) -> HlocFeatureFile:
    described = 3 * np.eye(2, DIMENSION, dtype=np.float32) if descriptors is None else descriptors
    each = ImageFeatures(KEYPOINTS, described, np.float32([0.5, 0.25]), size)
    write_hloc_features(path, network, "", [("a.png", each)])
    return HlocFeatureFile(path)


def test_keypoints_are_moved_to_the_intrinsics_origin(tmp_path: Path) -> None:
    written(tmp_path / "f.h5")
    given = scene(tmp_path)
    source = open_stored(str(tmp_path / "f.h5"), [given])
    assert isinstance(source, HlocFeatures)
    assert source.gives == FeatureRule("bright", DIMENSION, False, 0.5)
    found = source.features(given, "a.png")
    np.testing.assert_array_equal(found.keypoints, KEYPOINTS + 0.5)
    np.testing.assert_array_equal(found.descriptors, np.eye(2, DIMENSION))
    assert (found.size, found.name, found.origin, found.scores.tolist()) == ((80, 48), "bright", 0.5, [0.5, 0.25])
    for origin in (0.0, None):  # principal points elsewhere tell nothing: kapture's 0
        camera = Camera("PINHOLE", 80, 48, (90.0, 90.0, 41.0, 24.0))
        there = open_stored(str(tmp_path / "f.h5"), [scene(tmp_path, camera)], origin)
        np.testing.assert_array_equal(there.features(given, "a.png").keypoints, KEYPOINTS)


def test_the_key_changes_with_all_that_features_depend_on(tmp_path: Path) -> None:
    given = scene(tmp_path)
    file = written(tmp_path / "f.h5")
    other = written(tmp_path / "g.h5", descriptors=2 * np.eye(2, DIMENSION, k=1, dtype=np.float32))
    larger = written(tmp_path / "h.h5", size=(81, 48))
    sources = [
        HlocFeatures(file, 0.0, "bright"),
        HlocFeatures(file, 0.5, "bright"),
        HlocFeatures(file, 0.0, ""),
        HlocFeatures(other, 0.0, "bright"),
        HlocFeatures(larger, 0.0, "bright"),
    ]
    assert len({source.key(given, "a.png") for source in sources}) == 5
    again = HlocFeatures(HlocFeatureFile(tmp_path / "f.h5"), 0.0, "bright")
    assert again.key(given, "a.png") == sources[0].key(given, "a.png")


def test_a_file_of_another_image_set_is_refused(tmp_path: Path) -> None:
    source = HlocFeatures(written(tmp_path / "f.h5"))
    larger = scene(tmp_path, Camera("PINHOLE", 160, 96, (90.0, 90.0, 80.0, 48.0)))
    with pytest.raises(DataError, match=r"image 'a\.png' is 80x48, but its camera in .* is 160x96; give the file"):
        source.features(larger, "a.png")
    with pytest.raises(DataError, match=r"has no features of image 'b\.png', but those of 'a\.png'"):
        source.features(larger, "b.png")
    unknown = Scene(tmp_path)  # without a dataset there is nothing to compare
    assert source.features(unknown, "a.png").size == (80, 48)


def test_features_of_a_stated_network_need_their_matcher(tmp_path: Path) -> None:
    matcher = Matcher(NearestModel())  # type: ignore[arg-type]  # as much as is needed
    named, unnamed, other = (
        HlocFeatures(file, 0.0, file.network)
        for file in (written(tmp_path / f"{row}.h5", name) for row, name in enumerate(("bright", "", "other")))
    )
    for source in (named, unnamed):
        expect_matched_by(matcher, source.gives, ("m.onnx", "f.h5"))
        assert named_for(matcher, source).gives.name == "bright"
        matcher(*[named_for(matcher, source).features(Scene(tmp_path), "a.png")] * 2)
    with pytest.raises(
        IncompatibleError,
        match=r"m\.onnx: is for bright features of 8 values, but f\.h5 has other features of 8; give a matcher",
    ):
        expect_matched_by(matcher, other.gives, ("m.onnx", "f.h5"))
    with pytest.raises(IncompatibleError, match="has unnamed features of 9"):
        expect_matched_by(matcher, FeatureRule("", 9), ("m.onnx", "f.h5"))
    assert named_for(matcher, other) is other


def test_what_is_named_tells_what_is_opened(tmp_path: Path) -> None:
    for kind, more in (("keypoints", "2"), ("descriptors", "4, k, L2")):
        for folder in (tmp_path / "alone" / kind, tmp_path / "set" / "reconstruction" / kind / "made"):
            folder.mkdir(parents=True)
            (folder / f"{kind}.txt").write_text(f"# kapture format: 1.1\nmade, float32, {more}\n")
    assert isinstance(open_stored(str(tmp_path / "alone"), []), KaptureFeatures)
    owned = open_stored("made", [scene(tmp_path / "set"), scene(tmp_path / "set")])
    assert owned.gives == FeatureRule("made", 4)
    with pytest.raises(UsageError, match=r"made: is no folder and no \.h5 file; of a type, give the datasets"):
        open_stored("made", [])
    with pytest.raises(DataError, match="need one type of keypoints, found none"):
        open_stored("other", [scene(tmp_path / "set")])
    with pytest.raises(DataError, match=r"missing\.h5: the HDF5 file cannot be read"):
        open_stored(str(tmp_path / "missing.h5"), [])
