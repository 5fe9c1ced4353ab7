"""Networks of several parts: ensembles, the normalising U-Net, edges in front, and backbones of timm."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from torch import nn

from gloam.errors import MissingExtraError, ModelError
from gloam.networks.clahe import ClaheLayer
from gloam.networks.embedders import DescriptorPipeline, create_embedder
from gloam.networks.embedders.edge_mac import EdgeFilter, SobelEdges
from gloam.networks.embedders.ensemble import Ensemble
from tests.networks.embedders.test_embedders import INSIDE, SMALL_VGG, randomized


@torch.no_grad()
def test_an_ensemble_is_its_members_side_by_side() -> None:
    first = randomized("gem_vgg16", **SMALL_VGG)
    second = DescriptorPipeline(randomized("gem_resnet18", width=8, mean=(0.5,) * 3), scales=(1.0, 0.5)).eval()
    images = torch.randint(0, 256, (2, 64, 80, 3), dtype=torch.uint8)
    joined = torch.cat([first.describe_uint8(images), second.describe_uint8(images)], 1)
    ensemble = Ensemble([first, second]).eval()
    torch.testing.assert_close(ensemble.describe_uint8(images), joined / 2**0.5, atol=2e-6, rtol=0)
    rebuilt = create_embedder("ensemble", **ensemble.options)
    assert isinstance(rebuilt, Ensemble)
    rebuilt.load_state_dict(ensemble.state_dict())
    torch.testing.assert_close(rebuilt.eval().describe_uint8(images), ensemble.describe_uint8(images))


def test_a_member_does_not_normalise_the_light_for_itself() -> None:
    member = DescriptorPipeline(randomized("gem_vgg16", **SMALL_VGG), clahe=ClaheLayer())
    with pytest.raises(ModelError, match="around the ensemble"):
        Ensemble([member, member])
    with pytest.raises(ModelError, match="around the normalising U-Net"):
        create_embedder("photometric_unet", embedder={**INSIDE, "options": member.options})


@pytest.mark.parametrize("size", [(64, 48), (65, 49), (33, 90)], ids=str)
def test_the_unet_gives_an_image_of_the_same_size(size: tuple[int, int]) -> None:
    model = randomized("photometric_unet", embedder=INSIDE, levels=4, width=8)
    images = torch.rand(2, 3, *size) * 2 - 1
    lit = model.relight(images)
    assert lit.shape == images.shape
    assert lit.abs().max() <= 1
    if size == (64, 48):
        torch.testing.assert_close(lit, model.unet(images))
    model.train()(images).square()[:, 0].sum().backward()
    assert next(model.unet.parameters()).grad is not None  # trained together


def test_the_edge_filter_is_its_formula() -> None:
    layer = EdgeFilter()
    x = torch.tensor([0.0, 0.05, 0.0999, 0.1001, 0.5, 1.0])
    below, above = layer(x)[:3], layer(x)[3:]
    assert below.max() < above.min()
    torch.testing.assert_close(layer(x)[5], torch.tensor(10.0))
    torch.testing.assert_close(layer(torch.tensor([0.1])), torch.tensor([10 * 0.1**0.5 / 2]))
    with torch.no_grad():
        layer.tau.fill_(5.0)
    torch.testing.assert_close(layer(torch.tensor([0.9])), torch.tensor([10 * 0.9**0.5 / 2]))


def test_sobel_finds_a_step_and_nothing_on_a_plain() -> None:
    image = -torch.ones(1, 3, 8, 8)
    assert SobelEdges()(image).max() <= 1e-5
    image[..., 4:] = 1.0
    edges = SobelEdges()(image)[0, 0]
    torch.testing.assert_close(edges[:, 3:5], torch.ones(8, 2), atol=1e-5, rtol=0)
    assert edges[:, :3].max() <= 1e-5


def test_a_detector_is_checked_as_any_other() -> None:
    with pytest.raises(ModelError, match="Sobel edges have no options"):
        create_embedder("edgemac_vgg16", **SMALL_VGG, detector_options={"width": 4})
    with pytest.raises(ModelError, match="edge detector hed does not take"):
        create_embedder("hedmac_vgg16", **SMALL_VGG, detector_options={"depth": 4})


class FakeBackbone(nn.Sequential):
    """What timm gives for a convolutional network."""

    num_features = 6
    pretrained_cfg: ClassVar = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


def fake_timm(name: str, **options: object) -> nn.Module:
    if name == "absent":
        raise RuntimeError("Unknown model (absent)\nmore")
    layers: list[nn.Module] = [nn.Conv2d(3, 6, 3, 2)]
    return FakeBackbone(*layers, *([nn.Flatten(2)] if name == "tokens" else []))


def test_timm_backbones_where_timm_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match="pip install timm"):
        create_embedder("timm:resnet10t")
    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=fake_timm))
    model = create_embedder("timm:resnet10t", p=2.0).eval()
    assert (model.name, model.dimension, model.mean, model.std) == ("timm:resnet10t", 6, (0.5,) * 3, (0.25,) * 3)
    assert not model.padding_exact
    assert model(torch.rand(2, 3, 40, 50)).shape == (2, 6)
    with pytest.raises(ModelError, match="convolutional backbone"):
        create_embedder("timm:tokens")(torch.rand(2, 3, 40, 50))
    with pytest.raises(ModelError, match=r"timm does not build it \(Unknown model \(absent\)\)$"):
        create_embedder("timm:absent")
