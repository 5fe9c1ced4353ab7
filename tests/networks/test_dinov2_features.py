"""Features of FD-DINOv2: class tokens as they are, by a plain program of the same rule, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gloam.errors import ModelError
from gloam.eval.translation.features import ClassExtractor, EmbeddingExtractor, distance_meaning
from gloam.networks import dinov2_features
from gloam.networks.checkpoints import save_checkpoint
from gloam.networks.dinov2_features import DinoV2Features
from gloam.networks.embedders import create_embedder

SMALL = {"width": 32, "depth": 2, "heads": 2, "table": 5}


def saved(path: Path, name: str = "dinov2_vitl14", **options: object) -> Path:
    torch.manual_seed(0)
    save_checkpoint(path, create_embedder(name, **options), {"data": "none"})
    return path


def images() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [
        random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((64, 90), (300, 224), (224, 224), (41, 40))
    ]


def test_they_are_class_tokens_of_bicubic_224(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "m.safetensors", **SMALL)
    monkeypatch.setattr(dinov2_features, "BATCH", 3)
    found = DinoV2Features(path).features(images())
    torch.manual_seed(0)
    network = create_embedder("dinov2_vitl14", **SMALL).eval()
    for row, image in zip(found, images(), strict=True):
        small = np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BICUBIC), np.float32) / 255
        x = torch.from_numpy((small - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).float().permute(2, 0, 1)[None]
        with torch.no_grad():
            token = network.features(x)[0][0].numpy()
        assert np.abs(row - token).max() < 1e-5
        assert np.linalg.norm(token) > 2  # not brought to length 1


def test_the_name_is_the_literatures_for_its_network_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = DinoV2Features(saved(tmp_path / "m.safetensors", **SMALL))
    assert isinstance(made, EmbeddingExtractor)
    assert not isinstance(made, ClassExtractor)
    assert len(made.weights_sha256) == 64
    assert made.frechet == "FD of dinov2_vitl14"  # narrow: not the authors'
    # The authors' sizes would be a gigabyte.
    monkeypatch.setattr(
        dinov2_features, "backbone_options", lambda name: {**SMALL, "registers": 0, "position": "offset"}
    )
    assert DinoV2Features(tmp_path / "m.safetensors").frechet == "FD-DINOv2"
    for name, more in (
        ("dinov2_vits14", {}),
        ("dinov2_vitl14_reg", {}),
        ("dinov2_vitl14", {"position": "antialias"}),
        ("dinov2_vitl14", {"final_norm": False}),
    ):
        path = saved(tmp_path / "other.safetensors", name, **SMALL, **more)
        assert DinoV2Features(path).frechet == f"FD of {name}"
    words = distance_meaning(made, "FID")
    assert words["FID"].startswith(
        "FD of dinov2_vitl14, the Fréchet distance in the space of dinov2_vitl14, class token"
    )
    assert "FD of dinov2_vitl14" in distance_meaning(made)


def test_other_checkpoints_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.safetensors", "gem_resnet18", width=4)
    with pytest.raises(ModelError, match=r"a checkpoint of gem_resnet18; class tokens are those of DINOv2"):
        DinoV2Features(path)
