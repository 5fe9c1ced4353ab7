"""Day and night photographs of static webcams: retrieval by an ImageNet MobileNetV2 with GeM, nothing trained.

The descriptors come from the product's own path: weights, ONNX export, ``Embedder.load``, images decoded by gloam. The
torch network describes the same images as a cross-check. Ten cameras make few places: intervals resample cameras.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.shared.intervals import group_bootstrap
from benchmarks.shared.result import Result, data_pack
from gloam.data.images import decode_image
from gloam.data.photometric import apply_photometric
from gloam.eval.retrieval.ground_truth import GroundTruth, read_ground_truth
from gloam.eval.retrieval.scores import RetrievalScores, evaluate
from gloam.export.embedder import export_embedder
from gloam.model_card import Photometric
from gloam.networks.checkpoints import load_checkpoint
from gloam.networks.embedders import create_embedder
from gloam.padding import PaddingProfile
from gloam.runtime.models.embedder import Embedder
from gloam.training.embedders.batch_norm import settle_batch_norm

NETWORK = "gem_mobilenet_v2"
WEIGHTS = Path("mobilenet_v2_imagenet") / "mobilenet_v2_torchvision_names_fp16.pth"
SIZE = (416, 320)  # width, height
INPUT: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}  # x / 127.5 - 1
SETS = ("night2day", "day2night", "day2day")
EXPECTED, EXPECTED_CLAHE, TOLERANCE = 0.554, 0.701, 0.03
CLIP = 2.0  # of the judged CLAHE; clip 1, the Dark Side paper's, stands beside it
UNTRAINED_SEEDS = (0, 1, 2)

Images = Sequence[npt.NDArray[np.uint8]]


def run() -> Result:
    """Score all variants; the value is plain night-to-day mAP."""
    pack, weights = data_pack("amos_daynight"), data_pack("weights") / WEIGHTS
    truths = {name: read_ground_truth(pack / "retrieval_gnd.json", name) for name in SETS}
    names = sorted({image for truth in truths.values() for image in (*truth.map_names, *truth.query_names)})
    images = read_images(pack, names)
    clahe = {f"clahe clip {clip:g}": Photometric("clahe", clip=clip) for clip in (CLIP, 1.0)}
    with tempfile.TemporaryDirectory() as folder:
        model = load_checkpoint(weights, NETWORK, padding="tf", **INPUT).model
        path = export(model, Path(folder) / "tf.onnx")
        descriptors = {"plain": Embedder.load(path)(images)}
        for label, photometric in clahe.items():
            descriptors[label] = Embedder.load(path, photometric=photometric)(images)
        symmetric = load_checkpoint(weights, NETWORK, padding="symmetric", **INPUT).model
        descriptors["symmetric padding"] = Embedder.load(export(symmetric, Path(folder) / "symmetric.onnx"))(images)
        for seed in UNTRAINED_SEEDS:
            torch.manual_seed(seed)
            untrained = create_embedder(NETWORK, padding="tf", **INPUT).eval()
            settle_batch_norm(untrained, np.stack(images[::4]))
            descriptors[f"untrained, seed {seed}"] = describe_with_torch(untrained, images)
    scores = {
        label: {name: evaluate(names, rows, names, rows, truth) for name, truth in truths.items()}
        for label, rows in descriptors.items()
    }
    plain, judged = scores["plain"]["night2day"].mAP, scores[f"clahe clip {CLIP:g}"]["night2day"].mAP
    detail = {
        "mAP": {label: {name: item.mAP for name, item in row.items()} for label, row in scores.items()},
        "recall@1": {label: {name: item.recall[1] for name, item in row.items()} for label, row in scores.items()},
        "chance mAP": {name: item.chance_mAP for name, item in scores["plain"].items()},
        "95 % over cameras, night2day": {
            label: camera_interval(row["night2day"], truths["night2day"]) for label, row in scores.items()
        },
        "cameras": len({camera(name) for name in scores["plain"]["night2day"].per_query}),
        "queries": {name: [item.queries, item.skipped] for name, item in scores["plain"].items()},
        "queries means": "with positives, skipped without",
        "untrained means": "random weights, batch norm settled on every fourth image",
        "clahe": f"judged at clip {CLIP:g}: {judged:.4f}, target {EXPECTED_CLAHE} within {TOLERANCE}",
        "torch against ONNX Runtime, max abs": largest_difference(model, images, descriptors["plain"]),
    }
    met = abs(plain - EXPECTED) <= TOLERANCE and abs(judged - EXPECTED_CLAHE) <= TOLERANCE
    target = f"within {TOLERANCE} of {EXPECTED}; with CLAHE within {TOLERANCE} of {EXPECTED_CLAHE}"
    return Result(plain, "mAP", target, met, detail)


def read_images(pack: Path, names: Sequence[str]) -> list[npt.NDArray[np.uint8]]:
    """Decode and stretch, uint8 ``[320, 416, 3]`` each."""
    return [decode_image(pack / name, stretch=SIZE) for name in names]


def export(model: Any, path: Path) -> Path:
    """Export for native sizes."""
    provenance = {"recipe": "imported", "data": "ImageNet", "licence": "Apache-2.0"}
    export_embedder(model, path, profile=PaddingProfile.dynamic(), provenance=provenance)
    return path


@torch.no_grad()
def describe_with_torch(model: Any, images: Images, photometric: Photometric | None = None) -> npt.NDArray[np.float32]:
    """The plain loop: one image at a time through the torch network."""
    prepared = [apply_photometric(image, photometric or Photometric()) for image in images]
    rows = [model.describe_uint8(torch.from_numpy(np.ascontiguousarray(image))[None]).numpy() for image in prepared]
    return np.concatenate(rows)


def largest_difference(model: Any, images: Images, exported: npt.NDArray[np.float32], every: int = 8) -> float:
    """Largest difference of a descriptor value between torch and the exported model, on every eighth image."""
    return float(np.abs(describe_with_torch(model, images[::every]) - exported[::every]).max())


def camera(name: str) -> str:
    """``images/cam05/day/...`` is of ``cam05``."""
    return name.split("/")[1]


def camera_interval(scores: RetrievalScores, truth: GroundTruth) -> list[float]:
    """95 % interval of the mAP when cameras are resampled."""
    counted = [name for name in truth.query_names if name in scores.per_query]
    return list(group_bootstrap([scores.per_query[name] for name in counted], [camera(name) for name in counted]))
