"""Padded shapes hold their images and refuse what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gloam.errors import ImageError, ModelError, UsageError
from gloam.padding import PaddingProfile


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
    assert PaddingProfile.from_dict(profile.to_dict()) == profile
    with pytest.raises(ModelError, match="malformed"):
        PaddingProfile.from_dict({"kind": "fixed"})
