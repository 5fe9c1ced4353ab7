"""Vision transformers exported: both profiles give what torch gives, sides are multiples of the patch, or refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.padding_exact import lively
from benchmarks.shared.tiny import TRANSFORMER
from gloam.errors import ImageError, ModelError, UsageError
from gloam.export.weights import ExportRequest, export_weights
from gloam.model_card import InputRule
from gloam.networks.checkpoints import save_checkpoint
from gloam.networks.embedders import create_embedder
from gloam.runtime.models.embedder import Embedder

SIZES = ((84, 70), (42, 126), (56, 56), (126, 84))  # height, width


@dataclass(frozen=True)
class Exports:
    """A narrow DINOv2 with registers, and files of it by profile."""

    model: Any
    weights: Path
    files: dict[str, Path]

    def file(self, profile: str) -> Path:
        """Exported when it is first asked for."""
        if profile not in self.files:
            path = self.weights.with_name(f"{profile}.onnx")
            sides = (126, 140) if profile == "fixed" else None
            export_weights(ExportRequest(path, self.weights, profile=profile, sides=sides, max_batch=4))  # type: ignore[arg-type]  # one of the two
            self.files[profile] = path
        return self.files[profile]


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    torch.manual_seed(0)
    model = lively(create_embedder("dinov2_vits14_reg", **{**TRANSFORMER, "depth": 1}))
    weights = tmp_path_factory.mktemp("dinov2") / "weights.safetensors"
    save_checkpoint(weights, model, {"recipe": "test", "data": "none", "licence": "none"})
    return Exports(model, weights, {})


def images() -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]


BOTH = pytest.mark.parametrize("profile", ["fixed", pytest.param("dynamic", marks=pytest.mark.slow)])


@BOTH
def test_any_size_and_batch_gives_what_torch_gives_alone(exports: Exports, profile: str) -> None:
    exported = Embedder.load(exports.file(profile))
    given = images()
    with torch.no_grad():
        native = [exports.model.describe_uint8(torch.from_numpy(image)[None]).numpy()[0] for image in given]
    assert np.abs(exported(given) - native).max() <= 1e-5
    assert np.abs(np.concatenate([exported([image]) for image in given]) - native).max() <= 1e-5
    if profile == "fixed":  # one batch of mixed sizes, and garbage in the padding
        padded, sizes = exported.card.profile.pad(given, (126, 140))
        inside = np.zeros(padded.shape, bool)
        for row, (height, width) in enumerate(SIZES):
            inside[row, :height, :width] = True
        noise = np.random.default_rng(1).integers(0, 256, padded.shape, dtype=np.uint8)
        found = exported.session.run({"images": np.where(inside, padded, noise), "sizes": sizes})["descriptors"]
        assert np.abs(found - native).max() <= 1e-5


@BOTH
def test_the_card_states_patch_rule_and_positions(exports: Exports, profile: str) -> None:
    card = Embedder.load(exports.file(profile)).card
    assert card.profile.cell == 14
    assert card.network["position"] == "antialias"
    assert card.reads == InputRule(140 if profile == "fixed" else 1024, multiple=14)
    if profile == "fixed":
        assert card.profile.heights == (126, 140)


def test_images_of_any_size_are_brought_to_multiples_of_the_patch(exports: Exports) -> None:
    exported = Embedder.load(exports.file("fixed"))
    image = np.random.default_rng(0).integers(0, 256, (100, 133, 3), dtype=np.uint8)
    prepared = exported.prepare(image)
    assert prepared.shape == (98, 140, 3)  # 7.14 and, at a half, the even one of 9.5
    assert np.array_equal(exported.prepare(prepared), prepared)
    assert np.array_equal(exported([image]), exported([prepared]))
    with pytest.raises(ImageError, match="133x100 has a side that is no multiple of 14 px, the model's patch"):
        exported.shape_for(image)


def test_sides_that_are_no_multiples_of_the_patch_are_refused(exports: Exports, tmp_path: Path) -> None:
    request = ExportRequest(tmp_path / "m.onnx", exports.weights, profile="fixed", sides=(256, 518))
    with pytest.raises(ModelError, match=r"heights \(256, 518\) must be positive multiples of 14$"):
        export_weights(request)
    with pytest.raises(ModelError, match="multiples of 14 px, which scaled images have not; one scale of 1 is"):
        export_weights(ExportRequest(tmp_path / "m.onnx", exports.weights, scales=(1.0, 0.5)))
    with pytest.raises(ModelError, match=r"multiples of 14 px, .* nothing can stand in front of it inside the graph"):
        export_weights(ExportRequest(tmp_path / "m.onnx", exports.file("fixed"), resize=126))
    with pytest.raises(UsageError, match="larger than the fixed profile's largest shape 140x140"):
        export_weights(
            ExportRequest(tmp_path / "m.onnx", exports.weights, profile="fixed", sides=(140,), stretch=(154, 42))
        )
    assert not list(tmp_path.iterdir())
