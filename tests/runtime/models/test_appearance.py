"""The appearance of an example: its filter, and the translator that takes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gloam
from gloam.errors import ImageError, ModelError, UsageError
from gloam.runtime.models.appearance import Appearance
from gloam.runtime.models.translator import Translator
from tests.tiny_appearance import KEPT, write_tiny_encoder, write_tiny_filtered
from tests.tiny_translators import write_tiny_domains


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("appearance")
    write_tiny_encoder(made / "encoder.onnx")
    write_tiny_encoder(made / "other.onnx", weights="others")
    write_tiny_filtered(made / "translator.onnx")
    return made


def plain(*colour: int, size: tuple[int, int] = (40, 50)) -> np.ndarray:
    return np.broadcast_to(np.array(colour, np.uint8), (*size, 3)).copy()


def test_filters_of_images_of_any_sizes_are_in_the_order_given(folder: Path) -> None:
    encoder = Appearance.load(folder / "encoder.onnx")
    images = [plain(0, 51, 255), plain(255, 255, 255, size=(17, 90)), plain(0, 51, 255, size=(61, 16))]
    filters = encoder(images)
    assert (filters.dtype, filters.shape, encoder.size) == (np.float32, (3, 3), 3)
    np.testing.assert_allclose(filters[[0, 1, 2]], [[-1, -0.6, 1], [1, 1, 1], [-1, -0.6, 1]], atol=1e-6)
    assert np.array_equal(encoder.filter(images[1]), filters[1])
    grey = encoder.filter(plain(51, 51, 51)[..., :1])
    np.testing.assert_allclose(grey, [-0.6] * 3, atol=1e-6)
    assert encoder([]).shape == (0, 3)
    assert isinstance(gloam.load(folder / "encoder.onnx"), Appearance)


def test_a_translator_goes_into_the_appearance_of_examples(folder: Path) -> None:
    encoder, translator = Appearance.load(folder / "encoder.onnx"), Translator.load(folder / "translator.onnx")
    image, examples = plain(0, 0, 0), [plain(255, 0, 0), plain(0, 0, 0)]
    like = translator.like(examples, encoder)
    assert like([image])[0][0, 0].tolist() == [64, 0, 0]  # half of -1 and half of the mean (0, -1, -1)
    assert like.fingerprint == translator.with_appearance(encoder(examples).mean(0)).fingerprint
    assert like.fingerprint not in (translator.fingerprint, translator.like(examples[1:], encoder).fingerprint)
    assert (like.domain, like.name) == (None, "tiny")
    assert translator.with_appearance(np.array(KEPT["night"])).fingerprint == translator.fingerprint


def test_the_names_of_domains_mean_the_filters_that_the_file_keeps(folder: Path) -> None:
    translator = Translator.load(folder / "translator.onnx")
    assert (translator.domains, translator.domain) == (("day", "night"), "night")
    assert translator.towards("night").fingerprint == translator.fingerprint
    day = translator.towards("day")
    assert (day.domain, day.name) == ("day", "tiny to day")
    assert day([plain(127, 127, 127)])[0][0, 0].tolist() == [159, 143, 143]
    with pytest.raises(UsageError, match="unknown domain 'rain'; its domains are day, night"):
        translator.towards("rain")


def test_what_does_not_fit_is_one_line(folder: Path, tmp_path: Path) -> None:
    encoder, translator = Appearance.load(folder / "encoder.onnx"), Translator.load(folder / "translator.onnx")
    for wrong in (np.zeros(7), np.zeros((1, 3)), np.full(3, np.nan)):
        with pytest.raises(UsageError, match="takes a filter of 3 finite numbers"):
            translator.with_appearance(wrong)
    with pytest.raises(UsageError, match="no example image"):
        translator.like([], encoder)
    with pytest.raises(ModelError, match="of other weights than the translator; export both from one checkpoint"):
        translator.like([plain(0, 0, 0)], Appearance.load(folder / "other.onnx"))
    with pytest.raises(ImageError, match="8x40 is too small for this model; 16 px"):
        encoder.filter(plain(0, 0, 0, size=(40, 8)))
    with pytest.raises(ImageError, match="must be uint8"):
        encoder([np.zeros((40, 40, 3), np.float32)])  # type: ignore[list-item]
    with pytest.raises(ModelError, match="kind 'appearance', but 'translator' is needed"):
        Translator.load(folder / "encoder.onnx")
    with pytest.raises(ModelError, match="kind 'translator', but 'appearance' is needed"):
        Appearance.load(folder / "translator.onnx")
    write_tiny_domains(tmp_path / "labelled.onnx")
    labelled = Translator.load(tmp_path / "labelled.onnx")
    with pytest.raises(UsageError, match="takes no filter of an example's appearance"):
        labelled.like([plain(0, 0, 0)], encoder)
