"""What the padding masks cost in each precision: time on an image that fills the shape, and cosine on photographs.

Two graphs of one network, both converted by the product: ``dynamic`` without masks, and ``fixed`` at 256 x 256 with
them. The time is of one 256 x 256 image, where the masks change nothing; the cosine is of photographs that do not fill
the shape, where they must. The extra loss of the masks is what a converted masked graph loses against float32 at native
size, less what the converted maskless graph loses there. Halves are computed by float32 twins that round as a GPU does,
because ONNX Runtime's CPU has none of its own; their times would say nothing.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch

from benchmarks.padding_exact import lively
from benchmarks.shared.result import Result, data_pack
from gloam.data.images import decode_image
from gloam.export.embedder import export_embedder
from gloam.export.precision.half import rounding_twin, to_half
from gloam.export.precision.int8 import to_int8, worst_loss
from gloam.networks.checkpoints import load_checkpoint
from gloam.networks.embedders import EmbedderNetwork, create_embedder
from gloam.padding import PaddingProfile
from gloam.runtime.backends.ort import OrtSession

SIDE = 256  # pixels
PHOTOGRAPHS = 24  # every second calibrates, the others are compared
ROUNDS, RUNS = 9, 5
TIMED = ("fp32", "int8")
PROFILES = {
    "without masks": PaddingProfile.dynamic((1, 8)),
    "with masks": PaddingProfile.fixed((SIDE,), (SIDE,), batch=(1, 8)),
}

Feed = dict[str, npt.NDArray[Any]]


def run() -> Result:
    """Worst ratio of time in fp32; the other precisions and the losses are in the detail."""
    files = sorted((data_pack("amos_daynight") / "images").glob("*/*/*.jpg"))
    images = [decode_image(files[at], max_side=SIDE) for at in np.linspace(0, len(files) - 1, PHOTOGRAPHS).astype(int)]
    detail = {name: measure(model, images) for name, model in models().items()}
    worst = max(item["time_ratio"]["fp32"] for item in detail.values())
    return Result(worst, "ratio of time", None, None, {"side": SIDE, "photographs": len(images), "models": detail})


def models() -> dict[str, EmbedderNetwork]:
    """MobileNetV2 with its ImageNet weights, ResNet-50 with lively random ones."""
    half = (0.5, 0.5, 0.5)
    weights = data_pack("weights") / "mobilenet_v2_imagenet" / "mobilenet_v2_torchvision_names_fp16.pth"
    torch.manual_seed(0)
    return {
        "gem_mobilenet_v2, ImageNet weights": load_checkpoint(
            weights, "gem_mobilenet_v2", padding="tf", mean=half, std=half
        ).model.eval(),
        "gem_resnet50, random weights": lively(create_embedder("gem_resnet50")),
    }


def measure(model: EmbedderNetwork, images: Sequence[npt.NDArray[np.uint8]], rounds: int = ROUNDS) -> dict[str, Any]:
    """Ratios of time and losses of one network.

    Args:
        model: padding-exact.
        images: photographs, at most ``SIDE`` pixels a side.
        rounds: of the clock.
    """
    with tempfile.TemporaryDirectory(prefix="gloam-masks-") as temporary:
        sessions = {
            profile: convert(model, profile, [feed(image, profile) for image in images[::2]], Path(temporary))
            for profile in PROFILES
        }
    compared = images[1::2]
    truth = describe(sessions["without masks"]["fp32"], "without masks", compared)
    losses = {
        profile: {
            precision: worst_loss(describe(session, profile, compared), truth) for precision, session in made.items()
        }
        for profile, made in sessions.items()
    }
    full = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    seconds: dict[str, dict[str, list[float]]] = {p: {q: [] for q in TIMED} for p in PROFILES}
    for turn in range(rounds + 1):  # the first counts for nothing
        for precision in TIMED:  # both graphs of a precision side by side
            for profile, made in sessions.items():
                given = feed(full, profile)
                clock = time.perf_counter()
                for _ in range(RUNS):
                    made[precision].run(given)
                if turn:
                    seconds[profile][precision].append((time.perf_counter() - clock) / RUNS)
    pairs = {p: list(zip(seconds["with masks"][p], seconds["without masks"][p], strict=True)) for p in TIMED}
    return {
        "time_ratio": {p: statistics.median(masked / plain for masked, plain in pairs[p]) for p in TIMED},
        "milliseconds": {
            profile: {p: 1e3 * statistics.median(values) for p, values in item.items()}
            for profile, item in seconds.items()
        },
        "worst 1 - cosine to float32 at native size": losses,
        "extra loss of the masks": {p: loss - losses["without masks"][p] for p, loss in losses["with masks"].items()},
        "threads": sessions["with masks"]["fp32"].backend.threads,
    }


def convert(model: EmbedderNetwork, profile: str, calibration: Sequence[Feed], folder: Path) -> dict[str, OrtSession]:
    """The network's graph of one profile in every precision; in int8 all that can be is quantised."""
    path = folder / "model.onnx"
    export_embedder(model, path, profile=PROFILES[profile], provenance={})
    exact = onnx.load(path)
    protos = {
        "fp32": exact,
        "fp16": rounding_twin(to_half(exact, "fp16")[0]),
        "bf16": rounding_twin(to_half(exact, "bf16")[0]),
        "int8": to_int8(exact, calibration, lambda made: 0.0, 1.0)[0],
    }
    sessions = {}
    for precision, proto in protos.items():
        onnx.save(proto, path)
        sessions[precision] = OrtSession(path)
    return sessions


def feed(image: npt.NDArray[np.uint8], profile: str) -> Feed:
    """Inputs of a graph for one image."""
    if profile == "without masks":
        return {"images": image[None]}
    batch, sizes = PROFILES[profile].pad([image], (SIDE, SIDE))
    return {"images": batch, "sizes": sizes}


def describe(session: OrtSession, profile: str, images: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
    """Descriptors ``[n, D]``, an image at a time."""
    return np.concatenate([session.run(feed(image, profile))["descriptors"] for image in images])
