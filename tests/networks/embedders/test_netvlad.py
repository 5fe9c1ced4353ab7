"""The matrix form is the sum of residuals, and the start is as sharp as it should be."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from gloam.errors import ModelError
from gloam.networks.embedders.netvlad import NetVLAD
from gloam.networks.masks import Masks


def residual_sum(layer: NetVLAD, x: torch.Tensor) -> torch.Tensor:
    """NetVLAD as the paper writes it, cluster by cluster and cell by cell."""
    cells = functional.normalize(x, dim=0).flatten(1).T
    bias = torch.zeros(len(layer.centroids)) if layer.conv.bias is None else layer.conv.bias
    rows = []
    for k, centre in enumerate(layer.centroids):
        total = torch.zeros_like(centre)
        for cell in cells:
            weight = torch.softmax(layer.conv.weight[:, :, 0, 0] @ cell + bias, 0)[k]
            total = total + weight * (cell - centre)
        rows.append(total / total.norm())
    stacked = torch.cat(rows)
    return stacked / stacked.norm()


@pytest.mark.parametrize("bias", [False, True])
def test_the_matrix_form_is_the_sum_of_residuals(bias: bool) -> None:
    torch.manual_seed(0)
    layer, x = NetVLAD(5, 7, bias), torch.randn(2, 7, 4, 6)
    with torch.no_grad():
        expected = torch.stack([residual_sum(layer, item) for item in x])
        torch.testing.assert_close(layer(x), expected, atol=3e-6, rtol=0)


def test_cells_beyond_the_masks_belong_to_no_cluster() -> None:
    torch.manual_seed(1)
    layer, x = NetVLAD(5, 7), torch.randn(2, 7, 4, 6)
    masks = Masks.of(torch.tensor([3, 4]), torch.tensor([6, 2]), x)
    with torch.no_grad():
        native = torch.cat([layer(x[:1, :, :3]), layer(x[1:, :, :, :2])])
        torch.testing.assert_close(layer(x, masks), native, atol=1e-6, rtol=0)


def test_the_start_weighs_the_best_centre_a_hundredfold() -> None:
    torch.manual_seed(2)
    layer = NetVLAD(4, 16, bias=True)
    features = functional.normalize(torch.randn(200, 16), dim=1)
    centres = functional.normalize(torch.randn(4, 16), dim=1) * 0.5
    alpha = layer.initialize(centres, features)
    logits = features @ layer.conv.weight[:, :, 0, 0].T
    best = logits.topk(2, dim=1).values
    assert (best[:, 0] - best[:, 1]).mean().item() == pytest.approx(math.log(100), rel=1e-4)
    assert alpha > 0
    assert torch.equal(layer.centroids, centres)
    with pytest.raises(ModelError, match="4 centres of 16 values"):
        layer.initialize(centres[:3], features)
