"""The controls do what their formulas say."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from gloam.data.photometric import clahe
from gloam.errors import ImageError, UsageError
from gloam.runtime.models.formulas import CLASSIC, Clahe, GammaDarkening, Identity, LabInversion, create_classic


def photograph(height: int = 40, width: int = 30) -> np.ndarray:
    """Smooth and bright, with all three channels different."""
    y, x, c = np.ogrid[:height, :width, :3]
    return (120 + 60 * np.sin(y / 7 + c) + 60 * np.cos(x / 5 - c)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", CLASSIC)
def test_same_interface_sizes_and_no_side_effect(name: str) -> None:
    translator = create_classic(name)
    assert translator is not None
    images = [photograph(), photograph(1, 1), photograph(17, 64)]
    before = [image.copy() for image in images]
    results = translator(images)
    assert [(found.shape, found.dtype) for found in results] == [(image.shape, np.dtype(np.uint8)) for image in images]
    np.testing.assert_equal(images, before)
    with pytest.raises(ImageError):
        translator.check(np.zeros((4, 4), np.uint8))


def test_lab_inversion_turns_the_lightness_and_nothing_else() -> None:
    image = (photograph() // 8 + 110).astype(np.uint8)  # near grey, so that no colour leaves the cube
    before, after = (
        cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        for picture in (image, LabInversion()([image])[0])
    )
    np.testing.assert_allclose(after[..., 0], 100 - before[..., 0], atol=0.5)
    np.testing.assert_allclose(after[..., 1:], before[..., 1:], atol=1.5)
    ends = LabInversion()([np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)])[0]
    np.testing.assert_array_equal(ends, [[[255, 255, 255], [0, 0, 0]]])


@pytest.mark.parametrize("mean", [0.05, 0.22, 0.4])
def test_gamma_reaches_the_mean_by_one_exponent(mean: float) -> None:
    image, darkening = photograph(), GammaDarkening(mean)
    found = darkening([image])[0]
    assert found.mean() / 255 == pytest.approx(mean, abs=0.5 / 255)
    np.testing.assert_array_equal(np.rint(255 * (image / 255) ** darkening.gamma(image)), found)


def test_gamma_never_brightens_and_ends_on_saturated_images() -> None:
    dark, white = np.full((4, 4, 3), 20, np.uint8), np.full((4, 4, 3), 255, np.uint8)
    darkening = GammaDarkening(0.2)
    np.testing.assert_array_equal(darkening([dark])[0], dark)
    np.testing.assert_array_equal(darkening([white])[0], white)


def test_clahe_and_none() -> None:
    np.testing.assert_array_equal(Clahe()([photograph()])[0], clahe(photograph()))
    np.testing.assert_array_equal(Identity()([photograph()])[0], photograph())


def test_identities_follow_the_parameters() -> None:
    prints = [GammaDarkening(0.2), GammaDarkening(0.3), Clahe(), Clahe(2.0), LabInversion(), Identity()]
    assert len({item.fingerprint for item in prints}) == len(prints)
    assert GammaDarkening(0.2).fingerprint == GammaDarkening(0.2).fingerprint


@pytest.mark.parametrize(
    ("spec", "reason"), [("gamma:dark", "not a number"), ("gamma:2", "between 0 and 1"), ("clahe:3", "no param")]
)
def test_bad_parameters_are_one_line(spec: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        create_classic(spec)
    assert create_classic("model.onnx") is None
