"""Statistics of photographs find what was put in, and tell real nights from white noise."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from gloam.data.images import decode_image
from gloam.data.town import TownConfig, open_street
from gloam.data.town.dataset import camera_of, plan_shots
from gloam.data.town.sampling import camera_pose
from gloam.data.town.street import pinhole
from gloam.errors import DataError
from gloam.eval.photometry import Photometry, median_photometry, photometry

DATA = os.environ.get("GLOAM_DATA")
real = pytest.mark.skipif(not DATA, reason="needs the real photographs of GLOAM_DATA")


def noisy(sigma: float, blur: float = 0.0, level: float = 100.0) -> np.ndarray:
    white = np.random.default_rng(0).standard_normal((240, 320))
    if blur:
        white = cv2.GaussianBlur(white, (0, 0), blur) * (2 * np.sqrt(np.pi) * blur)
    return np.repeat(np.clip(level + sigma * white, 0, 255).round().astype(np.uint8)[..., None], 3, axis=2)


def test_white_noise_is_measured_and_uncorrelated() -> None:
    found = photometry(noisy(8.0))
    assert found.mean == pytest.approx(100, abs=0.3)
    assert found.noise == pytest.approx(8.0, rel=0.05)
    assert abs(found.correlation) < 0.06
    assert photometry(noisy(8.0, 0.9)).correlation > 0.5
    assert photometry(noisy(8.0, 0.9)).noise < 3  # a camera's smoothing hides it from a second difference


def test_dark_and_clipped_pixels_are_counted() -> None:
    image = np.full((100, 200, 3), 120, np.uint8)
    image[:25] = 19
    image[50:60] = 251
    image[70:80] = 20  # neither
    found = photometry(image)
    assert (found.dark, found.bright) == pytest.approx((25, 10))
    flat = photometry(np.full((64, 64, 3), 7, np.uint8))
    assert (flat.noise, flat.gradient, flat.correlation) == pytest.approx((0, 0, 0), abs=1e-9)


def test_the_slope_is_that_of_the_spectrum() -> None:
    y, x = np.indices((256, 256)) - 128
    radius = np.fft.ifftshift(np.maximum(np.hypot(x, y), 1))
    for power in (-1.0, -3.0):
        phase = np.fft.fft2(np.random.default_rng(1).standard_normal((256, 256)))
        field = np.fft.ifft2(phase * radius ** (power / 2)).real
        image = np.clip(128 + 40 * field / field.std(), 0, 255).astype(np.uint8)
        assert photometry(np.repeat(image[..., None], 3, 2)).slope == pytest.approx(power, abs=0.35)


def test_large_photographs_are_reduced_and_wrong_ones_refused() -> None:
    image = noisy(8.0)
    assert photometry(np.repeat(np.repeat(image, 4, 0), 4, 1)).mean == pytest.approx(photometry(image).mean, abs=0.5)
    for wrong in (image[..., 0], image.astype(np.float32), image[:30]):
        with pytest.raises(DataError, match="at least 64 pixels"):
            photometry(wrong)
    with pytest.raises(DataError, match="at least one"):
        median_photometry([])
    three = median_photometry([noisy(2.0), noisy(4.0), noisy(9.0)])
    assert three.noise == pytest.approx(photometry(noisy(4.0)).noise)


def town_nights(look: int, condition: str, count: int, seed: int = 7) -> Photometry:
    """Of queries of a demo-sized town."""
    config = TownConfig(seed=seed, look=look, conditions=(condition,))
    street = open_street(config.seed, config.length, config.texels, look)
    shots = [shot for shot in plan_shots(config) if shot.split == "query"][:: config.queries // count]
    return median_photometry(
        street.render(shot.pose, condition, camera_of(config), shot.timestamp, shot.visit).image for shot in shots
    )


def assert_a_night(found: Photometry) -> None:
    """What real photographs by night have in common."""
    assert found.noise < 2
    assert 5 < found.dark < 25
    assert found.bright > 0.1
    assert found.correlation > 0.4


def test_a_few_nights_of_the_second_look_are_nights() -> None:
    street, camera = open_street(7, 30, 32, 2), pinhole(256, 192)
    poses = [
        camera_pose(x, y, 1.6, heading, 3) for x, y, heading in ((3, 0.5, 3), (9, -1, 30), (26, 1, 176), (18, 0, 150))
    ]
    found = median_photometry(street.render(pose, "night", camera, index).image for index, pose in enumerate(poses))
    assert_a_night(found)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [7, 8])
@pytest.mark.parametrize("condition", ["night", "night-rain"])
def test_nights_of_the_second_look_are_nights(condition: str, seed: int) -> None:
    found = town_nights(2, condition, 12, seed)
    assert_a_night(found)
    # Webcams and street photographs: mean 63 to 66, gradient 44 to 49, slope -2.2 to -2.6.
    assert 35 < found.mean < 85
    assert 30 < found.gradient < 65
    assert -2.8 < found.slope < -1.9


@pytest.mark.slow
def test_nights_of_the_first_look_are_none() -> None:
    found = town_nights(1, "night", 6)
    assert found.noise > 5
    assert found.correlation < 0.3


@real
@pytest.mark.slow
def test_real_nights_are_nights_and_the_town_is_near_them() -> None:
    root = Path(DATA or "") / "amos_daynight"
    with (root / "metadata.csv").open() as file:
        nights = [root / row["file"] for row in csv.DictReader(file) if row["label"] == "night"]
    webcams = median_photometry(decode_image(path) for path in nights)
    assert_a_night(webcams)
    town = town_nights(2, "night", 12)
    assert abs(town.mean - webcams.mean) < 25
    assert abs(town.noise - webcams.noise) < 0.5
    assert abs(town.correlation - webcams.correlation) < 0.25
    assert abs(town.gradient - webcams.gradient) < 15
    assert abs(town.slope - webcams.slope) < 0.4
