"""DINOv2: by its published rules, at any size, exact under padding, in any batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.padding_exact import lively
from benchmarks.shared.tiny import TRANSFORMER, TRANSFORMERS
from gloam.errors import ModelError
from gloam.networks.embedders import EMBEDDERS, create_embedder
from gloam.networks.embedders.dinov2 import DinoV2, backbone_options
from gloam.networks.masks import Masks
from gloam.networks.resampling import antialias_matrix, offset_matrix

NAMES = [name for name in EMBEDDERS if name.startswith("dinov2_")]
SMALL = ["dinov2_vits14", "dinov2_vits14_reg"]
SIZES = ((56, 98), (126, 84), (28, 126), (70, 70))  # height, width; the last is the tiny table's own
SIDE = 140


def tiny(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return lively(create_embedder(name, **{**TRANSFORMER, **options}))


def images(count: int, height: int = SIDE, width: int = SIDE) -> Tensor:
    seeded = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=seeded)


def plain(model: DinoV2, x: Tensor) -> tuple[Tensor, Tensor]:
    """Class and patch tokens of one image as the papers have it, head by head; positions by torch's interpolation."""
    weights, options = model.state_dict(), model.options
    heads, size = options["heads"], options["width"] // options["heads"]

    def linear(values: Tensor, key: str) -> Tensor:
        return functional.linear(values, weights[f"{key}.weight"], weights[f"{key}.bias"])

    def norm(values: Tensor, key: str) -> Tensor:
        return functional.layer_norm(values, values.shape[-1:], weights[f"{key}.weight"], weights[f"{key}.bias"], 1e-6)

    patches = functional.conv2d(x, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], 14)
    high, wide = patches.shape[2:]
    table = weights["pos_embed"][:, 1:].unflatten(1, (options["table"],) * 2).permute(0, 3, 1, 2)
    if options["position"] == "antialias":
        table = functional.interpolate(table, (high, wide), mode="bicubic", antialias=True)
    elif (high, wide) != (options["table"],) * 2:
        factor = ((high + 0.1) / options["table"], (wide + 0.1) / options["table"])
        table = functional.interpolate(table, scale_factor=factor, mode="bicubic")
    tokens = (patches + table).flatten(2)[0].T
    first = weights["cls_token"][0] + weights["pos_embed"][0, :1]
    x = torch.cat((first, *([weights["register_tokens"][0]] if options["registers"] else []), tokens))
    for block in range(options["depth"]):
        at = f"blocks.{block}"
        q, k, v = linear(norm(x, f"{at}.norm1"), f"{at}.attn.qkv").chunk(3, 1)
        parts = [slice(head * size, head * size + size) for head in range(heads)]
        seen = [(q[:, part] @ k[:, part].T / size**0.5).softmax(1) @ v[:, part] for part in parts]
        x = x + weights[f"{at}.ls1.gamma"] * linear(torch.cat(seen, 1), f"{at}.attn.proj")
        inner = functional.gelu(linear(norm(x, f"{at}.norm2"), f"{at}.mlp.fc1"))
        x = x + weights[f"{at}.ls2.gamma"] * linear(inner, f"{at}.mlp.fc2")
    x = norm(x, "norm")
    return x[:1], x[1 + options["registers"] :].T.unflatten(1, (high, wide))[None]


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [*SIZES, (14, 14)], ids=str)
def test_tokens_are_those_of_the_papers(name: str, size: tuple[int, int]) -> None:
    model = tiny(name)
    x = model.normalize(images(1, *size))
    with torch.no_grad():
        token, patches, _ = model.features(x)
        expected = plain(model.features, x)
    assert (token - expected[0]).abs().max() <= 5e-5
    assert (patches - expected[1]).abs().max() <= 5e-5


@pytest.mark.parametrize("cells", [1, 5, 7, 36, 37, 38, 73])
def test_positions_are_resampled_as_torch_does(cells: int) -> None:
    table = torch.randn(1, 1, 37, 37, generator=torch.Generator().manual_seed(cells))
    count, whole = torch.tensor([cells, 3]), torch.tensor([37, 37])
    factor = (cells + 0.1) / 37
    offset = functional.interpolate(table, scale_factor=(factor, factor), mode="bicubic")[0, 0]
    smooth = functional.interpolate(table, (cells, cells), mode="bicubic", antialias=True)[0, 0]
    rule = offset_matrix(count, 75, 37, torch.tensor([False, False]))
    kept = offset_matrix(torch.tensor([37]), 37, 37, torch.tensor([True]))[0]
    other = antialias_matrix(count, whole, 75, 37)
    for matrices, expected in ((rule, offset), (other, smooth)):
        assert matrices.shape == (2, 75, 37)
        assert matrices.isfinite().all()
        matrix = matrices[0, :cells]
        assert (matrix @ table[0, 0] @ matrix.T - expected).abs().max() <= 1.5e-5
    assert torch.equal(kept, torch.eye(37))
    assert (offset - smooth).abs().max() > 0.05 or cells == 1


@pytest.mark.parametrize("pooling", ["cls", "gem"])
@pytest.mark.parametrize("name", SMALL)
def test_padding_changes_nothing_and_without_masks_it_would(name: str, pooling: str) -> None:
    model = tiny(name, pooling=pooling)
    given = images(len(SIZES))  # noise beyond the valid sizes too
    with torch.no_grad():
        together = model.describe_uint8(given, torch.tensor(SIZES, dtype=torch.int32))
        alone = torch.cat([model.describe_uint8(given[i : i + 1, :h, :w]) for i, (h, w) in enumerate(SIZES)])
        unmasked = model.describe_uint8(given)
    assert (together - alone).abs().max() <= 1e-5
    assert (unmasked - alone).abs().amax(1).min() >= 1e-2
    torch.testing.assert_close(alone.norm(dim=1), torch.ones(len(SIZES)))


def test_masks_that_are_forgotten_in_one_place_would_show() -> None:
    """Valid sizes where attention sees the padding, or positions are those of the padded shape."""
    model = tiny("dinov2_vits14")
    given, sizes = model.normalize(images(1)), torch.tensor([[56, 98]])
    with torch.no_grad():
        right = model.features(given, Masks.of(sizes[:, 0], sizes[:, 1], given))[0]
        for part in ("_positions", "blocks"):
            wrong = tiny("dinov2_vits14")
            if part == "_positions":
                stretched = wrong.features._positions
                wrong.features._positions = lambda patches, masks, of=stretched: of(patches, None)
            else:
                for block in wrong.features.blocks:
                    block.forward = lambda x, bias, of=block.forward: of(x, None)
            found = wrong.features(given, Masks.of(sizes[:, 0], sizes[:, 1], given))[0]
            assert (found - right).abs().max() >= 1e-2, part


@pytest.mark.parametrize("name", SMALL)
def test_an_image_alone_is_the_image_among_others(name: str) -> None:
    model = tiny(name)
    given = images(32, 84, 56)
    with torch.no_grad():
        together = model.describe_uint8(given)
        alone = torch.cat([model.describe_uint8(given[row : row + 1]) for row in range(32)])
    assert (together - alone).abs().max() <= 1e-6
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_a_side_that_is_no_multiple_of_the_patch_is_refused() -> None:
    model = tiny("dinov2_vits14")
    with pytest.raises(ModelError, match="100x56 has a side that is no multiple of 14 px, a patch of DINOv2"):
        model.describe_uint8(images(1, 56, 100))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"position": "none"}, "choose offset or antialias"),
        ({"heads": 5}, "width 32, depth 2, heads 5"),
        ({"pooling": "mac"}, "choose cls or gem"),
        ({"trained_blocks": 3}, "3 trained blocks of 2"),
    ],
)
def test_options_that_no_network_has_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        tiny("dinov2_vits14", **options)


def test_the_two_rules_of_positions_are_two_spaces_of_one_weight() -> None:
    offset, antialias = tiny("dinov2_vits14"), tiny("dinov2_vits14", position="antialias")
    antialias.load_state_dict(offset.state_dict())
    given = images(1, 84, 56)
    with torch.no_grad():
        assert (offset.describe_uint8(given) - antialias.describe_uint8(given)).abs().max() > 1e-3
    assert offset.options != antialias.options


def test_the_last_blocks_alone_learn() -> None:
    model = tiny("dinov2_vits14", trained_blocks=1)
    model.train()(model.normalize(images(2, 28, 28))).sum().backward()
    learned = {name for name, values in model.named_parameters() if values.grad is not None}
    assert learned == {name for name in model.state_dict() if name.startswith(("features.blocks.1.", "features.norm."))}
    assert sum(len(group["params"]) for group in model.parameter_groups()) == len(learned)


def test_published_sizes() -> None:
    assert [name for name in TRANSFORMERS if name.startswith("dinov2_")] == NAMES
    assert backbone_options("dinov2_vitl14_reg") == {
        "width": 1024, "depth": 24, "heads": 16, "registers": 4, "position": "antialias",
    }  # fmt: skip
    with torch.device("meta"):
        for name, count, tensors in (("dinov2_vits14", 22.1, 174), ("dinov2_vitb14_reg", 86.6, 175)):
            model = DinoV2(**backbone_options(name))
            assert len(model.state_dict()) == tensors  # but for the mask token, which no descriptor needs
            assert abs(sum(values.numel() for values in model.parameters()) / 1e6 - count) < 0.1
