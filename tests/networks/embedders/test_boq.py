"""BoQ: torch's own layers give the same, padding changes nothing, the graph makes the published squares."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.padding_exact import lively
from benchmarks.shared.tiny import TRANSFORMERS
from gloam.errors import ModelError
from gloam.model_card import NATIVE
from gloam.networks.embedders import create_embedder
from gloam.networks.embedders.boq import BoQ

SIZES = {  # height, width
    "boq_dinov2": ((56, 98), (126, 84), (28, 126), (70, 70)),
    "boq_resnet50": ((65, 127), (128, 96), (33, 128), (70, 70)),
}


def tiny(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return lively(create_embedder(name, **{**TRANSFORMERS[name], **options}))


def images(count: int, height: int, width: int) -> Tensor:
    seeded = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=seeded)


def plain(pool: BoQ, x: Tensor) -> Tensor:
    """A map by torch's own encoder layers and attention, filled with the same keys."""
    width, heads = pool.proj_c.out_channels, pool.boqs[0].cross_attn.heads
    with torch.no_grad():
        cells = pool.norm_input(pool.proj_c(x).flatten(2).transpose(1, 2))
        found = []
        for block in pool.boqs:
            encoder = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0, batch_first=True)
            encoder.load_state_dict(block.encoder.state_dict())
            own, cross = (nn.MultiheadAttention(width, heads, batch_first=True) for _ in range(2))
            own.load_state_dict(block.self_attn.state_dict())
            cross.load_state_dict(block.cross_attn.state_dict())
            cells = encoder.eval()(cells)
            queries = block.queries.expand(len(x), -1, -1)
            queries = block.norm_q(queries + own(queries, queries, queries)[0])
            found.append(block.norm_out(cross(queries, cells, cells)[0]))
        return functional.normalize(pool.fc(torch.cat(found, 1).transpose(1, 2)).flatten(1), dim=1)


@pytest.mark.parametrize("width", [16, 128])
def test_the_aggregator_is_torch_s_layers(width: int) -> None:
    torch.manual_seed(0)
    pool = BoQ(12, width, queries=5, blocks=2, rows=3).eval()
    for values in pool.parameters():
        nn.init.normal_(values, 0, 0.2)
    x = torch.randn(2, 12, 5, 7)
    with torch.no_grad():
        found = pool(x)
    assert found.shape == (2, width * 3)
    assert (found - plain(pool, x)).abs().max() <= 2e-6


@pytest.mark.parametrize("name", SIZES)
def test_padding_changes_nothing_and_without_masks_it_would(name: str) -> None:
    model, sizes = tiny(name, resize=None), SIZES[name]
    given = images(len(sizes), 140, 140)
    with torch.no_grad():
        together = model.describe_uint8(given, torch.tensor(sizes, dtype=torch.int32))
        alone = torch.cat([model.describe_uint8(given[i : i + 1, :h, :w]) for i, (h, w) in enumerate(sizes)])
        unmasked = model.describe_uint8(given)
    assert (together - alone).abs().max() <= 1e-5
    assert (unmasked - alone).abs().amax(1).min() >= 1e-2
    torch.testing.assert_close(alone.norm(dim=1), torch.ones(len(sizes)))


@pytest.mark.parametrize("name", SIZES)
def test_the_graph_s_own_square_is_torch_s(name: str) -> None:
    """Bicubic with antialias on floats, of images of any size, padded or not; and in any batch."""
    model, bare = tiny(name), tiny(name, resize=None)
    bare.load_state_dict(model.state_dict())
    assert (model.cell, model.input_rule) == (1, NATIVE)
    sizes = ((97, 131), (60, 45))
    given = images(2, 140, 140)
    with torch.no_grad():
        together = model.describe_uint8(given, torch.tensor(sizes, dtype=torch.int32))
        for row, (height, width) in enumerate(sizes):
            whole = given[row : row + 1, :height, :width]
            side = model.fitting.stretch
            squared = functional.interpolate(model.normalize(whole), side[::-1], mode="bicubic", antialias=True)
            expected = bare(squared)
            assert (model.describe_uint8(whole) - expected).abs().max() <= 1e-5
            assert (together[row] - expected[0]).abs().max() <= 1e-5


@pytest.mark.parametrize("name", SIZES)
def test_an_image_alone_is_the_image_among_others(name: str) -> None:
    model = tiny(name)
    given = images(32, 84, 56)
    with torch.no_grad():
        together = model.describe_uint8(given)
        alone = torch.cat([model.describe_uint8(given[row : row + 1]) for row in range(32)])
    assert (together - alone).abs().max() <= 1e-6
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_published_sizes() -> None:
    with torch.device("meta"):
        models = {name: create_embedder(name) for name in SIZES}
    counts = {name: sum(values.numel() for values in model.parameters()) / 1e6 for name, model in models.items()}
    assert {name: model.dimension for name, model in models.items()} == {"boq_dinov2": 12288, "boq_resnet50": 16384}
    assert {name: round(count, 1) for name, count in counts.items()} == {"boq_dinov2": 95.2, "boq_resnet50": 23.8}
    assert {name: model.options["resize"] for name, model in models.items()} == {
        "boq_dinov2": "322x322",
        "boq_resnet50": "384x384",
    }
    with pytest.raises(ModelError, match="resize '320x320' leaves sides that are no multiples of 14 px"):
        tiny("boq_dinov2", resize="320x320")
