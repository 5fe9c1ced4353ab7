"""SSIM against loops over windows, MS-SSIM against its published behaviour, diversity."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gloam.errors import DataError
from gloam.eval.translation.cycle import cycle_error
from gloam.eval.translation.structural import SCALE_WEIGHTS, _pair, multi_scale_ssim, set_similarity, ssim


def noise(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(size: int, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    value = sum(
        math.sin(seed + k) * np.sin(2 * np.pi * (draw.random() * 4 * x + draw.random() * 4 * y)) for k in range(6)
    )
    value = (value - value.min()) / np.ptp(value)
    return np.repeat((value * 255).astype(np.uint8)[..., None], 3, axis=2)


def looped(one: np.ndarray, two: np.ndarray) -> tuple[float, float]:
    """Mean SSIM and mean contrast-structure over whole windows, each window by weighted sums."""
    axis = [math.exp(-((i - 5) ** 2) / (2 * 1.5**2)) for i in range(11)]
    window = np.array([[a * b for b in axis] for a in axis])
    window /= window.sum()
    full, contrast = [], []
    for top in range(one.shape[0] - 10):
        for left in range(one.shape[1] - 10):
            a, b = one[top : top + 11, left : left + 11], two[top : top + 11, left : left + 11]
            ma, mb = (window * a).sum(), (window * b).sum()
            va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
            cov = (window * (a - ma) * (b - mb)).sum()
            cs = (2 * cov + 58.5225) / (va + vb + 58.5225)
            contrast.append(cs)
            full.append((2 * ma * mb + 6.5025) / (ma**2 + mb**2 + 6.5025) * cs)
    return float(np.mean(full)), float(np.mean(contrast))


def luma(image: np.ndarray) -> np.ndarray:
    red, green, blue = np.moveaxis(image.astype(float), 2, 0)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def test_equals_loops_over_windows() -> None:
    first, second = noise((20, 17, 3), 0), noise((20, 17, 3), 1) // 2
    assert ssim(first, second) == pytest.approx(looped(luma(first), luma(second))[0], rel=1e-9)


def test_multi_scale_equals_loops_over_scales() -> None:
    first = smooth(176, 0)
    second = np.clip(first.astype(int) + noise(first.shape, 2) // 8, 0, 255).astype(np.uint8)
    one, two, expected = luma(first), luma(second), 1.0
    for scale, weight in enumerate(SCALE_WEIGHTS):
        full, contrast = looped(one, two)
        expected *= (full if scale == 4 else contrast) ** weight
        half = len(one) // 2
        one, two = (v[: 2 * half, : 2 * half].reshape(half, 2, half, 2).mean((1, 3)) for v in (one, two))
    assert multi_scale_ssim(first, second) == pytest.approx(expected, rel=1e-6)


def test_equal_images_score_one_and_unrelated_ones_little() -> None:
    image = smooth(180, 3)
    assert ssim(image, image) == multi_scale_ssim(image, image) == pytest.approx(1)
    assert abs(ssim(noise((180, 180, 3), 0), noise((180, 180, 3), 1))) < 0.05
    assert multi_scale_ssim(image, 255 - image) == 0  # negative structure counts as none


def test_odd_sides_and_grey_images() -> None:
    image = noise((179, 201), 0)
    assert multi_scale_ssim(image, image) == pytest.approx(1)


def test_refuses_other_sizes_and_small_images() -> None:
    with pytest.raises(DataError, match=r"20x30 and 30x20.*--size"):
        ssim(noise((30, 20, 3), 0), noise((20, 30, 3), 0))
    with pytest.raises(DataError, match="176 px"):
        multi_scale_ssim(noise((175, 300, 3), 0), noise((175, 300, 3), 0))


def test_pairs_are_numbered_without_gaps() -> None:
    assert [_pair(index) for index in range(6)] == [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
    huge = 10**6 * (10**6 - 1) // 2
    assert _pair(huge - 1) == (999_998, 999_999)
    assert _pair(huge) == (0, 10**6)


def test_a_collapsed_set_is_alike_and_a_varied_one_is_not() -> None:
    varied = [smooth(176, seed) for seed in range(4)]
    alike = [np.clip(varied[0].astype(int) + seed, 0, 255).astype(np.uint8) for seed in range(4)]
    assert set_similarity(alike.__getitem__, 4) > 0.95 > set_similarity(varied.__getitem__, 4) + 0.2
    assert set_similarity(varied.__getitem__, 4, pairs=2, seed=1) == set_similarity(varied.__getitem__, 4, 2, 1)
    with pytest.raises(DataError, match="2 images"):
        set_similarity(varied.__getitem__, 1)


def test_cycle_error_is_the_mean_absolute_difference() -> None:
    first, second = noise((5, 7, 3), 0), noise((5, 7, 3), 1)
    expected = sum(abs(int(a) - int(b)) for a, b in zip(first.flat, second.flat, strict=True)) / first.size / 255
    found = cycle_error([(first, second), (first, first)])
    assert (found.l1, found.l1_unit, found.images) == (pytest.approx(expected), pytest.approx(expected / 2), 2)
    black, white = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    assert cycle_error([(black, white)]).l1 == 2
    with pytest.raises(DataError, match="own shape"):
        cycle_error([(first, black)])
    with pytest.raises(DataError, match="no image pairs"):
        cycle_error([])
