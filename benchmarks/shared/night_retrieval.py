"""Shared by the benchmarks of night-robust embedders: fine-tune rows of a table beside each other, and score them.

Not a benchmark of its own. A row is an ImageNet MobileNetV2 with GeM, fine-tuned on days alone with the made nights
that the row names. Queries and map are of places that neither the embedder nor the generator has seen.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.shared.night_scores import NETWORK, WEIGHTS
from benchmarks.shared.result import KEPT, code_state, data_pack, kept_rows
from gloam.data.photometric import apply_photometric
from gloam.data.retrieval_sets.sets import RetrievalSet
from gloam.eval.retrieval.ground_truth import GroundTruth
from gloam.eval.retrieval.scores import RetrievalScores, evaluate
from gloam.files import sha256_file, sha256_json
from gloam.model_card import Photometric
from gloam.networks.checkpoints import load_checkpoint
from gloam.networks.embedders import EmbedderNetwork
from gloam.runtime.models.image_model import ImageOperation
from gloam.training.embedders.config import MetricConfig
from gloam.training.embedders.night_rule import NightRule
from gloam.training.embedders.nights import open_night_maker
from gloam.training.embedders.train import train_metric
from gloam.training.embedders.tuples.images import describe_images

INPUT: dict[str, Any] = {"padding": "tf", "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
BATCH = 32
# What every row begins with; the papers' loss and tuples.
IMAGENET = MetricConfig(
    network=NETWORK,
    network_options={key: list(value) if isinstance(value, tuple) else value for key, value in INPUT.items()},
)
DAYS, CLAHE = "days alone", "days, CLAHE"
CHOSEN = "made nights 12 %, diverse anchors"  # among shares, anchors and makers, on streets 301 and 302
TRANSLATED = "days, CLAHE; night queries translated to day"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        label: for people.
        changes: keys of :class:`MetricConfig` that replace the common ones.
        maker: what makes nights, see ``open_night_maker``; None for days alone.
        domain: of a maker of several domains, the one that is night.
        noise: seed of what a maker that takes noise is given; zeros by default.
    """

    label: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    maker: str | None = None
    domain: str | None = None
    noise: int | None = None


def made_nights(share: float, **changes: Any) -> dict[str, Any]:
    """Keys of a row whose anchors are night with this probability, drawn anew each epoch, as in the paper's text."""
    return {"night": NightRule("per_epoch", share), **changes}


def table_rows(maker: str) -> list[Row]:
    """The rows of the table, ``maker`` being a generator of nights."""
    return [
        Row(DAYS, {"photometric": "none"}),
        Row(CLAHE),
        Row("Lab inversion 25 %", made_nights(0.25), "lab-inversion"),
        Row("made nights 25 %", made_nights(0.25), maker),
        Row("made nights 25 %, diverse anchors", made_nights(0.25, anchors="diverse"), maker),
        Row(CHOSEN, chosen_nights(), maker),
    ]


def chosen_nights() -> dict[str, Any]:
    """Keys of the chosen row."""
    return made_nights(0.12, anchors="diverse")


@dataclass(frozen=True)
class Job:
    """One training: a row, a seed, and where the images are."""

    row: Row
    seed: int
    common: MetricConfig
    train: Path
    validation: Path
    folder: Path
    nights: Path


def train_rows(jobs: Sequence[Job]) -> list[tuple[Path, dict[str, Any]]]:
    """Weights of every job, and what it cost; one thread each, as many at once as there are cores.

    Where runs are kept, so is each job, as long as its images, its maker and all code stay.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(len(jobs), len(os.sched_getaffinity(0))), mp_context=context) as pool:
        return list(pool.map(_train, jobs))


def _train(job: Job) -> tuple[Path, dict[str, Any]]:
    row = job.row
    config = replace(job.common, seed=job.seed, threads=1, workers=0, **row.changes)
    maker = None if row.maker is None else open_night_maker(row.maker, domain=row.domain, noise=row.noise)
    made_by: str | None = row.maker
    if made_by is not None and Path(made_by).is_file():
        made_by = sha256_file(made_by)
    key = [config.to_dict(), row.domain, row.noise, made_by, sha256_file(job.train), sha256_file(job.validation)]
    kept = os.environ.get(KEPT)
    folder = job.folder / f"{row.label}-{job.seed}".replace(" ", "_").replace("/", "_")
    if kept:
        folder = Path(kept) / "night_retrieval" / sha256_json([*key, code_state("gloam", "benchmarks")])[:16]

    def train() -> dict[str, Any]:
        began = time.process_time()
        torch.set_num_threads(1)
        train, validation = load_set(job.train), load_set(job.validation)
        summary = train_metric(
            config, train, validation, folder, night=maker, weights=imagenet_weights(), nights=job.nights
        )
        cost = {
            "cpu minutes": (time.process_time() - began) / 60,
            "tuples": sum(e.get("tuples", 0) for e in summary.history),
        }
        return {"weights": str(summary.weights), "cost": cost}

    made = kept_rows("night_retrieval", key, train)
    return Path(made["weights"]), made["cost"]


def imagenet_weights() -> Path:
    """Of the MobileNetV2 that every row begins with."""
    return data_pack("weights") / WEIGHTS


def untrained() -> EmbedderNetwork:
    """The network before fine-tuning."""
    return load_checkpoint(imagenet_weights(), NETWORK, **INPUT).model


def save_set(images: RetrievalSet, path: Path) -> Path:
    """Keep a set of images in memory for other processes."""
    assert images.pixels is not None
    np.savez(
        path,
        pixels=np.stack(images.pixels),
        names=np.array(images.names),
        clusters=images.clusters,
        queries=images.queries,
        positives=images.positives,
        conditions=np.array(images.conditions),
    )
    return path


def load_set(path: Path) -> RetrievalSet:
    """What :func:`save_set` kept."""
    from gloam.data.sources import ImageItem

    with np.load(path) as kept:
        return RetrievalSet(
            tuple(ImageItem(str(name), Path(str(name))) for name in kept["names"]),
            kept["clusters"],
            kept["queries"],
            kept["positives"],
            tuple(str(item) for item in kept["conditions"]),
            tuple(kept["pixels"]),
        )


@torch.inference_mode()
def describe(
    model: EmbedderNetwork,
    images: Sequence[npt.NDArray[np.uint8]],
    photometric: Photometric,
    translate: Mapping[int, ImageOperation] | None = None,
) -> npt.NDArray[np.float32]:
    """Unit descriptors; ``translate`` names the rows that pass a translator first."""
    prepared = []
    for row, image in enumerate(images):
        operation = (translate or {}).get(row)
        prepared.append(apply_photometric(operation([image])[0] if operation else image, photometric))
    found = describe_images(model.eval(), prepared, torch.device("cpu"), BATCH)
    return np.asarray(found.numpy(), np.float32)


def truths(images: RetrievalSet) -> dict[str, GroundTruth]:
    """Night against day, and day against day without the query itself; right is what shows the same place."""
    conditions = np.array(images.conditions)
    database = np.flatnonzero(conditions == "day")
    found = {}
    for name, condition in (("night>day", "night"), ("day>day", "day")):
        queries = np.flatnonzero(conditions == condition)
        same = [images.clusters[database] == images.clusters[query] for query in queries]
        found[name] = GroundTruth(
            tuple(images.names[row] for row in database),
            tuple(images.names[row] for row in queries),
            tuple(np.flatnonzero(row & (database != query)) for row, query in zip(same, queries, strict=True)),
            tuple(np.flatnonzero(database == query) for query in queries),
        )
    return found


def score(images: RetrievalSet, descriptors: npt.NDArray[np.float32]) -> dict[str, RetrievalScores]:
    """Both directions."""
    names = images.names
    return {name: evaluate(names, descriptors, names, descriptors, truth) for name, truth in truths(images).items()}


def pooled_deviation(groups: Sequence[Sequence[float]]) -> float:
    """Standard deviation within groups of equal size, pooled."""
    return float(np.sqrt(np.mean([np.var(group, ddof=1) for group in groups])))
