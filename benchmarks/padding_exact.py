"""Padding that changes nothing: every embedder, mixed sizes in one batch, fixed profile against native size, and a
batch of 32 images against each alone.

``GLOAM_BENCH_RUNS`` keeps rows, and the same command carries on, for as long as no code changes; ``GLOAM_BENCH_ONLY``
names beginnings of models, separated by commas, to run those alone, unjudged.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.shared.result import Result, kept_rows, largest
from benchmarks.shared.tiny import HEADED, TRANSFORMERS, VARIANTS
from gloam.errors import DataError, ModelError
from gloam.export.embedder import export_embedder
from gloam.networks.checkpoints import load_checkpoint
from gloam.networks.embedders import EMBEDDERS, EmbedderNetwork, create_embedder
from gloam.networks.embedders.base import l2_normalize
from gloam.networks.embedders.dinov2 import DinoV2
from gloam.networks.embedders.gem import PooledEmbedder
from gloam.networks.embedders.netvlad import NetVLADVGG16
from gloam.networks.masks import Masks
from gloam.padding import PaddingProfile
from gloam.runtime.models.embedder import Embedder as Exported

# width x height and, for each, height x width: both readings of a size
SIZES = ((257, 255), (271, 362), (511, 480), (512, 33), (255, 257), (362, 271), (480, 511), (33, 512))
TORCH_LIMIT, RUNTIME_LIMIT, BATCH_LIMIT, CONTROL = 1e-6, 1e-5, 1e-6, 1e-2
ROUNDS = 3
CONTROLS = 2  # images; one is enough to fail
BATCH, BATCHED = 32, (126, 112)  # images, height and width: of a batch against each alone
ONLY = "GLOAM_BENCH_ONLY"
TOKENS = ", patch tokens"

NARROW = {**TRANSFORMERS, **HEADED}
BEGINNINGS = ("gem_", "mac_", "netvlad_", "cosplace_", "apgem_")
ALIKE = ("_vitb14", "_vitl14")  # narrow, they are the very networks of ViT-S
EXACT = tuple(
    name
    for name in EMBEDDERS
    if name.startswith(BEGINNINGS) or (name in TRANSFORMERS and not any(size in name for size in ALIKE))
)
WITH_TOKENS = ("dinov2_vits14", "dinov2_vits14_reg")
SQUARE = "mixvpr"  # of one size: a fixed profile is refused


def lively(model: EmbedderNetwork) -> EmbedderNetwork:
    """Random weights that carry the image to the last layer (He et al. 2015) and, as trained ones do, make cells beyond
    the border non-zero; in eval mode."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.3)
        if isinstance(module, DinoV2):
            _enliven(module)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.bias, 0, 0.3)
    return model.eval()


def _enliven(transformer: DinoV2) -> None:
    """Attention that tells tokens apart, and positions that are as strong as what stands there."""
    for name, values in transformer.named_parameters():
        if name.endswith(("norm1.weight", "norm2.weight", "norm.weight", "gamma")):
            nn.init.uniform_(values, 0.5, 1.5)
        elif name.endswith("bias"):
            nn.init.normal_(values, 0, 0.3)
        else:  # tokens and positions have no fan in
            scale = (2 / values[0].numel()) ** 0.5 if name.endswith("weight") else 1.0
            nn.init.normal_(values, 0, scale)


def real_weights() -> dict[str, EmbedderNetwork]:
    """The MobileNetV2 of the weights pack, where it is at hand."""
    root = os.environ.get("GLOAM_DATA")
    half = (0.5, 0.5, 0.5)
    built = {}
    for file in sorted(Path(root).glob("weights/mobilenet_v2_imagenet/*_fp16.pth")) if root else []:
        loaded = load_checkpoint(file, "gem_mobilenet_v2", padding="tf", mean=half, std=half)
        built["gem_mobilenet_v2, ImageNet weights, padding tf"] = loaded.model.eval()
    return built


def models() -> dict[str, Callable[[], EmbedderNetwork]]:
    """Every exact family with lively random weights, and real weights where at hand; built when they are asked for."""
    built = {name: partial(_lively, name, NARROW.get(name, {})) for name in EXACT}
    built |= {row: partial(_lively, name, options) for row, (name, options) in VARIANTS.items()}
    return built | {name: partial(_same, model) for name, model in real_weights().items()}


def _lively(name: str, options: dict[str, Any]) -> EmbedderNetwork:
    torch.manual_seed(0)
    return lively(create_embedder(name, **options))


def _same(model: EmbedderNetwork) -> EmbedderNetwork:
    return model


def run() -> Result:
    """Worst difference over all models; the same without masks is the control."""
    only = tuple(filter(None, os.environ.get(ONLY, "").split(",")))
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
    rows: dict[str, dict[str, float]] = {}
    every = models()
    every |= {f"{name}{TOKENS}": every[name] for name in WITH_TOKENS}
    with tempfile.TemporaryDirectory(prefix="gloam-padding-") as folder, torch.no_grad():
        for name, make in every.items():
            if not only or name.startswith(only):
                rows[name] = kept_rows("padding_exact", name, partial(_row, name, make, images, Path(folder)))
    detail: dict[str, Any] = {"sizes_height_width": SIZES, "batch": [BATCH, *BATCHED], "models": rows}
    if not only or SQUARE.startswith(only):
        detail["refused"] = {SQUARE: _refusal(_lively(SQUARE, NARROW[SQUARE]))}
    target = (
        f"<= {TORCH_LIMIT:g} in torch ({RUNTIME_LIMIT:g} of vision transformers), <= {RUNTIME_LIMIT:g} in ONNX "
        f"Runtime, masks off fails (by {CONTROL:g} of vision transformers and networks with layers behind a backbone), "
        f"<= {BATCH_LIMIT:g} from a batch of {BATCH} to one by one"
    )
    worst = largest(row["torch"] for row in rows.values()) if rows else None
    met = all(_met(name, row) for name, row in rows.items())
    return Result(worst, "max abs difference", target, None if only else met, detail)


def _met(name: str, row: dict[str, float]) -> bool:
    family = name.split(",")[0]
    limit = RUNTIME_LIMIT if family in TRANSFORMERS else TORCH_LIMIT
    control = CONTROL if family in NARROW else RUNTIME_LIMIT
    return (
        row["torch"] <= limit
        and row.get("onnxruntime", 0.0) <= RUNTIME_LIMIT
        and row["batch"] <= BATCH_LIMIT
        and min(value for key, value in row.items() if key.startswith("control_")) >= control
    )


def _row(name: str, make: Callable[[], EmbedderNetwork], images: list[np.ndarray], folder: Path) -> dict[str, float]:
    model = make()
    whole = [whole_cells(image, model.cell) for image in images]
    return _tokens(model, whole) if name.endswith(TOKENS) else _measure(model, whole, folder / "model.onnx")


def _tokens(model: Any, images: list[np.ndarray]) -> dict[str, float]:
    """The same of the map of patch tokens, at its valid cells; the exported files of these are of native sizes."""
    x, valid = _padded(model, images)[:2]
    pixels = model.normalize(x)
    sizes = valid.long()
    masked = model.features(pixels, Masks.of(sizes[:, 0], sizes[:, 1], pixels))[1]
    unmasked = model.features(pixels[:CONTROLS])[1]
    native = [model.features(model.normalize(torch.from_numpy(image)[None]))[1][0] for image in images]

    def differences(found: torch.Tensor) -> list[float]:
        return [
            _difference(row[:, : alone.shape[1], : alone.shape[2]].numpy(), alone.numpy())
            for row, alone in zip(found, native, strict=False)
        ]

    batch = model.normalize(_batch())
    together = model.features(batch)[1]
    alone = torch.cat([model.features(batch[row : row + 1])[1] for row in range(BATCH)])
    return {
        "torch": max(differences(masked)),
        "control_masks_off": max(differences(unmasked)),
        "batch": _difference(together.numpy(), alone.numpy()),
    }


def _refusal(model: EmbedderNetwork) -> str:
    """What a fixed profile of it is told."""
    try:
        export_embedder(model, "never.onnx", profile=PaddingProfile.fixed((256,), (256,)), provenance={})
    except ModelError as error:
        return str(error)
    raise DataError(f"{model.name}: a fixed profile was exported, and its descriptors are not exact")


def _batch() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).integers(0, 256, (BATCH, *BATCHED, 3), dtype=np.uint8))


def _batched(model: EmbedderNetwork) -> float:
    """Worst difference of a batch of images to each of them alone."""
    images = _batch()
    together = model.describe_uint8(images).numpy()
    alone = np.concatenate([model.describe_uint8(images[row : row + 1]).numpy() for row in range(BATCH)])
    return _difference(together, alone)


def whole_cells(image: np.ndarray, cell: int) -> np.ndarray:
    """The image without what is no whole cell, at least two of them."""
    return image[: image.shape[0] // cell * cell, : image.shape[1] // cell * cell]


def _measure(model: EmbedderNetwork, images: list[np.ndarray], path: Path) -> dict[str, float]:
    x, valid, profile = _padded(model, images)
    batch, sizes = x.numpy(), valid.numpy()
    native = np.concatenate([model.describe_uint8(torch.from_numpy(image)[None]).numpy() for image in images])
    unmasked, pooling_only = (
        _difference(found, native[:CONTROLS]) for found in _controls(model, x[:CONTROLS], valid[:CONTROLS])
    )
    export_embedder(model, path, profile=profile, provenance={})
    exported = Exported.load(path)
    runtime = _difference(exported.run_batch(images), native)
    export_embedder(model, path, profile=PaddingProfile.dynamic(), provenance={})
    plain = Exported.load(path)
    one, size = batch[:1], sizes[:1]
    return {
        "torch": _difference(model.describe_uint8(x, valid).numpy(), native),
        "onnxruntime": runtime,
        "control_masks_off": unmasked,
        "control_masks_in_pooling_only": pooling_only,
        "batch": _batched(model),
        "masks_time_ratio_onnxruntime": _ratio(
            lambda: exported.session.run({"images": one, "sizes": size}), lambda: plain.session.run({"images": one})
        ),
        "masks_time_ratio_torch": _ratio(
            lambda: model.describe_uint8(x[:1], valid[:1]), lambda: model.describe_uint8(x[:1])
        ),
    }


def _padded(model: EmbedderNetwork, images: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor, PaddingProfile]:
    """Images in one batch, their valid sizes, and the profile that they are of."""
    side = max(SIZES[-1]) // model.cell * model.cell
    profile = PaddingProfile.fixed((side,), (side,), (1, len(images)), model.cell)
    batch, sizes = profile.pad(images, (side, side))
    return torch.from_numpy(batch), torch.from_numpy(sizes), profile


def _controls(model: EmbedderNetwork, images: torch.Tensor, sizes: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Descriptors without masks, and with masks in the pooling alone: the convolutions read what lies beyond."""
    if not isinstance(model, PooledEmbedder | NetVLADVGG16):  # what is pooled is no map alone
        unmasked = model.describe_uint8(images).numpy()
        return unmasked, unmasked
    x, valid = model.normalize(images), sizes.long()
    _, masks = model.features(x, Masks.of(valid[:, 0], valid[:, 1], x))
    features, _ = model.features(x, None)
    return l2_normalize(model.pool(features)).numpy(), l2_normalize(model.pool(features, masks)).numpy()


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max())


def _ratio(first: Callable[[], object], second: Callable[[], object]) -> float:
    """Median time of the first over the second, rounds interleaved; both have run before."""
    ratios = []
    for _ in range(ROUNDS):
        times = []
        for call in (first, second):
            clock = time.perf_counter()
            call()
            times.append(time.perf_counter() - clock)
        ratios.append(times[0] / times[1])
    return statistics.median(ratios)
