"""Networks of local features against plain twins: the papers' layers written out over the keys of their weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gloam.networks.local_features import create_extractor
from gloam.networks.local_features.aliked import to_multiple
from gloam.networks.local_features.base import LocalFeatureNetwork
from gloam.networks.local_features.norm import InstanceNorm
from gloam.networks.local_features.r2d2 import R2D2


def alive(name: str, **options: str) -> LocalFeatureNetwork:
    """A network in which no norm, slope or bias is what it would be without training."""
    torch.manual_seed(0)
    model = create_extractor(name, **options).eval()
    for key, value in model.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif value.dim() == 1 and value.is_floating_point():
            value.uniform_(-0.3, 0.6)
    return model


class Layers:
    """Layers of a state dict, by name."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.weights = model.state_dict()

    def conv(self, name: str, x: Tensor, padding: int = 0, dilation: int = 1, stride: int = 1) -> Tensor:
        return functional.conv2d(
            x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"), stride, padding, dilation
        )

    def norm(self, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
        """By its definition, with the statistics that are kept."""
        mean, deviation = self.weights[f"{name}.running_mean"], (self.weights[f"{name}.running_var"] + eps).sqrt()
        y = (x - mean[:, None, None]) / deviation[:, None, None]
        if f"{name}.weight" not in self.weights:
            return y
        return y * self.weights[f"{name}.weight"][:, None, None] + self.weights[f"{name}.bias"][:, None, None]


def images(height: int, width: int, batch: int = 2) -> Tensor:
    return torch.from_numpy(np.random.default_rng(1).random((batch, 3, height, width)).astype(np.float32))


def equal(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("size", [(7, 12), (16, 16), (1, 5)])
def test_the_norm_is_of_each_channel_of_each_image(size: tuple[int, int]) -> None:
    x = 3 * torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0)) + 5
    torch.testing.assert_close(InstanceNorm()(x), functional.instance_norm(x, eps=1e-5), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(32, 64), (33, 95), (47, 83), (5, 100)])
def test_the_border_is_repeated_on_both_sides(size: tuple[int, int]) -> None:
    given = images(*size)
    found, top, left = to_multiple(given)
    high, wide = (-(-side // 32) * 32 for side in size)
    assert (top, left) == ((high - size[0]) // 2, (wide - size[1]) // 2)
    pads = ((0, 0), (0, 0), (top, high - size[0] - top), (left, wide - size[1] - left))
    np.testing.assert_array_equal(found.numpy(), np.pad(given.numpy(), pads, mode="edge"))


def test_alike() -> None:
    size = (47, 83)
    model = alive("alike", variant="t")
    layers, given = Layers(model), images(*size)
    x = functional.pad(given, (0, -size[1] % 32, 0, -size[0] % 32))
    full = x.shape[2:]
    levels = []
    for level, step in enumerate((1, 2, 4, 4), 1):
        name = f"block{level}"
        x = functional.max_pool2d(x, step) if step > 1 else x
        y = functional.relu(layers.norm(f"{name}.bn1", layers.conv(f"{name}.conv1", x, 1)))
        y = layers.norm(f"{name}.bn2", layers.conv(f"{name}.conv2", y, 1))
        x = functional.relu(y + layers.conv(f"{name}.downsample", x) if level > 1 else y)
        part = functional.relu(layers.conv(f"conv{level}", x))
        levels.append(functional.interpolate(part, full, mode="bilinear", align_corners=True) if level > 1 else part)
    heads = layers.conv("convhead2", torch.cat(levels, 1))[..., : size[0], : size[1]]
    features = heads[:, :-1] / heads[:, :-1].norm(dim=1, keepdim=True)
    with torch.no_grad():
        equal(model.maps(given), (1 / (1 + (-heads[:, -1]).exp()), features))  # type: ignore[operator]  # its own method


def test_maps_of_aliked_are_of_the_image_alone() -> None:
    with torch.no_grad():
        scores, features = alive("aliked", variant="t16").maps(images(47, 83))  # type: ignore[operator]  # as above
    assert (scores.shape, features.shape) == ((2, 47, 83), (2, 64, 47, 83))
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2, 47, 83))
    assert 0 < float(scores.min()) < float(scores.max()) < 1


@pytest.mark.parametrize("size", [(48, 64), (47, 83)])
def test_disk(size: tuple[int, int]) -> None:
    model = alive("disk")
    layers, given = Layers(model), images(*size)
    high, wide = (-(-side // 16) * 16 for side in size)
    x = torch.zeros(2, 3, high, wide)
    x[:, :, : size[0], : size[1]] = given

    def block(name: str, x: Tensor) -> Tensor:
        if f"{name}.1.weight" in layers.weights:
            slopes = layers.weights[f"{name}.1.weight"][:, None, None]
            x = functional.instance_norm(x, eps=1e-5)
            x = torch.where(x > 0, x, slopes * x)
        return layers.conv(f"{name}.3", x, 2)

    down = []
    for level in range(5):
        x = block(f"unet.path_down.{level}.1", functional.avg_pool2d(x, 2) if level else x)
        down.append(x)
    assert "unet.path_down.0.1.1.weight" not in layers.weights
    for level in range(4):
        fine = down[3 - level]
        larger = functional.interpolate(x, fine.shape[2:], mode="bilinear", align_corners=False)
        x = block(f"unet.path_up.{level}.conv", torch.cat((larger, fine), 1))
    x = x[:, :, : size[0], : size[1]]
    with torch.no_grad():
        equal(model.maps(given), (x[:, -1], x[:, :-1]))  # type: ignore[operator]  # as above


def test_r2d2() -> None:
    model = alive("r2d2")
    layers, given = Layers(model), images(40, 52)
    x, at = given, 0
    for dilation in (1, 1, 1, 2, 2, 4):
        x = layers.norm(f"ops.{at + 1}", layers.conv(f"ops.{at}", x, dilation, dilation))
        x, at = functional.relu(x), at + 3
    for dilation in (4, 8):
        x = layers.norm(f"ops.{at + 1}", layers.conv(f"ops.{at}", x, dilation // 2, dilation))
        at += 2
    x = layers.conv(f"ops.{at}", x, 8, 16)
    squared = x * x
    salience = (1 + layers.conv("sal", squared).exp()).log()[:, 0]
    two = layers.conv("clf", squared).exp()
    reliability = two[:, 1] / (two[:, 0] + two[:, 1])
    with torch.no_grad():
        features, reliable, repeatable = model.maps(given)  # type: ignore[operator]  # as above
    equal((features, reliable, repeatable), (x / x.norm(dim=1, keepdim=True), reliability, salience / (1 + salience)))


def test_keypoints_of_r2d2_are_reliable_and_repeatable_peaks_of_images_of_its_sizes() -> None:
    model = R2D2().eval()
    seen: list[Tensor] = []
    places = {(5, 9): (0.9, 0.9), (20, 30): (0.69, 0.9), (30, 9): (0.9, 0.69), (30, 30): (0.7, 0.7)}

    def maps(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        seen.append(x)
        reliability, repeatability = (torch.zeros(1, *x.shape[2:]) for _ in range(2))
        for (row, column), (reliable, repeatable) in places.items():
            if row < x.shape[2] and column < x.shape[3]:
                reliability[0, row, column], repeatability[0, row, column] = reliable, repeatable
                reliability[0, row, column + 1], repeatability[0, row, column + 1] = 1.0, repeatable - 0.01
        features = (
            torch.arange(128.0)[:, None, None] + torch.arange(x.shape[3]) / 1000 + torch.zeros(1, *x.shape[2:])[0]
        )
        return features[None], reliability, repeatability

    model.maps = maps  # type: ignore[method-assign]
    given = images(40, 60, batch=1)
    points, scores, descriptors, found = model(given, 5, 0.7)
    assert found[0].tolist() == [True, True, False, False, False]  # one scale of a small image
    assert points[0, :2].tolist() == [[9.0, 5.0], [30.0, 30.0]]
    assert scores[0, :2].tolist() == pytest.approx([0.81, 0.49])
    assert descriptors[0, :2, 3].tolist() == pytest.approx([3.009, 3.03])
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(seen[0], (given - mean[:, None, None]) / deviation[:, None, None])
    assert [tuple(x.shape[2:]) for x in seen[:3]] == [(40, 60), (34, 50), (28, 42)]
    smaller = functional.interpolate(seen[0], (34, 50), mode="bilinear", align_corners=False)
    torch.testing.assert_close(seen[1], smaller)


@pytest.mark.parametrize("layout", ["mit", "magicleap"])
def test_superpoint(layout: str) -> None:
    model = alive("superpoint", layout=layout)
    layers, given = Layers(model), images(49, 66)
    x = (0.299 * given[:, 0] + 0.587 * given[:, 1] + 0.114 * given[:, 2])[:, None]

    def block(name: str, x: Tensor, padding: int, relu: bool = True) -> Tensor:
        y = layers.conv(f"{name}.conv", x, padding)
        return layers.norm(f"{name}.bn", functional.relu(y) if relu else y, 1e-3)

    for level in range(4):
        for step in range(2):
            if layout == "mit":
                x = block(f"backbone.{level}.{step}", x, 1)
            else:
                x = functional.relu(layers.conv(f"conv{level + 1}{'ab'[step]}", x, 1))
        x = functional.max_pool2d(x, 2) if level < 3 else x
    heads = []
    for name, letter in (("detector", "P"), ("descriptor", "D")):
        if layout == "mit":
            heads.append(block(f"{name}.1", block(f"{name}.0", x, 1), 0, relu=False))
        else:
            heads.append(layers.conv(f"conv{letter}b", functional.relu(layers.conv(f"conv{letter}a", x, 1))))
    with torch.no_grad():
        equal(model.maps(given), (heads[0], heads[1] / heads[1].norm(dim=1, keepdim=True)))  # type: ignore[operator]


def test_xfeat() -> None:
    model = alive("xfeat")
    layers, given = Layers(model), images(64, 96)

    def layer(name: str, x: Tensor, stride: int = 1) -> Tensor:
        side = layers.weights[f"{name}.layer.0.weight"].shape[-1]
        return functional.relu(layers.norm(f"{name}.layer.1", layers.conv(f"{name}.layer.0", x, side // 2, 1, stride)))

    def block(name: str, x: Tensor, *strides: int) -> Tensor:
        for number, stride in enumerate(strides):
            x = layer(f"{name}.{number}", x, stride)
        return x

    grey = functional.instance_norm(given.mean(1, keepdim=True), eps=1e-5)
    x = block("block1", grey, 1, 2, 1, 2) + layers.conv("skip1.1", functional.avg_pool2d(grey, 4))
    third = block("block3", block("block2", x, 1, 1), 2, 1, 1)
    fourth = block("block4", third, 2, 1, 1)
    fifth = block("block5", fourth, 2, 1, 1, 1)
    coarse = [functional.interpolate(y, third.shape[2:], mode="bilinear", align_corners=False) for y in (fourth, fifth)]
    features = layers.conv("block_fusion.2", block("block_fusion", third + coarse[0] + coarse[1], 1, 1))
    reliability = layers.conv("heatmap_head.2", block("heatmap_head", features, 1, 1)).sigmoid()
    batch, _, height, width = grey.shape
    cells = grey.reshape(batch, height // 8, 8, width // 8, 8).permute(0, 2, 4, 1, 3).flatten(1, 2)
    logits = layers.conv("keypoint_head.3", block("keypoint_head", cells, 1, 1, 1))
    with torch.no_grad():
        equal(model.maps(given), (features, logits, reliability))  # type: ignore[operator]  # as above


def test_an_exported_graph_gives_the_network_an_image_between_0_and_1() -> None:
    class Noted(LocalFeatureNetwork):
        given = torch.zeros(0)

        def forward(self, images: Tensor, count: int, threshold: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            self.given = images
            assert (count, threshold) == (3, 0.25)
            points = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])
            described = torch.tensor([[[3.0, 4.0], [0.0, 2.0], [7.0, 7.0]]])
            return points, torch.tensor([[0.5, 0.4, 0.3]]), described, torch.tensor([[True, True, False]])

    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 5, 7, 3), dtype=np.uint8))
    network = Noted({}, 2)
    points, scores, descriptors, count = network.extract_uint8(pixels, 3, 0.25)
    torch.testing.assert_close(network.given, pixels.permute(0, 3, 1, 2).double().div(255).float())
    assert points.tolist() == [[[1, 2], [3, 4], [0, 0]]]
    assert scores[0].tolist() == pytest.approx([0.5, 0.4, 0])
    assert descriptors[0].flatten().tolist() == pytest.approx([0.6, 0.8, 0, 1, 0, 0])
    assert (count.tolist(), count.dtype) == ([2], torch.int64)
    with pytest.raises(TypeError, match="LocalFeatureNetwork defines no forward"):
        LocalFeatureNetwork({}, 2)(pixels, 1, 0.0)
