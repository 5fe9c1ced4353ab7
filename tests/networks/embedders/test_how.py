"""HOW: published layout, training descriptor under padding, local features of several scales, PCA initialisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from gloam.errors import DataError, ModelError
from gloam.networks.embedders.how import HOW, SCALES, how_resnet18, how_resnet50_minus, whole_side
from gloam.networks.embedders.resnet import BasicBlock, ResNet
from gloam.training.embedders.how_init import whiten_cells
from gloam.training.embedders.losses import contrastive_loss


def tiny(dimension: int = 16, seed: int = 0) -> HOW:
    """Two stages of eight and sixteen channels; batch norms that do something."""
    torch.manual_seed(seed)
    features = ResNet(BasicBlock, (1, 1, 1, 1), 8)
    del features[6:]
    features.dimension = 16
    model = HOW("how_resnet18", features, stride=8, dimension=dimension)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.bias):
                assert values is not None
                nn.init.normal_(values, 0, 0.3)
    assert model.dim_reduction.bias is not None
    nn.init.normal_(model.dim_reduction.bias)
    return model.eval()


def images(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    values = np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    return torch.from_numpy(values)


def test_layout_and_parameter_counts_are_the_published_ones() -> None:
    small, large = how_resnet18(), how_resnet50_minus()
    assert sum(parameter.numel() for parameter in small.parameters()) == 11_176_512 + 128 * 512 + 128
    assert small.state_dict()["dim_reduction.weight"].shape == (128, 512, 1, 1)
    assert "features.7.1.bn2.running_var" in small.state_dict()
    assert large.state_dict()["dim_reduction.weight"].shape == (128, 1024, 1, 1)
    assert "features.6.5.conv3.weight" in large.state_dict()
    assert not any(key.startswith("features.7.") for key in large.state_dict())
    assert (small.options, small.dimension) == ({"width": 64, "dimension": 128}, 128)


def test_the_training_descriptor_is_the_plain_sum() -> None:
    model = tiny()
    batch = images(1, 70, 90)
    with torch.no_grad():
        cells, _ = model.features(model.normalize(batch), None)
        found = model.describe_uint8(batch)[0]
    _, height, width = cells[0].shape
    total = torch.zeros(16)
    weight, bias = model.dim_reduction.weight[:, :, 0, 0], model.dim_reduction.bias
    assert bias is not None
    for y in range(height):
        for x in range(width):
            window = cells[0, :, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
            total += cells[0, :, y, x].norm() * (weight @ window.mean((1, 2)) + bias).detach()
    torch.testing.assert_close(found, total / total.norm(), atol=1e-5, rtol=0)


def test_padding_changes_no_training_descriptor() -> None:
    model = tiny()
    batch = images(3, 120, 136)
    sizes = torch.tensor(((120, 136), (97, 63), (33, 130)), dtype=torch.int32)
    with torch.no_grad():
        padded = model.describe_uint8(batch, sizes)
        for row, (height, width) in enumerate(sizes.tolist()):
            alone = model.describe_uint8(batch[row : row + 1, :height, :width])[0]
            assert (padded[row] - alone).abs().max() <= 1e-6


def test_one_scale_of_local_features_is_the_training_map() -> None:
    model = tiny()
    batch = images(2, 64, 96)
    with torch.no_grad():
        features, attention, positions, scales = model.local_features(batch, (1.0,))
        cells, strengths, _ = model.cells(model.normalize(batch))
    assert torch.equal(features, cells.flatten(2).transpose(1, 2))
    torch.testing.assert_close(attention * strengths.flatten(1).amax(1, keepdim=True), strengths.flatten(1))
    assert positions[:2].tolist() == [[3.5, 3.5], [11.5, 3.5]]
    assert positions.max(0).values.tolist() == [91.5, 59.5]
    assert scales.tolist() == [1.0] * 96


def test_attention_is_relative_to_the_strongest_cell_of_all_scales() -> None:
    with torch.no_grad():
        features, attention, positions, scales = tiny().local_features(images(2, 64, 96), (2.0, 1.0, 0.5))
    assert features.shape == (2, 384 + 96 + 24, 16)
    assert attention.amax(1).tolist() == [1.0, 1.0]
    for scale in (2.0, 1.0, 0.5):  # every scale's cells cover the same image
        centre = positions[scales == scale].mean(0)
        torch.testing.assert_close(centre, torch.tensor([47.5, 31.5]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("scale", [2.0, 1.414, 0.707, 0.353])
def test_a_scale_is_what_its_whole_sides_make_of_it(scale: float) -> None:
    """As the authors' code recomputes the factor; with the given one the last cells come from other places."""
    model, batch = tiny(), images(1, 97, 131)
    with torch.no_grad():
        features, attention, positions, _ = model.local_features(batch, (scale,))
        x = model.normalize(batch)
        resized = functional.interpolate(x, scale_factor=scale, mode="bilinear", recompute_scale_factor=True)
        cells, weights, _ = model.cells(resized)
        kept, _, _ = model.cells(functional.interpolate(x, scale_factor=scale, mode="bilinear"))
    assert resized.shape[2:] == (int(97 * scale), int(131 * scale))
    torch.testing.assert_close(features, cells.flatten(2).transpose(1, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(attention, (weights / weights.amax()).flatten(1), atol=1e-6, rtol=0)
    assert scale == 2.0 or (features - kept.flatten(2).transpose(1, 2)).abs().max() > 1e-3
    rows, columns = cells.shape[2:]
    ratio = torch.tensor((131 / resized.shape[3], 97 / resized.shape[2]))
    last = (torch.tensor((columns, rows)) - 0.5) * 8 * ratio - 0.5
    torch.testing.assert_close(positions[-1], last, atol=1e-4, rtol=0)


def test_whole_sides_of_the_published_scales_are_those_of_floating_point() -> None:
    for scale in SCALES:
        assert [whole_side(side, scale) for side in range(1, 16385)] == [int(side * scale) for side in range(1, 16385)]


def test_it_learns_as_any_global_descriptor_and_keeps_its_whitening() -> None:
    model = tiny()
    groups = model.parameter_groups()
    assert {id(item) for group in groups for item in group["params"]} == {id(item) for item in model.parameters()}
    optimizer = torch.optim.Adam([{"params": group["params"], "lr": 1e-3 * group["factor"]} for group in groups])
    batch, same = model.normalize(images(7, 64, 64)), torch.tensor([[1, 0, 0, 0, 0, 0]])
    before = model.dim_reduction.weight.clone()
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        descriptors = model(batch)
        loss = contrastive_loss(descriptors[:1], descriptors[None, 1:], same, margin=0.8)
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert torch.equal(model.dim_reduction.weight, before)


def test_initialised_cells_are_white() -> None:
    model = tiny(dimension=4)
    batches = [images(4, 64, 96, seed) for seed in range(3)]
    assert whiten_cells(model, batches, strongest=50) == 600
    with torch.no_grad():
        rows = []
        for batch in batches:
            features, attention, *_ = model.local_features(batch, (1.0,))
            strongest = attention.topk(50, 1).indices
            rows.append(features.gather(1, strongest[..., None].expand(-1, -1, 4)).flatten(0, 1))
    cells = torch.cat(rows).double()
    torch.testing.assert_close(cells.mean(0), torch.zeros(4, dtype=torch.float64), atol=1e-4, rtol=0)
    torch.testing.assert_close(cells.T @ cells / len(cells), torch.eye(4, dtype=torch.float64), atol=1e-3, rtol=0)


def test_a_whitening_of_another_dimension_or_of_nothing_is_refused() -> None:
    with pytest.raises(ModelError, match=r"whitening of shape \[4, 9\] where \[16, 16\] is needed"):
        tiny().set_whitening(torch.zeros(9), torch.zeros(4, 9))
    with pytest.raises(DataError, match="no images to learn the whitening"):
        whiten_cells(tiny(), [])
