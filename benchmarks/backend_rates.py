"""Images per second of each backend over eager PyTorch, batch 1: batches, channels last, compiled, threads, sizes.

All in turn, in rounds, on the same images in memory. The value is the lowest ratio of gloam's default, ONNX Runtime
with all threads; it is shown, not judged. What changes with size, batch and threads stands in the detail.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.shared.ceilings import texture
from benchmarks.shared.result import Result
from gloam.export.embedder import export_embedder
from gloam.export.translator import export_translator
from gloam.networks.embedders import create_embedder
from gloam.networks.translators import create_generator
from gloam.runtime.backends.openvino import OpenVinoSession
from gloam.runtime.backends.ort import OrtSession

# network -> sides of square images, pixels
NETWORKS: dict[str, tuple[int, ...]] = {"gem_mobilenet_v2": (256, 512), "gem_resnet50": (256, 512), "resnet": (256,)}
COMPILED = ("gem_mobilenet_v2", 256)  # torch.compile takes minutes for the others
BATCH = 4
ROUNDS = 5
EAGER, DEFAULT = "eager, batch 1", "onnxruntime, batch 1"
Run = Callable[[], object]


def run() -> Result:
    """Every network and size by itself."""
    threads = len(os.sched_getaffinity(0))
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="gloam-rates-") as temporary:
        for name, sides in NETWORKS.items():
            torch.manual_seed(0)
            path = Path(temporary) / f"{name}.onnx"
            if name == "resnet":
                model: nn.Module = create_generator(name).eval()
                export_translator(model, path, provenance={})
            else:
                model = create_embedder(name).eval()
                export_embedder(model, path, provenance={})
            for side in sides:
                rows[f"{name} {side}x{side}"] = _rates(model, path, side, threads, (name, side) == COMPILED)
    value = min(row[DEFAULT]["ratio"] for row in rows.values())
    return Result(value, "ratio to eager", None, None, {"threads": threads, "rounds": ROUNDS, "rates": rows})


def _rates(model: nn.Module, path: Path, side: int, threads: int, compiled: bool) -> dict[str, Any]:
    pixels = np.stack([texture(side, side, seed) for seed in range(BATCH)])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    last = images.contiguous(memory_format=torch.channels_last)
    runs: dict[str, tuple[int, Run]] = {
        EAGER: (1, lambda: model(images[:1])),
        f"eager, batch {BATCH}": (BATCH, lambda: model(images)),
        "eager, channels last, batch 1": (1, lambda: model(last[:1])),
    }
    first_call = None
    if compiled:
        quick = torch.compile(model)
        began = time.perf_counter()
        with _eager(threads):
            quick(images[:1])
        first_call = time.perf_counter() - began
        runs["torch.compile, batch 1"] = (1, lambda: quick(images[:1]))
    counts = sorted({threads, max(threads // 2, 1)}, reverse=True)
    for count in counts:
        note = "" if count == threads else f", {count} thread{'s' * (count > 1)}"
        onnx, vino = OrtSession(path, threads=count), OpenVinoSession(path, threads=count, requests=1)
        for session, label in ((onnx, "onnxruntime"), (vino, "openvino f32")):
            runs[f"{label}, batch 1{note}"] = (1, _of(session, pixels[:1]))
        if count == threads:
            runs[f"onnxruntime, batch {BATCH}"] = (BATCH, _of(onnx, pixels))
    seconds = _interleaved(runs, threads)
    eager = seconds[EAGER]
    rates = {
        label: {"images/s": count / seconds[label], "ratio": eager * count / seconds[label]}
        for label, (count, _) in runs.items()
    }
    return rates if first_call is None else {**rates, "seconds of torch.compile's first call": first_call}


def _of(session: OrtSession | OpenVinoSession, pixels: np.ndarray) -> Run:
    inputs = {session.card.inputs[0].name: pixels}
    return lambda: session.run(inputs)


def _interleaved(runs: Mapping[str, tuple[int, Run]], threads: int) -> dict[str, float]:
    """Median seconds of each, after a round to warm up."""
    taken: dict[str, list[float]] = {label: [] for label in runs}
    with _eager(threads):
        for number in range(ROUNDS + 1):
            for label, (_, call) in runs.items():
                began = time.perf_counter()
                call()
                if number:
                    taken[label].append(time.perf_counter() - began)
    return {label: statistics.median(values) for label, values in taken.items()}


@contextmanager
def _eager(threads: int) -> Iterator[None]:
    """PyTorch with so many threads and no gradients."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)
