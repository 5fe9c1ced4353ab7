"""CosPlace's graph, which EigenPlaces shares, and AP-GeM's: by their rules, exact under padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.padding_exact import lively
from gloam.errors import ModelError
from gloam.model_card import LITERATURE, NATIVE
from gloam.networks.embedders import create_embedder
from gloam.networks.embedders.gem_linear import NETWORKS

VGG: dict[str, Any] = {"stages": ((8, 1), (16, 2), (16, 1))}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("cosplace_vgg16", {**VGG, "dimension": 6}),
    ("cosplace_resnet50", {"width": 8, "dimension": 12}),
    ("apgem_resnet50", {"width": 8}),
]
SIZES = ((65, 127), (128, 96), (33, 128))  # height, width


def tiny(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    model = lively(create_embedder(name, **options))
    with torch.no_grad():
        model.pool.p.fill_(2.7)
    return model


def images() -> Tensor:
    return torch.randint(0, 256, (3, 128, 128, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_padding_changes_nothing_and_the_rule_is_the_authors(name: str, options: dict[str, Any]) -> None:
    model = tiny(name, **options)
    given = images()
    with torch.no_grad():
        together = model.describe_uint8(given, torch.tensor(SIZES, dtype=torch.int32))
        unmasked = model.describe_uint8(given)
        for row, (height, width) in enumerate(SIZES):
            whole = given[row : row + 1, :height, :width]
            cells = model.features(model.normalize(whole), None)[0]
            assert bool((cells < 0).any()) == (name == "cosplace_vgg16")  # its last convolution is not rectified
            if name.startswith("cosplace"):
                cells = cells / cells.norm(dim=1, keepdim=True)
            pooled = functional.avg_pool2d(cells.clamp(min=1e-6) ** 2.7, cells.shape[2:])[:, :, 0, 0] ** (1 / 2.7)
            expected = functional.normalize(pooled @ model.fc.weight.T + model.fc.bias, dim=1)
            found = model.describe_uint8(whole)
            assert (found - expected).abs().max() <= 2e-6
            assert (together[row] - found[0]).abs().max() <= 1e-6
            assert (unmasked[row] - found[0]).abs().max() > 1e-4
    assert model.pooling == {"name": "gem", "p": 2.7}


def test_published_sizes_and_rules() -> None:
    with torch.device("meta"):
        small = create_embedder("cosplace_resnet18")
        large = create_embedder("cosplace_resnet50", dimension=2048)
        other = create_embedder("apgem_resnet101")
    counts = [sum(values.numel() for values in model.parameters()) / 1e6 for model in (small, large, other)]
    assert [round(count, 1) for count in counts] == [11.4, 27.7, 46.7]
    assert (small.input_rule, other.input_rule) == (NATIVE, LITERATURE)
    assert set(NETWORKS) == {
        "cosplace_vgg16", *(f"cosplace_resnet{n}" for n in (18, 50, 101, 152)), "apgem_resnet50", "apgem_resnet101"
    }  # fmt: skip
    with pytest.raises(ModelError, match="dimension 0 must be positive"):
        create_embedder("cosplace_resnet18", dimension=0)
