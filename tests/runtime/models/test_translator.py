"""Translators give back images of the same sizes, whatever the padding, and say who they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from gloam.errors import ImageError, ModelError, UsageError
from gloam.padding import PaddingProfile
from gloam.runtime.backends.ort import OrtSession
from gloam.runtime.backends.placement import Placement
from gloam.runtime.backends.selftest import run_selftest
from gloam.runtime.models.edge_detector import EdgeDetector
from gloam.runtime.models.translator import Translator, load_translator
from tests.tiny_models import write_tiny_embedder
from tests.tiny_translators import write_tiny_translator

SIZES = [(1, 1), (3, 70), (64, 96), (33, 35), (64, 96), (255, 17)]
PROFILES = {"dynamic": PaddingProfile.dynamic(), "fixed": PaddingProfile.fixed((256,), (256,), batch=(1, 2))}


def images(channels: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, channels), dtype=np.uint8) for size in SIZES]


@pytest.mark.parametrize("profile", PROFILES)
def test_an_inversion_is_exact_at_every_size(tmp_path: Path, profile: str) -> None:
    write_tiny_translator(tmp_path / "m.onnx", PROFILES[profile])
    translator = Translator.load(tmp_path / "m.onnx", Placement(threads=1))
    for image, found in zip(images(), translator(images()), strict=True):
        np.testing.assert_array_equal(found, 255 - image)
    difference, tolerance = run_selftest(translator.session)
    assert difference <= tolerance


def test_batches_of_one_shape_are_cut_to_the_profile(tmp_path: Path) -> None:
    write_tiny_translator(tmp_path / "m.onnx", PROFILES["fixed"])
    translator = Translator.load(tmp_path / "m.onnx", Placement(threads=1))
    translator._model.batch_size = 2  # as on a GPU
    for image, found in zip(images(), translator(images()), strict=True):
        np.testing.assert_array_equal(found, 255 - image)


def test_grey_models_and_grey_images(tmp_path: Path) -> None:
    write_tiny_translator(tmp_path / "grey.onnx", channels=1)
    write_tiny_translator(tmp_path / "colour.onnx")
    grey = Translator.load(tmp_path / "grey.onnx", Placement(threads=1))
    for image, found in zip(images(1), grey(images(1)), strict=True):
        np.testing.assert_array_equal(found, 255 - image)
    assert {found.shape[2] for found in grey(images(3))} == {3}
    colour = Translator.load(tmp_path / "colour.onnx", Placement(threads=1))
    np.testing.assert_array_equal(colour(images(1))[3], 255 - images(1)[3])


def test_what_is_no_image_or_too_large_is_refused(tmp_path: Path) -> None:
    write_tiny_translator(tmp_path / "m.onnx", PROFILES["fixed"])
    translator = Translator.load(tmp_path / "m.onnx", Placement(threads=1))
    for bad in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ImageError, match=r"must be uint8 \[H, W, 3\]"):
            translator([bad])
    with pytest.raises(ImageError, match="fixed profile lacks"):
        translator([np.zeros((4, 257, 3), np.uint8)])


def test_values_that_are_not_finite_are_named(tmp_path: Path) -> None:
    write_tiny_translator(tmp_path / "m.onnx", gain=3e38)
    with pytest.raises(ModelError, match="not finite"):
        Translator(OrtSession(tmp_path / "m.onnx"))(images()[:2])  # past its self-test


def test_a_specification_is_a_file_or_a_name(tmp_path: Path) -> None:
    write_tiny_translator(tmp_path / "m.onnx")
    write_tiny_embedder(tmp_path / "embedder.onnx")
    assert load_translator(tmp_path / "m.onnx").fingerprint == Translator.load(tmp_path / "m.onnx").fingerprint
    assert load_translator("gamma:0.3").name == "gamma"
    with pytest.raises(UsageError, match="did you mean lab-inversion"):
        load_translator("lab_inversion")
    with pytest.raises(ModelError, match="no such model file"):
        load_translator(tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match="gloam export"):
        load_translator(tmp_path / "weights.safetensors")
    with pytest.raises(ModelError, match="'translator' is needed"):
        load_translator(tmp_path / "embedder.onnx")


def test_edges_are_probabilities_and_grey_pictures(tmp_path: Path) -> None:
    write_tiny_translator(tmp_path / "m.onnx", kind="edges")
    detector = EdgeDetector.load(tmp_path / "m.onnx", Placement(threads=1))
    for image, values, picture in zip(images(), detector.probabilities(images()), detector(images()), strict=True):
        assert values.shape == picture.shape == image.shape[:2]
        np.testing.assert_allclose(values, image.mean(2) / 255, atol=1e-6)
        assert picture.dtype == np.uint8
    with pytest.raises(ModelError, match="'translator' is needed"):
        Translator.load(tmp_path / "m.onnx")
    difference, tolerance = run_selftest(detector.session)
    assert difference <= tolerance


@pytest.mark.parametrize(("kind", "load"), [("translator", load_translator), ("edges", EdgeDetector.load)])
def test_a_model_that_computes_something_else_is_refused(
    tmp_path: Path, kind: str, load: Callable[[Path], object]
) -> None:
    card = write_tiny_translator(tmp_path / "m.onnx", kind=kind)
    assert card.selftest is not None
    load(tmp_path / "m.onnx")
    wrong = replace(card.selftest, output=tuple(value + 0.1 for value in card.selftest.output))
    proto = onnx.load(tmp_path / "m.onnx")
    proto.metadata_props[0].value = replace(card, selftest=wrong).to_json()
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"m\.onnx: its self-test failed on onnxruntime"):
        load(tmp_path / "m.onnx")
