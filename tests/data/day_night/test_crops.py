import numpy as np
import pytest

from gloam.data.day_night.crops import (
    TRANSFORMS,
    CentreSquare,
    Pad,
    ResizeCrop,
    ScaleCrop,
    ShorterSide,
    create_transform,
    to_planes,
)
from gloam.errors import DataError, UsageError


def from_planes(planes):
    """The inverse of ``to_planes``, rounded."""
    return ((planes.transpose(1, 2, 0) + 1) * 127.5).round().clip(0, 255).astype(np.uint8)


def coordinates(height, width):
    """An image whose red and green are row and column, halved so that 500 pixels fit."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows // 2, columns // 2, np.zeros_like(rows)], axis=2).astype(np.uint8)


def test_range_is_minus_one_to_one_and_back(rng):
    image = rng.integers(0, 256, (5, 7, 3), np.uint8)
    planes = to_planes(image)
    assert planes.dtype == np.float32
    assert planes.shape == (3, 5, 7)
    assert to_planes(np.array([[[0], [255]]], np.uint8)).ravel().tolist() == [-1.0, 1.0]
    assert np.array_equal(from_planes(planes), image)


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_transform_gives_the_size_and_range_and_follows_its_generator(name, channels, rng):
    size = 32
    day, night = (rng.integers(0, 256, (*shape, channels), np.uint8) for shape in ((28, 28), (28, 28)))
    if "pad" not in name:
        day, night = (rng.integers(0, 256, (*shape, channels), np.uint8) for shape in ((45, 60), (50, 50)))
    transform = create_transform(name, size)
    first = transform(day, night, np.random.default_rng(3))
    again = transform(day, night, np.random.default_rng(3))
    for one, other in zip(first, again, strict=True):
        assert one.dtype == np.float32
        assert one.shape[0] == channels
        assert min(one.shape[1:]) == size
        assert one.min() >= -1
        assert one.max() <= 1
        assert np.array_equal(one, other)


def test_scalecrop_cuts_the_same_window_of_both_images():
    day, night = coordinates(300, 420), coordinates(340, 400)
    for seed in range(20):
        one, other = ScaleCrop(256)(day, night, np.random.default_rng(seed))
        assert np.array_equal(one, other)
        pixels = from_planes(one)
        assert pixels[..., 0].max() <= 149  # never below the lower edge that both have
        assert pixels[..., 1].max() <= 199


def test_scalecrop_windows_have_the_paper_range_and_reach_every_corner():
    image = coordinates(330, 400)
    sides, corners = [], set()
    for seed in range(400):
        pixels = from_planes(ScaleCrop(256)(image, image, np.random.default_rng(seed))[0]).astype(int)
        sides.append((pixels[-1, 0, 0] - pixels[0, 0, 0]) * 2)
        corners.add((bool(pixels[0, 0, 0] < 3), bool(pixels[0, 0, 1] < 6)))
    assert 250 <= min(sides) <= 262
    assert 312 <= max(sides) <= 321  # ceil(256 / 0.8) = 320
    assert len(corners) == 4


def test_scalecrop_leaves_images_of_the_size_alone_and_refuses_smaller_ones(rng):
    image = rng.integers(0, 256, (256, 256, 3), np.uint8)
    assert np.array_equal(ScaleCrop(256)(image, image, rng)[0], to_planes(image))
    with pytest.raises(DataError, match="256 px does not fit"):
        ScaleCrop(256)(image, image[:200], rng)


def test_cyclegan_crops_each_image_on_its_own_and_pix2pix_both_alike():
    image = coordinates(300, 300)
    apart = [np.array_equal(*ResizeCrop()(image, image, np.random.default_rng(seed))) for seed in range(10)]
    alike = [np.array_equal(*ResizeCrop(shared=True)(image, image, np.random.default_rng(seed))) for seed in range(10)]
    assert not any(apart)
    assert all(alike)
    assert create_transform("cyclegan", 256).load == 286
    assert create_transform("cyclegan", 128).load == 143


def test_about_half_are_cropped_and_half_mirrored_in_paper_five():
    image = coordinates(64, 64)
    transform = create_transform("cyclegan_study", 64)
    assert transform.load == 77
    found = [from_planes(transform(image, image, np.random.default_rng(seed))[0]).astype(int) for seed in range(300)]
    mirrored = [pixels[0, 0, 1] > pixels[0, -1, 1] for pixels in found]
    whole = [np.ptp(pixels[..., 0]) >= 31 for pixels in found]
    assert 0.4 < np.mean(mirrored) < 0.6
    assert 0.4 < np.mean(whole) < 0.6


def test_padding_is_black_and_even(rng):
    image = rng.integers(1, 256, (28, 28, 1), np.uint8)
    padded = Pad(32)(image, image, rng)[0]
    assert np.array_equal(padded[0, 2:30, 2:30], to_planes(image)[0])
    assert padded[0, :2].max() == padded[0, :, 30:].max() == -1


def test_digits_of_the_study_are_padded_then_enlarged_cropped_and_mirrored(rng):
    image = rng.integers(0, 256, (28, 28, 1), dtype=np.uint8)
    transform, whole = create_transform("padded_study", 32), Pad(32)(image, image, rng)[0]
    drawn = [transform(image, image, np.random.default_rng(seed))[0] for seed in range(40)]
    assert {planes.shape for planes in drawn} == {(1, 32, 32)}
    as_it_is = sum(np.array_equal(planes, whole) for planes in drawn)
    mirrored = sum(np.array_equal(planes, whole[..., ::-1]) for planes in drawn)
    assert 4 <= as_it_is <= 16  # half are cropped, half of the others mirrored
    assert 4 <= mirrored <= 16


def test_whole_image_transforms_keep_the_aspect():
    image = np.zeros((120, 200, 3), np.uint8)
    assert ShorterSide(60)(image, image, None)[0].shape == (3, 60, 100)
    image[:, 40:160] = 255
    assert from_planes(CentreSquare(60)(image, image, None)[0]).min() > 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("scalecorp", 256), "choose one of scalecrop"),
        (("square", 0), "at least 1"),
        (("scalecrop", 8, (1.0, 0.5)), "rising"),
    ],
)
def test_impossible_transforms_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        create_transform(*arguments)


@pytest.fixture
def rng():
    return np.random.default_rng(0)
