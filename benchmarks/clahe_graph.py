"""CLAHE inside the exported graph against OpenCV on the host, on photographs of webcams by day and by night.

Three routes to one descriptor (ImageNet MobileNetV2 with GeM): the host's, which is OpenCV; the tensor module, as
training batches use it; and an exported model with the module baked in, which takes raw pixels. Beside them stands
what no CLAHE at all would cost, the control of the cosine.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.amos_retrieval import INPUT, NETWORK, SETS, WEIGHTS, export
from benchmarks.shared.result import Result, data_pack
from gloam.data.images import decode_image
from gloam.data.photometric import clahe
from gloam.eval.retrieval.ground_truth import read_ground_truth
from gloam.model_card import Photometric
from gloam.networks.checkpoints import load_checkpoint
from gloam.networks.clahe import ClaheLayer
from gloam.networks.embedders import DescriptorPipeline
from gloam.runtime.models.embedder import Embedder

CLIP = 1.0  # the Dark Side paper's
TARGET = 0.999
MAX_SIDE = 640  # pixels
TENSOR_EVERY = 4  # the tensor module describes every fourth photograph
BATCH = 4
TIMED = 8  # photographs
ROUNDS = 3


def run() -> Result:
    """Worst cosine of the exported route; the tensor route, the control and the costs are in the detail."""
    pack = data_pack("amos_daynight")
    truths = [read_ground_truth(pack / "retrieval_gnd.json", name) for name in SETS]
    names = sorted({image for truth in truths for image in (*truth.map_names, *truth.query_names)})
    # Of many sizes: tiles with and without a reflected border.
    images = [decode_image(pack / name, max_side=MAX_SIDE) for name in names]
    model = load_checkpoint(data_pack("weights") / WEIGHTS, NETWORK, padding="tf", **INPUT).model
    module = ClaheLayer(CLIP).eval()
    hosts = [clahe(image, CLIP) for image in images]
    with tempfile.TemporaryDirectory(prefix="gloam-clahe-") as folder, torch.no_grad():
        plain = Embedder.load(export(model, Path(folder) / "plain.onnx"))
        baked = Embedder.load(export(DescriptorPipeline(model, clahe=module), Path(folder) / "baked.onnx"))
        reference = plain(hosts)
        tensors = [equalised(module, image) for image in images[::TENSOR_EVERY]]
        routes = {
            "graph": cosines(baked(images), reference),
            "tensor module": cosines(plain([item.astype(np.uint8) for item in tensors]), reference[::TENSOR_EVERY]),
            "control: no CLAHE": cosines(plain(images), reference),
        }
        host = Embedder.load(Path(folder) / "plain.onnx", photometric=Photometric("clahe", clip=CLIP))
        timed = images[:TIMED]
        stacked = torch.from_numpy(np.stack([image for image in images if image.shape == images[0].shape][:BATCH]))
        # One round after another of all routes, so that a busy machine is busy for all of them.
        seconds = interleaved(
            {
                "host, OpenCV": (lambda: [clahe(image, CLIP) for image in timed], len(timed)),
                "tensor module, one by one": (lambda: [equalised(module, image) for image in timed], len(timed)),
                "tensor module, batched": (lambda: module(stacked), len(stacked)),
                "description alone": (lambda: plain(timed), len(timed)),
                "description, CLAHE on the host": (lambda: host(timed), len(timed)),
                "description, CLAHE in the graph": (lambda: baked(timed), len(timed)),
            }
        )
    pixels = np.concatenate([np.abs(a - b).ravel() for a, b in zip(tensors, hosts[::TENSOR_EVERY], strict=True)])
    worst = routes["graph"]["worst"]
    detail: dict[str, Any] = {
        "clip": CLIP,
        "photographs": len(images),
        "sizes_width_height": sorted({(image.shape[1], image.shape[0]) for image in images}),
        "cosine to the host route": routes,
        "tensor module against host": {
            "values that differ, share": float((pixels > 0).mean()),
            "largest difference, of 255": float(pixels.max()),
        },
        "milliseconds per photograph": {route: 1e3 * value for route, value in seconds.items()},
        "torch threads": torch.get_num_threads(),
        "runtime threads": plain.session.backend.threads,
    }
    return Result(worst, "cosine", f"worst >= {TARGET}", worst >= TARGET, detail)


def equalised(module: ClaheLayer, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """One photograph through the tensor module."""
    result: npt.NDArray[np.float32] = module(torch.from_numpy(np.ascontiguousarray(image))[None])[0].numpy()
    return result


def cosines(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> dict[str, float]:
    """Worst and mean cosine between rows."""
    first, second = (rows.astype(np.float64) for rows in (found, expected))
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    values = (first * second).sum(1) / norms
    return {"worst": float(values.min()), "mean": float(values.mean())}


def interleaved(calls: dict[str, tuple[Callable[[], object], int]]) -> dict[str, float]:
    """Median seconds per photograph of each call, after a first one that counts for nothing."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS + 1):
        for name, (call, count) in calls.items():
            clock = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - clock) / count)
    return {name: statistics.median(values[1:]) for name, values in times.items()}
