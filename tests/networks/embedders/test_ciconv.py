"""The colour invariant ignores the light's intensity; its kernels follow the learned scale."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from gloam.errors import ModelError
from gloam.networks.embedders import create_embedder
from gloam.networks.embedders.ciconv import COLOUR_MODEL, EPS, CIConv, _invariant


@pytest.mark.parametrize(("scale", "side"), [(0.0, 9), (1.0, 15), (2.5, 37), (9.0, 37)])
def test_the_kernels_grow_with_the_scale(scale: float, side: int) -> None:
    smooth, rows, columns = CIConv(scale=scale).kernels()[:, 0].detach()
    assert smooth.shape == (side, side)
    assert smooth.sum().item() == pytest.approx(1, abs=1e-5)
    assert rows.abs().sum().item() == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(rows, columns.T)


def test_w_does_not_see_the_intensity() -> None:
    images = torch.rand(1, 3, 40, 50, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    for invariant, changes in (("W", False), ("E", True)):
        layer = CIConv(invariant)
        inner = (slice(None), slice(None), slice(6, -6), slice(6, -6))
        with torch.no_grad():
            # Before the instance norm: it would hide a factor for E, too.
            full, half = (functional.conv2d(image, layer.get_buffer("_colours")) for image in (images, images * 0.5))
            maps = [
                functional.conv2d(colours, layer.kernels().repeat(3, 1, 1, 1), padding=4, groups=3)
                for colours in (full, half)
            ]
            first, second = (_invariant(invariant, item)[inner] for item in maps)
        assert ((first - second).abs().max() / first.max() > 1e-2) == changes


def test_w_is_its_definition_in_the_middle_of_a_small_image() -> None:
    image = torch.rand(3, 9, 9, generator=torch.Generator().manual_seed(1)) + 0.2
    colours = torch.einsum("kc,cyx->kyx", torch.tensor(COLOUR_MODEL), image)
    at = torch.arange(-4.0, 5.0)
    bell = torch.exp(-(at[:, None] ** 2 + at[None] ** 2) / 2)
    smooth = bell / bell.sum()
    slope = at[:, None] * bell
    slope = slope / slope.abs().sum()
    intensity = (colours[0] * smooth).sum() + 1e-5
    parts = [(plane * kernel).sum() / intensity for plane in colours for kernel in (slope, slope.T)]
    expected = math.log(float(sum(part**2 for part in parts)) + 1e-5)
    layer = CIConv("W")
    with torch.no_grad():
        maps = functional.conv2d(colours[None], layer.kernels().repeat(3, 1, 1, 1), padding=4, groups=3)
        seen = torch.log(_invariant("W", maps) + EPS)[0, 0, 4, 4]
        found = layer(image[None])
    assert seen.item() == pytest.approx(expected, abs=1e-4)
    assert found.mean().item() == pytest.approx(0, abs=1e-5)
    assert found.var(correction=0).item() == pytest.approx(1, abs=1e-3)


def test_the_scale_learns_and_eval_takes_it_over_for_graphs() -> None:
    model = create_embedder("ciconv_resnet18", width=8)
    assert {"ciconv.scale", "features.0.weight", "pool.p"} <= set(model.state_dict())
    assert model.state_dict()["features.0.weight"].shape == (8, 1, 7, 7)
    model(torch.rand(2, 3, 48, 48)).square()[:, 0].sum().backward()
    assert model.ciconv.scale.grad.abs().item() > 0
    with torch.no_grad():
        model.ciconv.scale.fill_(1.0)
    assert model.eval().ciconv.get_buffer("_kernels").shape[-1] == 15


def test_bad_options_are_refused() -> None:
    with pytest.raises(ModelError, match="choose one of W, E"):
        create_embedder("ciconv_resnet18", width=8, invariant="X")
    with pytest.raises(ModelError, match="divide by the intensity"):
        create_embedder("ciconv_resnet18", width=8, mean=(0.485, 0.456, 0.406))
