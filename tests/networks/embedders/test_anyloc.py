"""AnyLoc: facets and VLAD by the paper's rules, exact under padding, in any batch, as the exported file has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.padding_exact import lively
from benchmarks.shared.tiny import TRANSFORMERS
from gloam.errors import ModelError
from gloam.export.embedder import export_embedder
from gloam.networks.embedders import create_embedder
from gloam.networks.embedders.anyloc import VLAD
from gloam.networks.masks import Masks
from gloam.padding import PaddingProfile
from gloam.runtime.models.embedder import Embedder

SIZES = ((56, 98), (126, 84), (42, 126), (70, 70))  # height, width
SIDE = 140
FACETS = ("token", "query", "key", "value")
ASSIGNMENTS = ("hard", "soft")


def tiny(**options: Any) -> Any:
    torch.manual_seed(0)
    return lively(create_embedder("anyloc_vits14", **{**TRANSFORMERS["anyloc_vits14"], **options}))


def images(count: int, height: int = SIDE, width: int = SIDE) -> Tensor:
    seeded = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=seeded)


def plain_labels(cells: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Of each cell ``[n, D]``, the centre of the largest cosine."""
    cosines = [[cell @ centre / np.linalg.norm(cell) / np.linalg.norm(centre) for centre in centres] for cell in cells]
    return np.argmax(cosines, axis=1)


def plain_vlad(cells: np.ndarray, centres: np.ndarray, assignment: str) -> np.ndarray:
    """Cells ``[n, D]`` of one image to a descriptor, a cell and a centre at a time, in float64."""
    cells, centres = cells.astype(np.float64), centres.astype(np.float64)
    sums = np.zeros_like(centres)
    for cell in cells:
        cell = cell / np.linalg.norm(cell)
        cosines = np.array([cell @ centre / np.linalg.norm(centre) for centre in centres])
        shares = np.exp(cosines) / np.exp(cosines).sum()
        if assignment == "hard":
            shares = (np.arange(len(centres)) == cosines.argmax()).astype(float)
        for cluster, share in enumerate(shares):
            sums[cluster] += share * (cell - centres[cluster])
    for row in sums:
        if row.any():
            row /= np.linalg.norm(row)
    return sums.flatten() / np.linalg.norm(sums)


def by_hooks(model: Any, x: Tensor, facet: str) -> Tensor:
    """A facet ``[B, n, C]`` where torch's own layers leave it, with the class token and the registers dropped."""
    kept: dict[str, Tensor] = {}
    last = model.features.blocks[-1]
    for name, layer in (("token", last), ("qkv", last.attn.qkv)):
        layer.register_forward_hook(lambda _, __, out, name=name: kept.update({name: out}))
    model.features(x)
    if facet != "token":
        kept["query"], kept["key"], kept["value"] = kept["qkv"].split(x.new_zeros(model.features.dimension).numel(), 2)
    return kept[facet][:, 1 + model.features.options["registers"] :]


@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize("facet", FACETS)
def test_a_facet_is_what_the_last_block_s_layers_leave(facet: str, registers: int) -> None:
    model = tiny(facet=facet, registers=registers)
    x = model.normalize(images(2, 56, 98))
    with torch.no_grad():
        cells, masks = model.cells(x)
        expected = by_hooks(model, x, facet)
    assert masks is None
    assert cells.shape == (2, 32, 4, 7)
    assert torch.equal(cells.flatten(2).mT, expected)


def test_facets_and_blocks_differ() -> None:
    x = images(1, 56, 98)
    with torch.no_grad():
        found = [tiny(facet=facet).describe_uint8(x) for facet in FACETS] + [tiny(depth=1).describe_uint8(x)]
    for row, one in enumerate(found):
        assert all((one - other).abs().max() > 1e-2 for other in found[:row])


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_labels_and_vlad_are_the_paper_s(size: tuple[int, int], assignment: str) -> None:
    model = tiny(assignment=assignment, clusters=7)
    with torch.no_grad():
        # Means are not of length 1, and one of them is far from all cells.
        model.pool.centroids.mul_(torch.linspace(0.3, 1.2, 7)[:, None])
        cells = model.cells(model.normalize(images(1, *size)))[0]
        model.pool.centroids[3] = -functional.normalize(cells.flatten(2), dim=1).mean(2)[0]
        found = model.describe_uint8(images(1, *size))[0].numpy()
        shares = model.pool.assigned(functional.normalize(cells.flatten(2), dim=1))[0].numpy()
    centres, rows = model.pool.centroids.detach().numpy(), cells.flatten(2)[0].T.numpy()
    assert np.abs(found - plain_vlad(rows, centres, assignment)).max() <= 1e-5
    assert np.abs(shares.sum(0) - 1).max() <= 1e-6
    if assignment == "hard":
        assert np.array_equal(shares.argmax(0), plain_labels(rows, centres))
        assert len(set(shares.argmax(0))) > 2
        assert 3 not in shares.argmax(0)
        assert not found.reshape(7, -1)[3].any()  # a cluster without cells


def test_by_hand() -> None:
    pool = VLAD(2, 2)
    pool.initialize(torch.tensor([[0.5, 0.0], [0.0, 0.8]]))
    cells = torch.tensor([[2.0, 0.0], [0.6, 0.8], [0.0, 7.0]]).T.reshape(1, 2, 1, 3)
    # (1, 0) goes to the first centre and leaves (0.5, 0); (0.6, 0.8) and (0, 1) to the second and leave (0.6, 0.2).
    expected = np.array([1, 0, *(np.array([0.6, 0.2]) / np.hypot(0.6, 0.2))]) / np.sqrt(2)
    with torch.no_grad():
        assert np.allclose(pool(cells)[0].numpy(), expected, atol=1e-7)
    with pytest.raises(ModelError, match="2 centres of 2 values"):
        pool.initialize(torch.zeros(3, 2))


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
@pytest.mark.parametrize("registers", [0, 4])
def test_padding_changes_nothing_and_without_masks_it_would(registers: int, assignment: str) -> None:
    model = tiny(registers=registers, assignment=assignment)
    given = images(len(SIZES))  # noise beyond the valid sizes too
    with torch.no_grad():
        together = model.describe_uint8(given, torch.tensor(SIZES, dtype=torch.int32))
        alone = torch.cat([model.describe_uint8(given[i : i + 1, :h, :w]) for i, (h, w) in enumerate(SIZES)])
        unmasked = model.describe_uint8(given)
    assert (together - alone).abs().max() <= 1e-5
    assert (unmasked - alone).abs().amax(1).min() >= 1e-2
    torch.testing.assert_close(alone.norm(dim=1), torch.ones(len(SIZES)))


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_the_pooling_is_exact_in_float64_and_a_forgotten_mask_shows(assignment: str) -> None:
    torch.manual_seed(0)
    pool, sizes = VLAD(5, 16, assignment).double(), ((4, 7), (9, 6), (2, 9), (5, 5))
    x = torch.randn(4, 16, 10, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    heights, widths = (torch.tensor(side) for side in zip(*sizes, strict=True))
    with torch.no_grad():
        alone = torch.cat([pool(x[i : i + 1, :, :h, :w]) for i, (h, w) in enumerate(sizes)])
        assert (pool(x, Masks.of(heights, widths, x)) - alone).abs().max() <= 1e-12
        assert (pool(x) - alone).abs().amax(1).min() >= 1e-2
        for row, (h, w) in enumerate(sizes):
            rows, centres = x[row, :, :h, :w].flatten(1).T.numpy(), pool.centroids.numpy()
            assert np.abs(plain_vlad(rows, centres, assignment) - alone[row].numpy()).max() <= 1e-12


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_an_image_alone_is_the_image_among_others(assignment: str) -> None:
    model = tiny(assignment=assignment)
    given = images(32, 84, 56)
    with torch.no_grad():
        together = model.describe_uint8(given)
        alone = torch.cat([model.describe_uint8(given[row : row + 1]) for row in range(32)])
    assert (together - alone).abs().max() <= 1e-6
    assert (together[0] - together[1]).abs().max() > 1e-3


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_the_exported_file_gives_the_same_at_every_size(tmp_path: Path, assignment: str) -> None:
    model = tiny(assignment=assignment, registers=4, position="antialias")
    given = [images(1, *size)[0].numpy() for size in SIZES]
    with torch.no_grad():
        expected = np.concatenate([model.describe_uint8(torch.from_numpy(image)[None]).numpy() for image in given])
    for profile in (PaddingProfile.dynamic(), PaddingProfile.fixed((SIDE,), (SIDE,), (1, 4), model.cell)):
        card = export_embedder(model, tmp_path / "m.onnx", profile=profile, provenance={})
        assert np.abs(Embedder.load(tmp_path / "m.onnx")(given) - expected).max() <= 1e-5
        assert card.pooling == {
            "name": "vlad", "clusters": 4, "assignment": assignment, "facet": "value", "block": 1
        }  # fmt: skip


def test_the_published_networks_read_the_paper_s_blocks() -> None:
    with torch.device("meta"):
        models = [create_embedder(f"anyloc_vit{size}14") for size in "sbl"]
    assert [model.dimension for model in models] == [32 * 384, 32 * 768, 32 * 1024]
    assert [model.block for model in models] == [9, 9, 20]
    assert not any(key.startswith("features.norm.") for model in models for key in model.state_dict())


@pytest.mark.parametrize(
    ("options", "said"),
    [({"facet": "cls"}, "facet 'cls'"), ({"assignment": "mean"}, "hard or soft"), ({"clusters": 0}, "0")],
)
def test_bad_options(options: dict[str, Any], said: str) -> None:
    with pytest.raises((ValueError, ModelError), match=said):
        tiny(**options)
