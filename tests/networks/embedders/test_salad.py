"""SALAD and MegaLoc: transport that keeps its masses, exact under padding, sizes that the graph makes by itself."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.padding_exact import lively
from benchmarks.shared.tiny import TRANSFORMERS
from gloam.errors import ModelError
from gloam.model_card import LITERATURE, InputRule
from gloam.networks.embedders import create_embedder
from gloam.networks.embedders.fitting import Fitting
from gloam.networks.embedders.salad import Salad, assignment
from gloam.networks.masks import Masks

SIZES = ((56, 98), (126, 84), (42, 126), (70, 70))  # height, width
SIDE = 140


def tiny(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return lively(create_embedder(name, **{**TRANSFORMERS[name], **options}))


def images(count: int, height: int = SIDE, width: int = SIDE) -> Tensor:
    seeded = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=seeded)


def plain(pool: Salad, token: Tensor, patches: Tensor) -> Tensor:
    """One image as the paper has it, in float64, cluster by cluster."""
    pool = pool.double()
    with torch.no_grad():
        scores, values = (part(patches.double()).flatten(2)[0] for part in (pool.score, pool.cluster_features))
        first = functional.normalize(pool.token_features(token.double()), dim=1)
        clusters, cells = scores.shape
        scores = torch.cat((scores, pool.dust_bin.expand(1, cells)))
        rows = torch.tensor([1.0] * clusters + [cells - clusters], dtype=torch.float64).log() - math.log(
            cells + clusters
        )
        columns = torch.full((cells,), -math.log(cells + clusters), dtype=torch.float64)
        u, v = torch.zeros(clusters + 1, dtype=torch.float64), torch.zeros(cells, dtype=torch.float64)
        for _ in range(3):
            u = rows - (scores + v).logsumexp(1)
            v = columns - (scores + u[:, None]).logsumexp(0)
        moved = (scores + u[:, None] + v + math.log(cells + clusters)).exp()
        kept = [functional.normalize(values @ moved[cluster], dim=0) for cluster in range(clusters)]
        vector = torch.stack(kept, 1).flatten()  # feature-major
        return functional.normalize(torch.cat((first[0], vector)), dim=0)


@pytest.mark.parametrize("size", [(5, 7), (4, 4), (13, 2)], ids=str)
def test_the_aggregator_is_the_paper_s(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    pool = Salad(16, clusters=4, dimension=6, token=5, hidden=8).eval()
    token, patches = torch.randn(1, 16), torch.randn(1, 16, *size)
    with torch.no_grad():
        found = pool(token, patches)[0]
    assert found.shape == (5 + 4 * 6,)
    assert (found - plain(pool, token, patches)).abs().max() <= 2e-6


def test_columns_sum_to_one_and_clusters_to_about_one() -> None:
    scores = torch.randn(2, 4, 60, generator=torch.Generator().manual_seed(0))
    inside = (torch.arange(60) < torch.tensor([[60], [23]])).float()[:, None]
    moved = assignment(scores, torch.tensor(0.3), torch.tensor([60.0, 23.0]), inside)
    assert (moved.sum(1) - inside[:, 0]).abs().max() <= 1e-6
    assert (moved[:, :-1].sum(2) - 1).abs().max() <= 0.1
    alone = assignment(scores[1:, :, :23], torch.tensor(0.3), torch.tensor([23.0]), None)
    assert (moved[1:, :, :23] - alone).abs().max() <= 1e-6


@pytest.mark.parametrize(("name", "options"), [("salad_dinov2", {}), ("salad_dinov2", {"linear": 24}), ("megaloc", {})])
def test_padding_changes_nothing_and_without_masks_it_would(name: str, options: dict[str, Any]) -> None:
    model = tiny(name, **options)
    given = images(len(SIZES))
    with torch.no_grad():
        together = model.describe_uint8(given, torch.tensor(SIZES, dtype=torch.int32))
        alone = torch.cat([model.describe_uint8(given[i : i + 1, :h, :w]) for i, (h, w) in enumerate(SIZES)])
        unmasked = model.describe_uint8(given)
    assert (together - alone).abs().max() <= 1e-5
    assert (unmasked - alone).abs().amax(1).min() >= 1e-2
    torch.testing.assert_close(alone.norm(dim=1), torch.ones(len(SIZES)))


def test_each_image_s_own_count_of_patches_is_taken() -> None:
    """The masses of the padded shape in place of each image's would show."""
    model = tiny("salad_dinov2")
    x, sizes = model.normalize(images(1)), torch.tensor([[56, 98]])
    masks = Masks.of(sizes[:, 0], sizes[:, 1], x)
    with torch.no_grad():
        token, patches, cells = model.features(x, masks)
        right = model.pool(token, patches, cells)
        whole = Masks(torch.tensor([10]), torch.tensor([10]), cells.rows, cells.columns, cells.inside)
        assert (model.pool(token, patches, whole) - right).abs().max() >= 1e-3


@pytest.mark.parametrize("name", ["salad_dinov2", "megaloc"])
def test_an_image_alone_is_the_image_among_others(name: str) -> None:
    model = tiny(name)
    given = images(32, 84, 56)
    with torch.no_grad():
        together = model.describe_uint8(given)
        alone = torch.cat([model.describe_uint8(given[row : row + 1]) for row in range(32)])
    assert (together - alone).abs().max() <= 1e-6
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_as_many_patches_as_clusters_are_refused() -> None:
    with torch.device("meta"):
        assert [create_embedder(name).smallest_side for name in ("salad_dinov2", "megaloc")] == [126, 126]
    model = tiny("salad_dinov2")
    with pytest.raises(ModelError, match="a side of 28 px; 42 px at least, so that there are more patches than its 4"):
        model.describe_uint8(images(1, 28, 140))
    with pytest.raises(ModelError, match="a side of 28 px; 42 px at least"):
        model.describe_uint8(images(1), torch.tensor([[140, 28]], dtype=torch.int32))


def test_published_sizes_and_rules() -> None:
    with torch.device("meta"):
        salad, mega = create_embedder("salad_dinov2"), create_embedder("megaloc")
    assert (salad.dimension, mega.dimension) == (8448, 8448)
    counts = [sum(values.numel() for values in model.parameters()) / 1e6 for model in (salad, mega)]
    assert [round(count, 1) for count in counts] == [88.0, 228.6]
    assert salad.input_rule == InputRule(None, (322, 322), "bilinear", True)
    assert (mega.input_rule, mega.cell, salad.cell) == (LITERATURE, 1, 14)
    assert salad.options["resize"] is None
    assert mega.options["resize"] == "multiple-14"
    for bad in ("multiple-16", "320x320", "nearest"):
        with pytest.raises(ModelError, match=f"resize '{bad}'"):
            tiny("salad_dinov2", resize=bad)


@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("name", "size", "wanted"),
    [
        ("multiple-14", (271, 362), (266, 364)),
        ("multiple-14", (133, 147), (140, 140)),  # halves go to the even number
        ("multiple-14", (140, 98), (140, 98)),
        ("56x42", (97, 131), (42, 56)),
    ],
)
def test_the_graph_resizes_as_torch_does(name: str, kind: Any, size: tuple[int, int], wanted: tuple[int, int]) -> None:
    fitting = Fitting.named(name, kind)
    given = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    resized, masks = fitting(given)
    height, width = wanted if masks is None else (int(masks.heights[0]), int(masks.widths[0]))
    assert (height, width) == wanted
    expected = functional.interpolate(given, wanted, mode=kind, antialias=True)
    assert (resized[..., :height, :width] - expected).abs().max() <= 1e-5
    padded = torch.full((2, 3, 400, 400), 7.0)
    padded[..., : size[0], : size[1]] = given
    sizes = torch.tensor([size] * 2)
    found, _ = fitting(padded, Masks.of(sizes[:, 0], sizes[:, 1], padded))
    assert (found[..., :height, :width] - expected).abs().max() <= 1e-5
    assert found.isfinite().all()
    if size == wanted:
        assert torch.equal(resized[..., :height, :width], given)
