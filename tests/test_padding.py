"""Padded shapes hold their images and refuse what does not fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gloam.errors import ImageError, ModelError, UsageError
from gloam.padding import PaddingProfile, crop_back, next_multiple, reflect_pad, reflect_to
from gloam.record import fill_dataclass, to_json


@given(st.integers(1, 1024), st.integers(1, 1024))
def test_shape_is_the_smallest_that_holds_the_image(height: int, width: int) -> None:
    padded = PaddingProfile.fixed().shape_for(height, width)
    for side, found in zip((height, width), padded, strict=True):
        assert found % 256 == 0
        assert found - 256 < side <= found


def test_dynamic_keeps_the_size() -> None:
    assert PaddingProfile.dynamic().shape_for(33, 517) == (33, 517)


def test_larger_than_the_profile_is_an_image_error() -> None:
    with pytest.raises(ImageError, match="--max-side"):
        PaddingProfile.fixed((256,), (512,)).shape_for(256, 513)


@pytest.mark.parametrize("sides", [(), (0,), (100,), (512, 256), (256, 256)])
def test_bad_sides_are_refused(sides: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="padding profile"):
        PaddingProfile.fixed(sides, (256,))


def test_pad_keeps_pixels_and_states_sizes() -> None:
    images = [np.full((3, 5, 3), 7, np.uint8), np.full((4, 2, 3), 9, np.uint8)]
    batch, sizes = PaddingProfile.fixed().pad(images, (256, 256))
    assert batch.shape == (2, 256, 256, 3)
    assert sizes.tolist() == [[3, 5], [4, 2]]
    assert (batch[0, :3, :5] == 7).all()
    assert batch[0].sum() == 7 * 45
    with pytest.raises(UsageError, match="does not fit"):
        PaddingProfile.fixed().pad([np.zeros((300, 5, 3), np.uint8)], (256, 256))


def test_json_round_trip_and_malformed() -> None:
    profile = PaddingProfile.fixed((256,), (256, 512), batch=(1, 8))
    assert fill_dataclass(PaddingProfile, to_json(profile), "profile") == profile
    with pytest.raises(UsageError, match="profile: key 'multiple' is missing"):
        fill_dataclass(PaddingProfile, {"kind": "fixed"}, "profile")


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 4, 16, 32, 64]), st.sampled_from([1, 64]))
def test_reflection_is_numpys_and_crops_back_exactly(height: int, width: int, multiple: int, minimum: int) -> None:
    image = np.random.default_rng(height * 41 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    padded, (top, left) = reflect_pad(image, multiple, minimum)
    for side, found in zip((height, width), padded.shape, strict=False):
        assert found == max(next_multiple(side, multiple), next_multiple(minimum, multiple))
    bottom, right = padded.shape[0] - height - top, padded.shape[1] - width - left
    assert bottom - top in (0, 1)  # the extra pixel is at the bottom and right
    assert right - left in (0, 1)
    np.testing.assert_array_equal(padded, np.pad(image, ((top, bottom), (left, right), (0, 0)), mode="reflect"))
    np.testing.assert_array_equal(crop_back(padded, (top, left), (height, width)), image)


def test_a_reflecting_profile_pads_to_exactly_the_next_multiple() -> None:
    dynamic = PaddingProfile.dynamic().reflecting(4, 8)
    assert dynamic.shape_for(1, 9) == (8, 12)
    assert dynamic.shape_for(8, 16) == (8, 16)
    fixed = PaddingProfile.fixed((256, 1024), (256,)).reflecting(4, 8)
    assert fixed.shape_for(10, 256) == (256, 256)
    with pytest.raises(ImageError, match=r"needs the shape 256x512"):
        fixed.shape_for(300, 10)  # 1024 would hold it, but is not the next multiple
    assert PaddingProfile.dynamic().reflecting(4, 6).minimum == 8
    with pytest.raises(ModelError, match="multiples of 512"):
        PaddingProfile.fixed((256, 512), (512,)).reflecting(512)


def test_the_minimum_is_kept_and_earlier_profiles_read_as_they_were() -> None:
    profile = PaddingProfile.dynamic().reflecting(16, 32)
    assert fill_dataclass(PaddingProfile, to_json(profile), "profile") == profile
    assert "minimum" not in to_json(PaddingProfile.fixed())  # part of every fingerprint


@pytest.mark.parametrize("profile", [PaddingProfile.dynamic(), PaddingProfile.fixed((126, 252), (252,), cell=14)])
def test_of_a_patch_sides_are_multiples(profile: PaddingProfile) -> None:
    patched = profile.of_cell(14)
    assert patched.shape_for(112, 98) == ((112, 98) if profile.kind == "dynamic" else (126, 252))
    assert fill_dataclass(PaddingProfile, to_json(patched), "profile") == patched
    assert "cell" not in to_json(PaddingProfile.dynamic())
    for size in ((112, 99), (99, 112)):
        with pytest.raises(ImageError, match="has a side that is no multiple of 14 px, the model's patch; resize im"):
            patched.shape_for(*size)
    with pytest.raises(ModelError, match=r"heights \(256,\) must be positive multiples of 14$"):
        PaddingProfile.fixed((256,), (252,), cell=14)
    with pytest.raises(ModelError, match=r"heights \(256,\) must be positive multiples of 14$"):
        PaddingProfile.fixed((256,), (256,)).of_cell(14)
    with pytest.raises(ModelError, match="sides in cells of 14 px, in multiples of 256 px"):
        PaddingProfile("fixed", 256, (256,), (256,), cell=14)


def test_what_does_not_fit_is_refused() -> None:
    for size in ((0, 5), (9, 5)):
        with pytest.raises(UsageError, match="cannot be padded"):
            reflect_to(np.zeros((*size, 3), np.uint8), (8, 8))


def test_an_image_under_the_smallest_side_is_refused() -> None:
    profile = replace(PaddingProfile.dynamic(), minimum=64)
    assert profile.shape_for(64, 90) == (64, 90)
    assert fill_dataclass(PaddingProfile, to_json(profile), "profile") == profile
    with pytest.raises(ImageError, match="63x200 is too small for this model; 64 px a side at least"):
        profile.shape_for(200, 63)
