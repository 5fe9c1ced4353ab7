"""Images per second of bulk extraction over the plain PyTorch loop that researchers write, decode included."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from benchmarks.shared.result import Result
from gloam.data.sources import find_images
from gloam.export.embedder import export_embedder
from gloam.networks.embedders import EmbedderNetwork, create_embedder
from gloam.padding import PaddingProfile
from gloam.runtime.bulk.extract import ExtractOptions, extract
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.models.embedder import Embedder as Exported

NETWORKS = ("gem_vgg16", "gem_resnet101")
# width x height as a folder of photographs has them: landscape, portrait, panorama, square
SIZES = ((512, 384), (384, 512), (512, 341), (480, 360), (512, 288), (400, 400), (341, 512), (512, 384))
ROUNDS = 5
LIMIT = 1.25


def write_images(folder: Path) -> None:
    """One JPEG per size, with detail at several scales."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number, (width, height) in enumerate(SIZES):
        image = np.zeros((height, width, 3))
        for cells in (4, 16, 64):
            coarse = rng.uniform(0, 255, (cells, cells, 3)).astype(np.float32)
            image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) / 3
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"{number:02d}.jpg", quality=92)


def plain_loop(model: EmbedderNetwork, folder: Path) -> tuple[float, np.ndarray]:
    """Images per second of the eager loop: open, to tensor, forward, one image at a time; and its descriptors."""
    mean = torch.tensor(model.mean).view(1, 3, 1, 1)
    std = torch.tensor(model.std).view(1, 3, 1, 1)
    rows = []
    clock = time.perf_counter()
    with torch.no_grad():
        paths = sorted(folder.iterdir())
        for path in paths:
            pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB")))
            x = (pixels.permute(2, 0, 1)[None].float() / 255 - mean) / std
            rows.append(model(x)[0].numpy())
    return len(paths) / (time.perf_counter() - clock), np.stack(rows)


def pipeline(embedder: Exported, folder: Path, out: Path) -> tuple[float, np.ndarray, float]:
    """Images per second of ``extract``, its descriptors, and the share of padded pixels."""
    clock = time.perf_counter()
    items = find_images(folder)
    summary = extract(items, embedder, out, ExtractOptions(max_side=0, dtype="float32"))
    speed = len(items) / (time.perf_counter() - clock)
    return speed, DescriptorStore.open(out).load(), summary.padded_share


def run() -> Result:
    """Interleaved rounds on the same folder and threads; the worse network's median ratio is judged."""
    threads = len(os.sched_getaffinity(0))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    detail: dict[str, Any] = {"threads": threads, "images": len(SIZES), "rounds": ROUNDS}
    try:
        with tempfile.TemporaryDirectory(prefix="gloam-extract-") as temporary:
            root = Path(temporary)
            write_images(root / "images")
            for name in NETWORKS:
                detail[name] = _compare(name, root)
    finally:
        torch.set_num_threads(before)
    worse = min(detail[name]["ratio_dynamic"] for name in NETWORKS)
    return Result(worse, "ratio", f">= {LIMIT}", worse >= LIMIT, detail)


def _compare(name: str, root: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    model = create_embedder(name).eval()
    sessions = {}
    for profile in (PaddingProfile.dynamic(), PaddingProfile.fixed((512,), (512,))):
        path = root / f"{name}-{profile.kind}.onnx"
        export_embedder(model, path, profile=profile, provenance={})
        sessions[profile.kind] = Exported.load(path)
    ratios: dict[str, list[float]] = {kind: [] for kind in sessions}
    speeds: list[float] = []
    padded, agreement = 0.0, {}
    for number in range(ROUNDS + 1):
        loop, expected = plain_loop(model, root / "images")
        for kind, embedder in sessions.items():
            speed, found, share = pipeline(embedder, root / "images", root / f"{name}-{kind}-{number}")
            if number:  # the first round warms up
                ratios[kind].append(speed / loop)
            agreement[kind] = float((found * expected).sum(1).min())
            padded = share if kind == "fixed" else padded
        if number:
            speeds.append(loop)
    return {
        "ratio_dynamic": statistics.median(ratios["dynamic"]),
        "ratio_fixed": statistics.median(ratios["fixed"]),
        "fixed_padded_share": padded,
        "loop_images_per_second": statistics.median(speeds),
        "worst_cosine": agreement,
        "rounds_dynamic": ratios["dynamic"],
    }
