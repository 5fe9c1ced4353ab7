"""How near the networks come to what this processor can do at all: operations and bytes against measured ceilings.

For each network: operations and least bytes of an image, the time that the two ceilings (a product of matrices, a copy
of memory) allow at best, and the rates of ONNX Runtime and of eager PyTorch. The value is the lowest share of that
bound which ONNX Runtime reaches; it is shown, not judged.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.shared.ceilings import least_bytes, matrix_ceiling, memory_ceiling, operations, texture
from benchmarks.shared.result import Result
from gloam.export.embedder import export_embedder
from gloam.export.translator import export_translator
from gloam.networks.embedders import create_embedder
from gloam.networks.translators import create_generator
from gloam.runtime.backends.ort import OrtSession

EMBEDDERS = ("gem_vgg16", "gem_resnet101", "gem_mobilenet_v2", "netvlad_vgg16")
GENERATOR = "resnet"
SIDE = {"embedder": 384, "translator": 256}  # pixels
ROUNDS = 5


def run() -> Result:
    """Every network by itself; eager and exported in turn."""
    threads = len(os.sched_getaffinity(0))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        flops, memory = matrix_ceiling("cpu", torch.float32), memory_ceiling("cpu")
        rows = {}
        with tempfile.TemporaryDirectory(prefix="gloam-roofline-") as temporary:
            for name in (*EMBEDDERS, GENERATOR):
                rows[name] = _row(name, Path(temporary) / f"{name}.onnx", flops, memory)
    finally:
        torch.set_num_threads(before)
    value = min(row["share_of_bound"] for row in rows.values())
    detail: dict[str, Any] = {
        "threads": threads,
        "ceilings": {"GFLOP/s, float32 product of matrices": flops / 1e9, "GB/s, copy": memory / 1e9},
        "networks": rows,
    }
    return Result(value, "share of the bound", None, None, detail)


def _row(name: str, path: Path, flops: float, memory: float) -> dict[str, Any]:
    torch.manual_seed(0)
    kind = "translator" if name == GENERATOR else "embedder"
    side = SIDE[kind]
    pixels = texture(side, side)[None]
    if kind == "translator":
        model: nn.Module = create_generator(name).eval()
        export_translator(model, path, provenance={})
    else:
        model = create_embedder(name).eval()
        export_embedder(model, path, provenance={})
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    work, moved = operations(model, images), least_bytes(model, images)
    bound = max(work / flops, moved / memory)
    session = OrtSession(path)
    inputs = {session.card.inputs[0].name: pixels}
    seconds: dict[str, list[float]] = {"onnxruntime": [], "eager": []}
    for number in range(ROUNDS + 1):
        for label in seconds:
            began = time.perf_counter()
            if label == "eager":
                with torch.inference_mode():
                    model(images)
            else:
                session.run(inputs)
            if number:
                seconds[label].append(time.perf_counter() - began)
    taken = {label: statistics.median(values) for label, values in seconds.items()}
    return {
        "size": f"{side}x{side}",
        "GFLOP": work / 1e9,
        "MB": moved / 1e6,
        "FLOP per byte": work / moved,
        "bound by": "arithmetic" if work / flops >= moved / memory else "memory",
        "images/s at best": 1 / bound,
        "images/s": {label: 1 / value for label, value in taken.items()},
        "share_of_bound": bound / taken["onnxruntime"],
        "share_of_bound_eager": bound / taken["eager"],
        "ratio_to_eager": taken["eager"] / taken["onnxruntime"],
    }
