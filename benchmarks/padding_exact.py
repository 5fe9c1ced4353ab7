"""Padding that changes nothing: every embedder, mixed sizes in one batch, fixed profile against native size."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.shared.result import Result
from gloam.export.embedder import export_embedder
from gloam.networks.checkpoints import load_checkpoint
from gloam.networks.embedders import EMBEDDERS, EmbedderNetwork, create_embedder
from gloam.networks.embedders.base import l2_normalize
from gloam.networks.masks import Masks
from gloam.padding import PaddingProfile
from gloam.runtime.models.embedder import Embedder as Exported

# width x height and, for each, height x width: both readings of a size
SIZES = ((257, 255), (271, 362), (511, 480), (512, 33), (255, 257), (362, 271), (480, 511), (33, 512))
TORCH_LIMIT, RUNTIME_LIMIT = 1e-6, 1e-5
ROUNDS = 3
CONTROLS = 2  # images; one is enough to fail


EXACT = tuple(name for name in EMBEDDERS if name.startswith(("gem_", "mac_", "netvlad_")))


def lively(model: EmbedderNetwork) -> EmbedderNetwork:
    """Random weights that carry the image to the last layer (He et al. 2015) and, as trained ones do, make cells beyond
    the border non-zero; in eval mode."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.3)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.bias, 0, 0.3)
    return model.eval()


def real_weights() -> dict[str, EmbedderNetwork]:
    """The MobileNetV2 of the weights pack, where it is at hand."""
    root = os.environ.get("GLOAM_DATA")
    half = (0.5, 0.5, 0.5)
    built = {}
    for file in sorted(Path(root).glob("weights/mobilenet_v2_imagenet/*_fp16.pth")) if root else []:
        loaded = load_checkpoint(file, "gem_mobilenet_v2", padding="tf", mean=half, std=half)
        built["gem_mobilenet_v2, ImageNet weights, padding tf"] = loaded.model.eval()
    return built


def models() -> dict[str, EmbedderNetwork]:
    """Every exact family with lively random weights, and real weights where at hand."""
    built = {}
    for name in EXACT:
        torch.manual_seed(0)
        built[name] = lively(create_embedder(name))
    return built | real_weights()


def run() -> Result:
    """Worst difference over all models; the same without masks is the control."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
    profile = PaddingProfile.fixed((512,), (512,), batch=(1, len(images)))
    batch, sizes = profile.pad(images, (512, 512))
    x, valid = torch.from_numpy(batch), torch.from_numpy(sizes)
    detail: dict[str, Any] = {"sizes_height_width": SIZES, "models": {}}
    worst, met = 0.0, True
    with tempfile.TemporaryDirectory(prefix="gloam-padding-") as folder, torch.no_grad():
        for name, model in models().items():
            native = np.concatenate([model.describe_uint8(torch.from_numpy(image)[None]).numpy() for image in images])
            masked = _difference(model.describe_uint8(x, valid).numpy(), native)
            unmasked, pooling_only = (
                _difference(found, native[:CONTROLS]) for found in _controls(model, x[:CONTROLS], valid[:CONTROLS])
            )
            path = Path(folder) / "model.onnx"
            export_embedder(model, path, profile=profile, provenance={})
            exported = Exported.load(path)
            runtime = _difference(exported.run_batch(images), native)
            export_embedder(model, path, profile=PaddingProfile.dynamic(), provenance={})
            plain = Exported.load(path)
            one, size = batch[:1], sizes[:1]
            cost = _ratio(
                lambda session=exported.session, one=one, size=size: session.run({"images": one, "sizes": size}),
                lambda session=plain.session, one=one: session.run({"images": one}),
            )
            detail["models"][name] = {
                "torch": masked,
                "onnxruntime": runtime,
                "control_masks_off": unmasked,
                "control_masks_in_pooling_only": pooling_only,
                "masks_time_ratio_onnxruntime": cost,
                "masks_time_ratio_torch": _ratio(
                    lambda model=model: model.describe_uint8(x[:1], valid[:1]),
                    lambda model=model: model.describe_uint8(x[:1]),
                ),
            }
            worst = max(worst, masked)
            met = met and masked <= TORCH_LIMIT and runtime <= RUNTIME_LIMIT < min(unmasked, pooling_only)
    target = f"<= {TORCH_LIMIT:g} in torch, <= {RUNTIME_LIMIT:g} in ONNX Runtime, masks off fails"
    return Result(worst, "max abs difference", target, met, detail)


def _controls(model: EmbedderNetwork, images: torch.Tensor, sizes: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Descriptors without masks, and with masks in the pooling alone: the convolutions read what lies beyond."""
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
