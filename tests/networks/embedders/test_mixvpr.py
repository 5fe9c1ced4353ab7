"""MixVPR: by its rule, for images of one size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from benchmarks.padding_exact import lively
from benchmarks.shared.tiny import HEADED
from gloam.errors import ImageError, ModelError
from gloam.model_card import InputRule
from gloam.networks.embedders import DescriptorPipeline, create_embedder
from gloam.networks.embedders.mixvpr import Aggregator
from gloam.padding import PaddingProfile
from gloam.record import fill_dataclass, to_json


def tiny() -> Any:
    torch.manual_seed(0)
    return lively(create_embedder("mixvpr", **HEADED["mixvpr"]))


def test_the_aggregator_is_the_paper_s() -> None:
    torch.manual_seed(0)
    pool = Aggregator(10, 12, 6, 2, 3).eval()
    x = torch.randn(2, 10, 3, 4)
    with torch.no_grad():
        cells = x.reshape(2, 10, 12)
        for mixer in pool.mix:
            norm, first, _, second = mixer.mix
            spread = (cells.var(2, correction=0, keepdim=True) + 1e-5).sqrt()
            normed = (cells - cells.mean(2, keepdim=True)) / spread * norm.weight + norm.bias
            hidden = (normed @ first.weight.T + first.bias).clamp(min=0)
            cells = cells + hidden @ second.weight.T + second.bias
        channels = torch.einsum("oc,bcn->bon", pool.channel_proj.weight, cells) + pool.channel_proj.bias[:, None]
        expected = (channels @ pool.row_proj.weight.T + pool.row_proj.bias).flatten(1)
        assert (pool(x) - functional.normalize(expected, dim=1)).abs().max() <= 3e-6


def test_one_size_in_any_batch() -> None:
    model = tiny()
    given = torch.randint(0, 256, (32, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        together = model.describe_uint8(given)
        alone = torch.cat([model.describe_uint8(given[row : row + 1]) for row in range(32)])
    assert (together - alone).abs().max() <= 1e-6
    assert (together[0] - together[1]).abs().max() > 1e-3
    with pytest.raises(ModelError, match="an image of 64x63 px, where 64x64 alone is possible"):
        model.describe_uint8(given[:, :63])
    with pytest.raises(ModelError, match="takes images of one size, so that one scale of 1 is possible"):
        DescriptorPipeline(model, scales=(1.0, 0.5))


def test_published_sizes_and_rule() -> None:
    with torch.device("meta"):
        models = [create_embedder("mixvpr", channels=channels, rows=rows) for channels, rows in ((1024, 4), (64, 2))]
    assert [model.dimension for model in models] == [4096, 128]
    assert round(sum(values.numel() for values in models[0].parameters()) / 1e6, 1) == 10.9
    assert models[0].input_rule == InputRule(None, (320, 320), "bicubic", True)
    with pytest.raises(ModelError, match="side 319"):
        create_embedder("mixvpr", side=319)


def test_a_profile_of_one_size() -> None:
    profile = PaddingProfile.square(320, (1, 8))
    assert profile.shape_for(320, 320) == (320, 320)
    assert fill_dataclass(PaddingProfile, to_json(profile), "profile") == profile
    with pytest.raises(ImageError, match="320x319 is not the one size of this model, 320x320; resize images by its"):
        profile.shape_for(319, 320)
    for heights, widths in (((), ()), ((320,), (322,)), ((320, 322), (320, 322))):
        with pytest.raises(ModelError, match="padding profile: square, with heights"):
            PaddingProfile("square", heights=heights, widths=widths)
