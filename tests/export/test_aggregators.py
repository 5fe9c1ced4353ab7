"""MegaLoc and MixVPR exported: what a graph resizes and counts by itself, and one size alone. The benchmark of sizes
goes through all of their kin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.padding_exact import lively
from benchmarks.shared.tiny import HEADED, TRANSFORMERS
from gloam.errors import ImageError, ModelError
from gloam.export.embedder import export_embedder
from gloam.model_card import LITERATURE, InputRule
from gloam.networks.embedders import create_embedder
from gloam.padding import PaddingProfile
from gloam.runtime.models.embedder import Embedder

SIZES = ((97, 131), (133, 90), (126, 126), (42, 260), (150, 61))  # height, width; the second has a half


@pytest.fixture(scope="module")
def megaloc(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Embedder]:
    torch.manual_seed(0)
    model = lively(create_embedder("megaloc", **{**TRANSFORMERS["megaloc"], "depth": 1}))
    path = tmp_path_factory.mktemp("megaloc") / "model.onnx"
    export_embedder(model, path, provenance={})
    return model, Embedder.load(path)


@pytest.mark.slow
def test_a_file_of_any_size_counts_each_image_s_own_patches(megaloc: tuple[Any, Embedder]) -> None:
    """A count that tracing has frozen, or a size that is rounded otherwise, would show."""
    model, exported = megaloc
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
    with torch.no_grad():
        expected = [model.describe_uint8(torch.from_numpy(image)[None]).numpy()[0] for image in images]
    assert np.abs(exported(images) - expected).max() <= 1e-5
    several = np.stack([images[1]] * 3)
    assert np.abs(exported.session.run({"images": several})["descriptors"] - expected[1]).max() <= 1e-5


@pytest.mark.slow
def test_the_card_states_the_resizing_and_the_smallest_side(megaloc: tuple[Any, Embedder]) -> None:
    card = megaloc[1].card
    assert (card.network["resize"], card.network["position"]) == ("multiple-14", "offset")
    assert (card.profile.cell, card.profile.minimum, card.reads) == (1, 42, LITERATURE)
    assert card.pooling == {"name": "salad", "clusters": 4}
    with pytest.raises(ImageError, match="41x90 is too small for this model; 42 px a side at least"):
        megaloc[1].shape_for(np.zeros((90, 41, 3), np.uint8))


@pytest.mark.slow
def test_a_network_of_one_size_is_a_square_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = lively(create_embedder("mixvpr", **HEADED["mixvpr"]))
    card = export_embedder(model, tmp_path / "model.onnx", provenance={})
    exported = Embedder.load(tmp_path / "model.onnx")
    assert (card.profile, card.reads) == (PaddingProfile.square(64), InputRule(None, (64, 64), "bicubic", True))
    images = [np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((64, 64), (97, 131))]
    squared = np.stack([images[0], np.asarray(Image.fromarray(images[1]).resize((64, 64), Image.Resampling.BICUBIC))])
    with torch.no_grad():
        expected = model.describe_uint8(torch.from_numpy(squared)).numpy()
    assert np.abs(exported(images) - expected).max() <= 1e-5
    with pytest.raises(ImageError, match="131x97 is not the one size of this model, 64x64"):
        exported.shape_for(images[1])


def test_a_fixed_profile_of_a_network_of_one_size_is_refused(tmp_path: Path) -> None:
    model = create_embedder("mixvpr", **HEADED["mixvpr"])
    with pytest.raises(ModelError, match="mixvpr takes images of 64x64 px alone; use dynamic, which is that one size"):
        export_embedder(model, tmp_path / "m.onnx", profile=PaddingProfile.fixed(), provenance={})
