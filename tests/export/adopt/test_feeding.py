"""Pixels become what a foreign graph takes, and a rule is said as a user states it."""

from __future__ import annotations

import numpy as np
import pytest

from gloam.export.adopt.feeding import BYTE, CAFFE, IMAGENET, ONE, ZERO, Feeding, known_order

IMAGES = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)


def test_normalised_channels_first() -> None:
    fed = Feeding("nchw", "rgb", *IMAGENET).fed(IMAGES)
    assert fed.shape == (2, 3, 4, 5)
    assert fed.dtype == np.float32
    want = (IMAGES[1, 2, 3] / 255 - IMAGENET[0]) / IMAGENET[1]
    np.testing.assert_allclose(fed[1, :, 2, 3].astype(np.float64), want, atol=1e-6)


def test_blue_first_turns_the_normalised_channels() -> None:
    rgb, bgr = (Feeding("nhwc", order, *CAFFE).fed(IMAGES) for order in ("rgb", "bgr"))
    np.testing.assert_array_equal(bgr, rgb[..., ::-1])


def test_whole_levels_stay_what_they_are() -> None:
    fed = Feeding("nhwc", "rgb", ZERO, BYTE).fed(IMAGES, "uint8")
    assert fed.dtype == np.uint8
    np.testing.assert_array_equal(fed, IMAGES)


def test_it_is_said_as_it_is_stated() -> None:
    assert Feeding("nchw", "rgb", *IMAGENET).options() == (
        "--range 1 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --channels rgb"
    )
    assert Feeding("nchw", "bgr", *CAFFE).options() == (
        "--range 255 --mean 123.68,116.779,103.939 --std 1,1,1 --channels bgr"
    )
    assert Feeding("nchw", "rgb", ZERO, BYTE).options() == "--range 255 --mean 0,0,0 --std 1,1,1 --channels rgb"


def test_fewer_digits_are_the_same_normalisation_and_another_mean_is_not() -> None:
    one = Feeding("nchw", "rgb", *IMAGENET)
    assert one.normalises_as(Feeding("nhwc", "bgr", (0.4855, 0.4560, 0.4065), IMAGENET[1]))
    assert not one.normalises_as(Feeding("nchw", "rgb", (0.5, 0.5, 0.5), IMAGENET[1]))
    assert not one.normalises_as(Feeding("nchw", "rgb", IMAGENET[0], ONE))


@pytest.mark.parametrize("known", [IMAGENET, CAFFE])
def test_known_means_tell_the_order(known: tuple[tuple[float, float, float], tuple[float, float, float]]) -> None:
    assert known_order(*known) == "rgb"
    assert known_order(known[0][::-1], known[1][::-1]) == "bgr"


def test_equal_means_tell_no_order() -> None:
    assert known_order((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)) is None
