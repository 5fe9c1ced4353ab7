"""Shared by the benchmarks of translators: train recipes beside each other, and score fake nights with all controls.

Not a benchmark of its own. Translators are judged as users run them: exported, loaded by the runtime, at native sizes.
The judging space is that of an ImageNet MobileNetV2 with GeM, which has seen neither the town nor the webcams.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.shared.result import KEPT, data_pack
from gloam.eval.translation.features import EmbedderFeatures
from gloam.eval.translation.frechet import frechet_distance
from gloam.eval.translation.kernel import kernel_distance
from gloam.eval.translation.structural import ssim
from gloam.export.embedder import export_embedder
from gloam.export.translator import export_translator
from gloam.files import sha256_json
from gloam.heartbeat import to_stderr
from gloam.networks.checkpoints import load_checkpoint
from gloam.networks.checkpoints import load_generator as load_weights
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.models.image_model import ImageOperation
from gloam.runtime.models.translator import Translator, load_translator
from gloam.training.edges.config import read_detector_recipe
from gloam.training.edges.train import train_detector
from gloam.training.translators.config import read_translator_recipe
from gloam.training.translators.train import train_translator
from gloam.workflows.reproduce.town.rows import NO_NOISE

NETWORK = "gem_mobilenet_v2"
LOOK = 2
WEIGHTS = Path("mobilenet_v2_imagenet") / "mobilenet_v2_torchvision_names_fp16.pth"

Images = Sequence[npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class Job:
    """One training: a recipe, a seed, keys that replace the recipe's, and what it is called, by default after them."""

    recipe: str
    seed: int
    overrides: tuple[tuple[str, Any], ...] = ()
    called: str = ""

    @property
    def label(self) -> str:
        return self.called or f"{self.recipe}, seed {self.seed}"


def train_all(jobs: Sequence[Job], folder: Path, workers: int | None = None) -> dict[str, dict[str, Any]]:
    """Train all jobs, one thread each, as many at once as there are cores; files and times by label."""
    workers = min(len(jobs), workers or os.cpu_count() or 1)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        return dict(pool.map(_train, jobs, [folder] * len(jobs)))


def _train(job: Job, folder: Path) -> tuple[str, dict[str, Any]]:
    changed = {"seed": job.seed, "threads": 1, "tensorboard": False, **dict(job.overrides)}
    config = read_translator_recipe(job.recipe, changed)
    run = _place(config.to_dict(), folder / (job.called.replace(":", "-") or f"{job.recipe}-{job.seed}"))
    told = partial(_told, job.label)
    summary = train_translator(config, run, recipe=job.recipe, views=run.parent / "views", say=told)
    product = "translator" if "translator" in summary.weights else "day2night"  # of many domains, or of two
    exported = run / f"{product}.onnx"
    export_translator(load_weights(summary.weights[product]).model, exported)
    files = {name: str(path) for name, path in summary.weights.items()}
    made = {"onnx": str(exported), "files": files, "steps": summary.step, "of": summary.steps}
    made["weights_sha256"] = summary.weights_sha256[product]
    return job.label, {**made, "cpu minutes": summary.seconds / 60}


def _told(label: str, line: str) -> None:
    """Progress of one of several trainings."""
    to_stderr(f"{label}: {line}")


def _place(config: dict[str, Any], otherwise: Path) -> Path:
    """Folder of a run: by its configuration where runs are kept; a finished one is then only read."""
    kept = os.environ.get(KEPT)
    return Path(kept) / sha256_json(config)[:16] if kept else otherwise


def town_detector(folder: Path, **changes: Any) -> Path:
    """Weights of the recipe ``town_hed``, with some of its keys changed."""
    config = dataclasses.replace(read_detector_recipe("town_hed"), **changes)
    return train_detector(config, _place(config.to_dict(), folder / "-".join(["hed", *changes]))).weights


def second_look(recipe: str, judged: Sequence[int], detector: Path | None = None) -> tuple[tuple[str, Any], ...]:
    """A job's overrides: streets of the town's second look but for those that judge.

    Args:
        detector: weights of the edge detector, for a recipe of HED.
    """
    options = NO_NOISE if recipe != "town_hedngan" else {**NO_NOISE, "detector_weights": str(detector)}
    return ("data", {"reserved_seeds": list(judged), "look": LOOK}), ("options", options)


def judging_space(folder: Path) -> EmbedderFeatures:
    """The ImageNet MobileNetV2's, through the product's own path."""
    options: dict[str, Any] = {"padding": "tf", "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    model = load_checkpoint(data_pack("weights") / WEIGHTS, NETWORK, **options).model
    path = folder / "judge.onnx"
    export_embedder(model, path, provenance={})
    return EmbedderFeatures(Embedder.load(path))


def mean_shade(images: Images) -> float:
    """Mean over pixels and channels, on [0, 1]."""
    return float(np.mean([image.mean() for image in images]) / 255)


def controls(night_mean: float) -> dict[str, ImageOperation]:
    """What a trained translator must beat; ``night_mean`` is measured on training nights."""
    return {
        "untouched": load_translator("none"),
        "Lab inversion": load_translator("lab-inversion"),
        "gamma to the night mean": load_translator(f"gamma:{night_mean:.4f}"),
        "CLAHE": load_translator("clahe"),
    }


def score(
    day: Images, night: Images, operations: Mapping[str, ImageOperation], space: EmbedderFeatures
) -> tuple[dict[str, dict[str, float]], dict[str, list[npt.NDArray[np.uint8]]]]:
    """KID and FID of each row's fakes against real night, and how much of the day image is kept (SSIM, grey)."""
    real = space.features(night)
    rows, fakes = {}, {}
    for label, operation in operations.items():
        fakes[label] = [operation([image])[0] for image in day]
        found = space.features(fakes[label])
        kid = kernel_distance(real, found, subset_size=min(len(real), len(found)))
        rows[label] = {
            "KID": kid.mean,
            "FID": frechet_distance(real, found),
            "SSIM to the day image": float(np.mean([ssim(a, b) for a, b in zip(day, fakes[label], strict=True)])),
        }
    for row in rows.values():
        row["KID over untouched"] = row["KID"] / rows["untouched"]["KID"]
    return rows, fakes


def seed_spread(rows: Mapping[str, Mapping[str, float]], jobs: Sequence[Job]) -> dict[str, dict[str, float]]:
    """Lowest and highest KID over untouched of each recipe's seeds."""
    spread = {}
    for recipe in dict.fromkeys(job.recipe for job in jobs):
        values = [rows[job.label]["KID over untouched"] for job in jobs if job.recipe == recipe]
        spread[recipe] = {"lowest": min(values), "highest": max(values), "seeds": len(values)}
    return spread


def trained(made: Mapping[str, Mapping[str, Any]]) -> dict[str, ImageOperation]:
    """The exported generators, ready to run."""
    return {label: Translator.load(item["onnx"]) for label, item in made.items()}
