"""A CUDA GPU kept busy: descriptors from JPEG in fp16, the share of the device's ceiling, and what bounds each step.

The value is the share of a run's time in which the device waits for images, at 1024 px from JPEG. Beside it: the rates
of every network alone in fp32 and fp16, over PyTorch eager on the same GPU, as a share of the product of matrices that
the GPU really does. Without a usable GPU nothing is measured, and the result says what was not run.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from benchmarks.shared.ceilings import best_seconds, matrix_ceiling, memory_ceiling, operations, texture
from benchmarks.shared.result import Result
from gloam.data.sources import find_images
from gloam.errors import GloamError
from gloam.export.embedder import export_embedder
from gloam.export.precision.convert import convert_precision
from gloam.export.translator import export_translator
from gloam.networks.embedders import create_embedder
from gloam.networks.translators import create_generator
from gloam.padding import PaddingProfile
from gloam.runtime.backends.cuda.driver import find_driver
from gloam.runtime.backends.ort import OrtSession
from gloam.runtime.backends.placement import Placement
from gloam.runtime.bulk.extract import ExtractOptions, extract
from gloam.runtime.models.embedder import Embedder

NETWORKS = {"gem_vgg16": (1024, 8), "gem_resnet101": (1024, 16), "gem_mobilenet_v2": (1024, 16), "resnet": (512, 8)}
PIPELINE = "gem_resnet101"
PHOTOGRAPHS = 2000
LIMIT = 0.10
TARGET = "idle share < 0.10"
PARTS = (
    "rates of each network in fp32 and fp16",
    "share of the matrix ceiling",
    "from JPEG at 1024 px: rate, idle share",
)


def run() -> Result:
    """All of it, or a result that says why not."""
    if problem := _problem():
        return Result(None, "share of time", TARGET, None, {"not run": list(PARTS), "why": problem})
    driver = find_driver()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    ceilings = {
        "fp32": matrix_ceiling("cuda", torch.float32),
        "fp16": matrix_ceiling("cuda", torch.float16),
        "bytes": memory_ceiling("cuda"),
    }
    with tempfile.TemporaryDirectory(prefix="gloam-gpu-") as temporary:
        folder = Path(temporary)
        rows = {name: _row(name, folder, ceilings) for name in NETWORKS}
        pipeline = _pipeline(folder, rows[PIPELINE])
    value = pipeline["idle share"]
    detail = {
        "gpu": driver.gpus[0].name,
        "driver's CUDA": driver.cuda,
        "ceilings": {"TFLOP/s fp32": ceilings["fp32"] / 1e12, "TFLOP/s fp16": ceilings["fp16"] / 1e12}
        | {"GB/s": ceilings["bytes"] / 1e9},
        "networks": rows,
        "from JPEG": pipeline,
        "processor threads": len(os.sched_getaffinity(0)),
    }
    return Result(value, "share of time", TARGET, value < LIMIT, detail)


def _problem() -> str | None:
    """Why nothing can be measured here."""
    if (driver := find_driver()).problem is not None:
        return driver.problem
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} sees no CUDA device; install its CUDA build for the ceilings"
    return None


def _row(name: str, folder: Path, ceilings: dict[str, float]) -> dict[str, Any]:
    """One network alone: exported in both precisions, and eager, at one shape and batch."""
    side, batch = NETWORKS[name]
    torch.manual_seed(0)
    profile = PaddingProfile.fixed((side,), (side,), (1, batch))
    exact, half = folder / f"{name}.onnx", folder / f"{name}-fp16.onnx"
    if name == "resnet":
        model: nn.Module = create_generator(name).eval()
        export_translator(model, exact, profile, provenance={})
    else:
        model = create_embedder(name).eval()
        export_embedder(model, exact, profile=profile, provenance={})
    convert_precision(exact, half, "fp16", accept=True)
    pixels = np.stack([texture(side, side, seed) for seed in range(batch)])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    work = operations(model, images[:1])
    row: dict[str, Any] = {"size": f"{side}x{side}", "batch": batch, "GFLOP": work / 1e9}
    for precision, file in (("fp32", exact), ("fp16", half)):
        try:
            session = OrtSession(file, device="cuda")
        except GloamError as error:
            row[precision] = {"not run": str(error)}
            continue
        inputs: dict[str, Any] = {session.card.inputs[0].name: pixels}
        if len(session.card.inputs) > 1:
            inputs[session.card.inputs[1].name] = np.full((batch, 2), side, np.int32)
        rate = batch / best_seconds(lambda session=session, inputs=inputs: session.run(inputs))
        eager = batch / _eager_seconds(model, images, precision)
        row[precision] = {
            "images/s": rate,
            "share of the matrix ceiling": rate * work / ceilings[precision],
            "ratio to eager PyTorch": rate / eager,
            "bytes to the device per second": rate * pixels[0].nbytes,
        }
    return row


def _eager_seconds(model: nn.Module, images: torch.Tensor, precision: str) -> float:
    """Eager PyTorch from uint8-sized input on the host to output on the host, channels last, autocast for fp16."""
    moved = model.to("cuda", memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack it

    def forward() -> object:
        with torch.inference_mode(), torch.autocast("cuda", torch.float16, enabled=precision == "fp16"):
            found = moved(images.to("cuda", memory_format=torch.channels_last, non_blocking=True))
        return found.cpu()

    seconds = best_seconds(forward, wait=torch.cuda.synchronize)
    model.to("cpu")
    return seconds


def _pipeline(folder: Path, row: dict[str, Any]) -> dict[str, Any]:
    """``extract`` from JPEG files with the fp16 model."""
    photographs = folder / "photographs"
    photographs.mkdir()
    for seed in range(32):
        content = cv2.imencode(".jpg", texture(768, 1024, seed), [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
        for copy in range(seed, PHOTOGRAPHS, 32):
            (photographs / f"{copy:05d}.jpg").write_bytes(content)
    embedder = Embedder.load(folder / f"{PIPELINE}-fp16.onnx", Placement(device="cuda"))
    items = find_images(photographs)
    extract(items[:64], embedder, folder / "warm", ExtractOptions())
    summary = extract(items, embedder, folder / "store", ExtractOptions())
    alone = row["fp16"].get("images/s")
    return {
        "images": summary.described,
        "images/s": summary.images_per_second,
        "idle share": summary.idle_share,
        "share of the model's own rate": summary.images_per_second / alone if alone else None,
        "seconds": dict(summary.seconds),
        "padded share": summary.padded_share,
        "bound by": max((item for item in summary.seconds.items() if item[0] != "total"), key=lambda item: item[1])[0],
    }
