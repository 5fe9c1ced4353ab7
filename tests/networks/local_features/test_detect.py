"""Local maxima, the strongest of them and places between pixels, against plain twins."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gloam.networks.local_features import detect


def scores(height: int, width: int, seed: int = 0, batch: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((batch, height, width)).astype(np.float32))


def test_the_strongest_fall_and_of_equal_ones_the_first_comes_first() -> None:
    values, places = detect.strongest(torch.tensor([[0.5, 2.0, 0.0, 2.0, 1.0]]), 3)
    assert values.tolist() == [[2.0, 2.0, 1.0]]
    assert places.tolist() == [[1, 3, 4]]


def test_more_than_there_are_end_in_zeros() -> None:
    values, places = detect.strongest(torch.tensor([[0.0, 3.0], [0.0, 0.0]]), 4)
    assert values.tolist() == [[3.0, 0, 0, 0], [0, 0, 0, 0]]
    assert places.tolist() == [[1, 0, 0, 0], [0, 0, 0, 0]]  # never beyond the map


def test_a_maximum_is_the_largest_around_it_or_the_largest_of_what_none_has_taken() -> None:
    row = torch.tensor([[[1.0, 0.9, 0.8, 0.2, 0.7, 0.1, 0.1]]])
    assert detect.peaks(row, 2).tolist() == [[[True, False, False, False, False, False, False]]]
    # 0.8 is in reach of 1.0; 0.7 is in reach of 0.8 alone, which is no maximum itself.
    assert detect.local_maxima(row, 2)[0, 0].tolist() == pytest.approx([1, 0, 0, 0, 0.7, 0, 0])


@pytest.mark.parametrize(("radius", "size"), [(1, (9, 13)), (2, (17, 5)), (4, (20, 21))])
def test_peaks_against_a_loop(radius: int, size: tuple[int, int]) -> None:
    values = scores(*size)
    found = detect.peaks(values, radius)[0].numpy()
    image = values[0].numpy()
    for y in range(size[0]):
        for x in range(size[1]):
            around = image[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
            assert found[y, x] == (image[y, x] == around.max())


@pytest.mark.parametrize("size", [(7, 11), (1, 1), (4, 3)])
def test_the_border_is_cleared_on_every_side(size: tuple[int, int]) -> None:
    found = detect.without_border(torch.ones(2, *size), 2)
    expected = torch.zeros(2, *size)
    expected[:, 2 : max(2, size[0] - 2), 2 : max(2, size[1] - 2)] = 1
    assert torch.equal(found, expected)


def test_flat_places_are_columns_and_rows() -> None:
    assert detect.pixels(torch.tensor([[0, 6, 7, 20]]), 7)[0].tolist() == [[0, 0], [6, 0], [0, 1], [6, 2]]


@pytest.mark.parametrize("size", [(5, 9), (1, 6), (1, 1)])
def test_a_sample_is_bilinear_and_nothing_lies_beyond_the_map(size: tuple[int, int]) -> None:
    height, width = size
    maps = scores(height, width, batch=3)[None]
    points = torch.tensor([[0.0, 0.0], [width - 1, height - 1], [0.25, 0.5], [-0.75, 0], [width + 1, 0], [0, -1.5]])
    found = detect.sample(maps, points[None])[0].numpy()
    grid = np.zeros((3, height + 4, width + 5))
    grid[:, 2 : height + 2, 2 : width + 2] = maps[0].numpy()
    for at, (x, y) in enumerate(points.tolist()):
        left, top = int(np.floor(x)), int(np.floor(y))
        right, down = x - left, y - top
        corners = grid[:, top + 2 : top + 4, left + 2 : left + 4]
        expected = corners @ np.array([1 - right, right]) @ np.array([1 - down, down])
        assert found[:, at] == pytest.approx(expected, abs=1e-5)


def test_a_keypoint_moves_to_the_soft_maximum_around_it() -> None:
    y, x = np.mgrid[:24, :31]
    bump = np.exp(-((x - 12.3) ** 2 + (y - 9.6) ** 2) / 8).astype(np.float32)
    points, values, found = detect.differentiable_keypoints(torch.from_numpy(bump)[None], 4, 0.5)
    patch = bump[8:13, 10:15]  # around the largest, at 12, 10
    weights = np.exp((patch - patch.max()) / 0.1)
    dy, dx = np.mgrid[-2:3, -2:3]
    expected = np.array([12 + (weights * dx).sum() / weights.sum(), 10 + (weights * dy).sum() / weights.sum()])
    assert points[0, 0].numpy() == pytest.approx(expected, abs=1e-4)
    assert found.tolist() == [[True, False, False, False]]
    assert values[0, 0] == pytest.approx(float(detect.sample(torch.from_numpy(bump)[None, None], points)[0, 0, 0]))


def test_where_nothing_reaches_the_threshold_the_mean_decides_image_by_image() -> None:
    dark, bright = scores(40, 40) * 0.1, scores(40, 40, seed=1)
    _, values, found = detect.differentiable_keypoints(torch.cat((dark, bright)), 200, 0.9)
    maxima = detect.without_border(detect.local_maxima(dark, 2), 2)
    assert int(found[0].sum()) == int((maxima > dark.mean()).sum()) > 0
    maxima = detect.without_border(detect.local_maxima(bright, 2), 2)
    assert int(found[1].sum()) == int((maxima > 0.9).sum()) > 0
    assert not bool(found[1].all())
    assert values.shape == (2, 200)


def test_cells_are_read_row_by_row_and_none_of_them_is_dropped() -> None:
    logits = torch.full((1, 65, 2, 3), -20.0)
    logits[0, 8 * 5 + 2, 1, 2] = 20.0  # row 5, column 2 of the cell
    logits[0, 64, 0, 0] = 20.0
    found = detect.cells_to_map(logits)[0]
    assert found.shape == (16, 24)
    assert found[8 + 5, 16 + 2] == pytest.approx(1)
    assert float(found[:8, :8].max()) < 1e-6


def test_what_is_not_found_is_zero() -> None:
    found = torch.tensor([[True, False]])
    points, count = detect.only_found(found, torch.ones(1, 2, 3), torch.full((1, 2), torch.nan))
    assert points.tolist() == [[[1, 1, 1], [0, 0, 0]]]
    assert count[0, 1] == 0


def test_values_at_flat_places_are_those_of_each_image() -> None:
    maps = torch.from_numpy(np.random.default_rng(0).random((2, 3, 4, 5)).astype(np.float32))
    places = torch.tensor([[0, 19, 7, 7], [5, 1, 18, 0]])
    found = detect.at(maps, places)
    assert found.shape == (2, 4, 3)
    for image, row in enumerate(places.tolist()):
        for number, place in enumerate(row):
            assert torch.equal(found[image, number], maps[image, :, place // 5, place % 5])
