"""AnyLoc's vocabulary: centres are means by cosine of a map's own cells, and DINOv2's weights stay what they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from gloam.cli.main import main
from gloam.data.images import decode_image
from gloam.errors import DataError, ModelError, UsageError
from gloam.networks.checkpoints import load_checkpoint, save_checkpoint
from gloam.networks.embedders import create_embedder
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.training.embedders.vocabulary import VocabularyRequest, cosine_means, learn_vocabulary

SMALL: dict[str, Any] = {"width": 32, "depth": 3, "heads": 2, "table": 5}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("map")
    (root / "images").mkdir()
    random = np.random.default_rng(0)
    for number in range(6):
        coarse = random.integers(0, 256, (5, 6, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((90 + 10 * number, 100)).save(root / "images" / f"{number}.png")
    (root / "images" / "bad.jpg").write_bytes(b"\xff\xd8 no jpeg")
    for name, options in {"dinov2_vits14_reg": {"registers": 4, "trained_blocks": 1}, "dinov2_vitb14": {}}.items():
        torch.manual_seed(0)
        model = create_embedder(name, **SMALL, **options)
        save_checkpoint(root / f"{name}.safetensors", model, {"licence": "Apache-2.0", "data": "pixels"})
    save_checkpoint(root / "gem.safetensors", create_embedder("gem_resnet18", width=4), {})
    return root


def request(place: Path, output: Path, **options: Any) -> VocabularyRequest:
    chosen = {"block": 1, "clusters": 3, "cells": 20, **options}
    return VocabularyRequest(place / "dinov2_vits14_reg.safetensors", place / "images", output, **chosen)


def test_centres_are_means_of_the_cells_nearest_by_cosine(place: Path, tmp_path: Path) -> None:
    found = learn_vocabulary(request(place, tmp_path / "a.safetensors", cells=10_000))
    assert (found.images, list(found.failures)) == (6, ["bad.jpg"])
    loaded = load_checkpoint(tmp_path / "a.safetensors")
    model: Any = loaded.model
    assert (model.name, model.facet, model.block, model.dimension) == ("anyloc_vits14", "value", 1, 96)
    cells = []
    for file in sorted((place / "images").glob("*.png")):
        image = torch.from_numpy(decode_image(file, rule=model.input_rule))[None]
        with torch.no_grad():
            cells.append(functional.normalize(model.cells(model.normalize(image))[0].flatten(2), dim=1)[0].T)
    local, centres = torch.cat(cells), model.pool.centroids.detach()
    assert found.cells == len(local)
    nearest = (local @ functional.normalize(centres, dim=1).T).argmax(1)
    assert len(set(nearest.tolist())) == 3
    means = torch.stack([local[nearest == at].mean(0) for at in range(3)])
    assert (functional.normalize(means, dim=1) * functional.normalize(centres, dim=1)).sum(1).min() > 0.999
    assert (centres.norm(dim=1) < 0.9999).all()  # means, not of length 1
    assert loaded.provenance["recipe"] == "anyloc"
    assert loaded.provenance["licence"] == "Apache-2.0"
    told = loaded.provenance["vocabulary"]
    assert (told["images"], told["cells"], told["seed"]) == (6, len(local), 0)


def test_dinov2_s_own_weights_stay(place: Path, tmp_path: Path) -> None:
    made = learn_vocabulary(request(place, tmp_path / "a.safetensors", facet="token", assignment="soft")).model
    backbone = load_checkpoint(place / "dinov2_vits14_reg.safetensors").model.state_dict()
    own = {key: value for key, value in made.state_dict().items() if key.startswith("features.")}
    assert all(torch.equal(value, backbone[key]) for key, value in own.items())
    assert {key for key in backbone if key not in own} == {
        key for key in backbone if key.startswith(("features.norm.", "features.blocks.2."))
    }
    assert made.options["registers"] == 4
    assert made.options["position"] == "antialias"
    assert made.pooling == {
        "name": "vlad", "clusters": 3, "assignment": "soft", "facet": "token", "block": 1
    }  # fmt: skip


def test_a_seed_decides_the_draws(place: Path, tmp_path: Path) -> None:
    first, again, other, fewer = (
        learn_vocabulary(request(place, tmp_path / f"{number}.safetensors", **options))
        for number, options in enumerate(({"seed": 1}, {"seed": 1}, {"seed": 2}, {"seed": 1, "samples": 3}))
    )
    assert first.weights_sha256 == again.weights_sha256
    assert len({first.weights_sha256, other.weights_sha256, fewer.weights_sha256}) == 3
    assert first.cells == 6 * 20
    assert fewer.images in (2, 3)  # the bad one may be among the three


def test_cosine_means_of_plain_clusters() -> None:
    random = torch.Generator().manual_seed(0)
    axes = torch.eye(8)[:2].repeat_interleave(30, 0) + 0.1 * torch.randn(60, 8, generator=random)
    cells = functional.normalize(axes, dim=1)
    found = cosine_means(cells, 2, 0)
    expected = cells.reshape(2, 30, 8).mean(1)
    order = (found @ expected.T).argmax(1)
    assert sorted(order.tolist()) == [0, 1]
    assert (found - expected[order]).abs().max() < 1e-6


def test_the_road_from_images_to_descriptors(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "vocabulary", place / "dinov2_vits14_reg.safetensors", place / "images", "--block", 2]
    words += ["--clusters", 3, "-o", tmp_path / "a.safetensors", "--json"]
    assert main([*map(str, words)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["network"], told["dimension"], told["images"]) == ("anyloc_vits14", 96, 6)
    assert told["failures"]["bad.jpg"].startswith("not an image")
    assert told["pooling"]["block"] == 2
    assert main(["export", str(tmp_path / "a.safetensors"), "-o", str(tmp_path / "a.onnx")]) == 0
    images = [str(place / "images"), "-o", str(tmp_path / "store"), "--model", str(tmp_path / "a.onnx")]
    assert main(["extract", *images, "--dtype", "float32"]) == 0
    store = DescriptorStore.open(tmp_path / "store")
    assert np.allclose(np.linalg.norm(store.load(), axis=1), 1, atol=1e-5)
    assert store.dimension == 96


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"block": 3}, UsageError, "has no block 3; give --block 0 to 2"),
        ({"block": None}, UsageError, "has no block 9"),
        (
            {"clusters": 1000},
            DataError,
            "120 cells of 6 images for 1000 centres; .*; the first of 1 unread: not an image",
        ),
        ({"clusters": 0}, UsageError, "--clusters 0 must be at least 1"),
        ({"cells": 0}, UsageError, "--cells 0"),
        ({"samples": 0}, UsageError, "--samples 0"),
    ],
)
def test_what_cannot_be_is_refused(
    place: Path, tmp_path: Path, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        learn_vocabulary(request(place, tmp_path / "a.safetensors", **options))
    assert not list(tmp_path.iterdir())


def test_other_files_are_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a checkpoint is written as \.safetensors"):
        request(place, tmp_path / "a.onnx")
    with pytest.raises(ModelError, match="gem_resnet18 is not DINOv2 by itself"):
        learn_vocabulary(VocabularyRequest(place / "gem.safetensors", place / "images", tmp_path / "a.safetensors"))
    found = learn_vocabulary(
        VocabularyRequest(
            place / "dinov2_vitb14.safetensors", place / "images", tmp_path / "b.safetensors", block=0, clusters=2
        )
    )
    assert found.model.name == "anyloc_vitb14"
    assert found.model.options["position"] == "offset"
