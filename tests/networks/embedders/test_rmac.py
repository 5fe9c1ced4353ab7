"""R-MAC against a plain loop over its regions, and SPoC against GeM."""

from __future__ import annotations

from math import floor

import pytest
import torch

from gloam.errors import ModelError
from gloam.networks.embedders import create_embedder
from gloam.networks.embedders.gem import GeM, SPoC
from gloam.networks.embedders.rmac import RMAC
from gloam.networks.masks import Masks


def unit(vector: torch.Tensor) -> torch.Tensor:
    return vector / (vector.norm() + 1e-6)


def plain_regions(height: int, width: int) -> list[tuple[int, int, int]]:
    """Top, left and side of every region, in floating point as the paper's code has it."""
    short = min(height, width)
    shares = [abs((short**2 - short * (max(height, width) - short) / more) / short**2 - 0.4) for more in range(1, 7)]
    more = shares.index(min(shares)) + 1 if height != width else 0
    found = []
    for level in (1, 2, 3):
        side = floor(2 * short / (level + 1))
        rows, columns = level + (more if height > width else 0), level + (more if width > height else 0)
        for row in range(rows if side else 0):
            for column in range(columns):
                top = floor(row * (height - side) / max(rows - 1, 1) + 1e-9)
                found.append((top, floor(column * (width - side) / max(columns - 1, 1) + 1e-9), side))
    return found


def plain_rmac(image: torch.Tensor) -> torch.Tensor:
    total = unit(image.amax((1, 2)))
    for top, left, side in plain_regions(image.shape[1], image.shape[2]):
        total = total + unit(image[:, top : top + side, left : left + side].amax((1, 2)))
    return total


@pytest.mark.parametrize(
    "size", [(1, 1), (2, 2), (1, 5), (7, 7), (12, 16), (16, 12), (9, 17), (5, 31), (23, 10)], ids=str
)
def test_it_is_the_sum_over_the_regions(size: tuple[int, int]) -> None:
    x = torch.rand(2, 6, *size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(RMAC()(x), torch.stack([plain_rmac(image) for image in x]), atol=1e-5, rtol=0)


def test_equal_cells_count_the_regions() -> None:
    """15 of a square map (1 + 1 + 4 + 9), 21 where the longer side has one more in each row (1 + 2 + 6 + 12)."""
    cells = torch.tensor((3.0, 4.0)).view(1, 2, 1, 1)
    for size, regions in (((12, 12), 15), ((12, 18), 21), ((18, 12), 21), ((12, 24), 27)):
        torch.testing.assert_close(
            RMAC()(cells.expand(1, 2, *size)), regions * torch.tensor([[0.6, 0.8]]), rtol=1e-5, atol=0
        )


def test_valid_cells_alone_count() -> None:
    x = torch.rand(3, 4, 16, 18) + 0.1
    sizes = torch.tensor(((16, 18), (9, 13), (12, 4)))
    found = RMAC()(x, Masks.of(sizes[:, 0], sizes[:, 1], x))
    alone = [RMAC()(x[row : row + 1, :, :height, :width])[0] for row, (height, width) in enumerate(sizes.tolist())]
    torch.testing.assert_close(found, torch.stack(alone), atol=1e-6, rtol=0)


def test_gem_of_one_is_spoc() -> None:
    x = torch.rand(2, 5, 7, 9) + 0.1
    masks = Masks.of(torch.tensor((7, 3)), torch.tensor((9, 4)), x)
    for given in (None, masks):
        torch.testing.assert_close(SPoC()(x, given), GeM(1.0)(x, given))
    torch.testing.assert_close(SPoC()(x), x.mean((2, 3)))


def test_the_power_of_another_pooling_is_refused() -> None:
    for pooling in ("mac", "spoc", "rmac"):
        with pytest.raises(ModelError, match=f"p 2: is GeM's, and {pooling} has none") as raised:
            create_embedder(f"{pooling}_vgg16", stages=((4, 1),), p=2.0)
        assert "\n" not in str(raised.value)
    assert create_embedder("rmac_vgg16", stages=((4, 1),)).pooling == {"name": "rmac", "levels": 3}
    assert create_embedder("spoc_vgg16", stages=((4, 1),)).scale_power() is None
