"""Scales, whitening and CLAHE around an embedder are what cirtorch computes, and padding still changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from gloam.errors import ModelError
from gloam.networks.checkpoints import load_checkpoint, save_checkpoint, weights_sha256
from gloam.networks.clahe import ClaheLayer
from gloam.networks.embedders import DescriptorPipeline, EmbedderNetwork, create_embedder
from gloam.networks.embedders.pipeline import MULTI_SCALE, _graph_scale
from gloam.runtime.descriptors.whitening import Whitening
from tests.networks.embedders.test_embedders import SMALL_VGG, padded_and_native, randomized


def whitening(columns: int = 16, rows: int = 12) -> Whitening:
    random = np.random.default_rng(0)
    return Whitening(random.normal(size=columns) * 0.1, random.normal(size=(rows, columns)), "lw")


def images(count: int = 2, height: int = 96, width: int = 131) -> torch.Tensor:
    return torch.randint(
        0, 256, (count, height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


def by_definition(model: EmbedderNetwork, batch: torch.Tensor, power: float) -> torch.Tensor:
    """The published procedure: one scale after the other, then the power mean."""
    x = model.normalize(batch)
    total = torch.zeros(len(batch), model.dimension)
    for scale in MULTI_SCALE:
        at = x if scale == 1 else functional.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
        total += model(at).pow(power)
    mean = (total / len(MULTI_SCALE)).pow(1 / power)
    return mean / mean.norm(dim=1, keepdim=True)


@pytest.mark.parametrize(
    ("options", "given", "power"),
    [({}, None, 3.0), ({"p": 2.5}, None, 2.5), ({}, 1.0, 1.0), ({}, 4.0, 4.0), ({"whitening": True}, None, 1.0)],
    ids=str,
)
@torch.no_grad()
def test_scales_are_averaged_by_gems_p_or_by_the_power_given(
    options: dict[str, Any], given: float | None, power: float
) -> None:
    model = randomized("gem_vgg16", **SMALL_VGG, **options)
    pipeline = DescriptorPipeline(model, scales=MULTI_SCALE, power=given).eval()
    torch.testing.assert_close(
        pipeline.describe_uint8(images()), by_definition(model, images(), power), atol=2e-6, rtol=0
    )


@torch.no_grad()
def test_the_whitening_follows_the_aggregation() -> None:
    model, layer = randomized("gem_vgg16", **SMALL_VGG), whitening()
    pipeline = DescriptorPipeline(model, scales=MULTI_SCALE, whitening=layer).eval()
    aggregated = by_definition(model, images(), 3.0).numpy()
    found = pipeline.describe_uint8(images()).numpy()
    assert found.shape == (2, pipeline.dimension) == (2, 12)
    np.testing.assert_allclose(found, layer.apply(aggregated), atol=2e-5)
    assert not any(item.requires_grad for item in pipeline.buffers())
    assert len(list(pipeline.parameters())) == len(list(model.parameters()))


@pytest.mark.parametrize("scales", [(1.0,), MULTI_SCALE, (0.7, 0.6)], ids=str)
@pytest.mark.parametrize("light", [None, ClaheLayer], ids=["plain", "clahe"])
def test_padding_changes_nothing_at_any_scale_up_to_one(scales: tuple[float, ...], light: type | None) -> None:
    model = randomized("gem_vgg16", **SMALL_VGG)
    pipeline = DescriptorPipeline(
        model, scales=scales, whitening=whitening(), clahe=None if light is None else light()
    ).eval()
    padded, native, unmasked = padded_and_native(pipeline)
    assert (padded - native).abs().max() <= 3e-6
    assert (unmasked - native).abs().max() > 1e-4


def test_enlarging_is_not_exact_and_says_so() -> None:
    pipeline = DescriptorPipeline(randomized("gem_vgg16", **SMALL_VGG), scales=(1.0, 2**0.5)).eval()
    with pytest.raises(ModelError, match="not padding-exact"):
        padded_and_native(pipeline)


@pytest.mark.parametrize("scale", [*MULTI_SCALE, 0.7071, 0.7, 0.6, 0.9, 2**0.5])
def test_torch_and_a_float32_runtime_find_the_same_sides(scale: float) -> None:
    factor = _graph_scale(scale)
    sides = np.arange(32, 4097)
    exact = np.array([int(side * round(scale * 10_000)) // 10_000 for side in sides.tolist()])
    doubles = np.floor(sides * factor).astype(int)
    floats = np.floor(sides.astype(np.float32) * np.float32(factor)).astype(int)
    assert (doubles == floats).all()
    if round(scale, 4) == scale:
        assert (doubles == exact).all()


def test_a_checkpoint_keeps_the_pipeline_and_the_weights_keep_their_identity(tmp_path: Path) -> None:
    model, layer = randomized("gem_vgg16", **SMALL_VGG), whitening()
    pipeline = DescriptorPipeline(model, scales=MULTI_SCALE, whitening=layer, clahe=ClaheLayer(clip=2.0)).eval()
    provenance = save_checkpoint(tmp_path / "m.safetensors", pipeline, {"recipe": "test"})
    assert provenance["weights_sha256"] == weights_sha256(model.state_dict())
    loaded = load_checkpoint(tmp_path / "m.safetensors")
    assert loaded.provenance == provenance
    assert loaded.model.scales == MULTI_SCALE
    assert loaded.model.whitening == {"name": "lw", "sha256": layer.sha256}
    assert (loaded.model.photometric.clip, loaded.model.photometric.baked) == (2.0, True)
    with torch.no_grad():
        assert torch.equal(loaded.model.describe_uint8(images()), pipeline.describe_uint8(images()))
    again = create_embedder(pipeline.name, mean=pipeline.mean, std=pipeline.std, **pipeline.options)
    assert again.options == pipeline.options


def test_bad_pipelines_are_one_line() -> None:
    model = randomized("gem_vgg16", **SMALL_VGG)
    with pytest.raises(ModelError, match="16-D descriptors, but the whitening was learned from 32-D ones"):
        DescriptorPipeline(model, whitening=whitening(columns=32))
    for scales in ((), (1.0, 1.0), (0.0,), (1.0, 0.25), (float("nan"),)):
        with pytest.raises(ModelError, match="different numbers of"):
            DescriptorPipeline(model, scales=scales)
    with pytest.raises(ModelError, match="positive power"):
        DescriptorPipeline(model, scales=MULTI_SCALE, power=-1.0)
    with pytest.raises(ModelError, match="only power 1"):
        DescriptorPipeline(randomized("gem_vgg16", **SMALL_VGG, whitening=True), scales=MULTI_SCALE, power=3.0)
    with pytest.raises(ModelError, match="already has scales"):
        DescriptorPipeline(DescriptorPipeline(model))
    with pytest.raises(ModelError, match="malformed description"):
        create_embedder("gem_vgg16", **SMALL_VGG, pipeline={"scale": 1})
    with torch.no_grad():
        model.pool.p.fill_(-0.5)
    with pytest.raises(ModelError, match=r"GeM's p is -0\.5"):
        DescriptorPipeline(model, scales=MULTI_SCALE)


@torch.no_grad()
def test_the_smallest_scale_decides_how_small_an_image_may_be() -> None:
    plain = {padding: create_embedder("gem_mobilenet_v2", padding=padding).eval() for padding in ("symmetric", "tf")}
    scaled = {name: DescriptorPipeline(model, scales=MULTI_SCALE).eval() for name, model in plain.items()}
    assert [model.smallest_side for model in (*plain.values(), *scaled.values())] == [16, 32, 32, 64]
    for model in (*plain.values(), *scaled.values()):
        side = model.smallest_side
        assert torch.isfinite(model.describe_uint8(images(1, side, side))).all()
