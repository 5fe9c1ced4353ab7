"""Train an edge detector on procedural streets, whose edges are exact; killed at any moment, the same call carries on.

Every random choice of a step comes from (seed, step), so a resumed run equals an uninterrupted one bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gloam.data.town.config import REVISION
from gloam.data.town.edges import EDGES_REVISION, EdgeViews, render_edge_views
from gloam.errors import DivergenceError
from gloam.eval.edges import EdgeScores, canny_edges, score_edges, sobel_edges
from gloam.files import sha256_json
from gloam.heartbeat import Heartbeat, Say
from gloam.networks.checkpoints import save_checkpoint
from gloam.networks.edges import EdgeDetectorNetwork, create_detector
from gloam.training.edges.config import DetectorConfig
from gloam.training.edges.init import parameter_groups, settle_detector
from gloam.training.edges.losses import detector_loss
from gloam.training.kept_arrays import read_arrays, write_arrays
from gloam.training.run_record import RunRecord
from gloam.training.run_state import RunState

WEIGHTS_FILE = "detector.safetensors"
FIRST_SAVE, SAVE_EVERY = 30.0, 600.0  # seconds of training without a save within an epoch, for the first and later ones
SETTLING = 2**40  # the step whose batch, never trained on, the initial weights are settled on
DRAW = 808  # keeps these random numbers apart from others of the same seed
JUDGED = ("day", "night")


@dataclass(frozen=True)
class DetectorSummary:
    """What a run gave.

    Attributes:
        weights: the written ``.safetensors`` checkpoint; weights_sha256: of its tensors.
        best_epoch: the epoch whose weights these are, 1-based: the highest F-score by day on the held-out street.
        scores: ODS F-score on the held-out street by condition (``day``, ``night``) and detector: ``trained``,
            ``untrained``, and the controls ``sobel`` and ``canny``, each at its own best threshold.
        history: one record per epoch.
        seconds: of this call, rendering included; cpu_seconds: of all threads.
        config: of the run.
    """

    weights: Path
    weights_sha256: str
    best_epoch: int
    scores: dict[str, dict[str, float]]
    history: list[dict[str, Any]]
    seconds: float
    cpu_seconds: float
    config: DetectorConfig

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "weights": str(self.weights),
            "weights_sha256": self.weights_sha256,
            "best_epoch": self.best_epoch,
            "validation_f": self.scores,
            "seconds": round(self.seconds, 1),
            "cpu_seconds": round(self.cpu_seconds, 1),
        }

    def __str__(self) -> str:
        """Lines for people: the best epoch beside its controls."""
        lines = [f"{self.weights}: best of {self.config.epochs} epochs is {self.best_epoch}"]
        for condition, scores in self.scores.items():
            controls = ", ".join(f"{name} {value:.3f}" for name, value in scores.items() if name != "trained")
            lines.append(f"F-score by {condition} on a held-out street: {scores['trained']:.3f} ({controls})")
        return "\n".join(lines)


def train_detector(
    config: DetectorConfig, folder: str | Path, *, recipe: str = "town_hed", say: Say | None = None
) -> DetectorSummary:
    """Train, keep the best epoch, and write ``detector.safetensors`` and ``train.json``.

    Args:
        config: sizes, seeds and streets.
        folder: output folder, created where it is missing; holds rendered views and the state.
        recipe: name that goes into the weights' provenance.
        say: gets one line per stage and epoch.

    Raises:
        StoreError: ``folder`` holds a run with another configuration, or cannot be written.
        ModelError: no such network, or not with these options.
        DivergenceError: the loss is not finite; step and views are named.
    """
    started, cpu = time.perf_counter(), time.process_time()
    folder = Path(folder)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    model = create_detector(config.network, **config.network_options)
    optimizer = torch.optim.Adam(parameter_groups(model, config.learning_rate, config.head_factor))
    state = RunState(folder, {key: item for key, item in config.to_dict().items() if key != "threads"})
    kept = state.load(say)
    train = [street_views(config, seed, config.views, config.conditions, folder, say) for seed in config.street_seeds]
    apart = street_views(config, config.validation_seed, config.validation_views, JUDGED, folder, say)
    if kept is None:
        scores = {name: judge(name, model, apart, config) for name in ("untrained", "sobel", "canny")}
        settle_detector(model, draw(config, train, SETTLING)[0])
        table = {c: {name: score[c].f for name, score in scores.items()} for c in JUDGED}
        history: list[dict[str, Any]] = []
        best = model.state_dict()
        if say is not None:
            say(f"F by day on a held-out street: {', '.join(f'{k} {v:.3f}' for k, v in table['day'].items())}")
    else:
        model.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
        table, history, best = kept["table"], kept["history"], kept["best"]

    def save(step: int, done: tuple[int, float] = (0, 0.0)) -> None:
        state.save(
            step,
            {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "done": done}
            | {"best": best, "history": history, "table": table},
        )

    done = (0, 0.0) if kept is None else tuple(kept["done"])
    for epoch in range(len(history) + 1, config.epochs + 1):
        rate = config.learning_rate * (1 - 0.9 * (epoch - 1) / max(config.epochs - 1, 1))
        for group in optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        loss = train_epoch(config, model, optimizer, train, epoch, done, save, say)
        done = (0, 0.0)
        found = judge("trained", model, apart, config)
        history.append({"epoch": epoch, "loss": loss, "learning_rate": rate} | {c: found[c].f for c in JUDGED})
        if found["day"].f > max((record["day"] for record in history[:-1]), default=-1.0):
            best = {key: value.clone() for key, value in model.state_dict().items()}
            for condition in JUDGED:
                table[condition]["trained"] = found[condition].f
        save(epoch * config.steps_per_epoch)
        if say is not None:
            scored = ", ".join(f"{condition} {found[condition].f:.3f}" for condition in JUDGED)
            say(f"epoch {epoch}/{config.epochs}: loss {loss:.4f}, F by {scored}")
    model.load_state_dict(best)
    model.eval()
    best_epoch = max(history, key=lambda record: float(record["day"]))["epoch"]
    data = f"procedural streets {', '.join(map(str, config.street_seeds))} by {', '.join(config.conditions)}"
    provenance = save_checkpoint(
        folder / WEIGHTS_FILE,
        model,
        {"recipe": recipe, "data": data, "licence": "Apache-2.0", "config_sha256": sha256_json(config.to_dict())}
        | {"best_epoch": best_epoch, "validation_f": table["day"]["trained"]},
    )
    summary = DetectorSummary(
        folder / WEIGHTS_FILE,
        provenance["weights_sha256"],
        best_epoch,
        table,
        history,
        time.perf_counter() - started,
        time.process_time() - cpu,
        config,
    )
    more = {"best_epoch": best_epoch, "validation_f": table}
    RunRecord(recipe, config.to_dict(), summary.weights_sha256, "cpu", history, more).write(folder)
    return summary


def train_epoch(
    config: DetectorConfig,
    model: EdgeDetectorNetwork,
    optimizer: torch.optim.Optimizer,
    train: Sequence[EdgeViews],
    epoch: int,
    done: tuple[int, float],
    save: Callable[[int, tuple[int, float]], None],
    say: Say | None,
) -> float:
    """One epoch; the mean loss.

    Args:
        config, model, optimizer, train: of the run.
        epoch: from 1.
        done: steps of it that an earlier call has done, and the sum of their losses.
        save: keeps a state of a step of the run, and what is ``done`` by then.
        say: gets a line now and then.

    Raises:
        DivergenceError: naming step and views.
    """
    model.train()
    first, total = done
    start, last = (epoch - 1) * config.steps_per_epoch, epoch * config.steps_per_epoch
    beat = Heartbeat(say, f"epoch {epoch}/{config.epochs}", config.steps_per_epoch, "steps", done=first)
    saved, save_after = time.perf_counter(), FIRST_SAVE
    for step in range(start + first, last):
        images, truth, names = draw(config, train, step)
        sides, fused = model.side_logits(images)
        loss = detector_loss(sides, fused, truth)
        if not math.isfinite(loss.item()):
            raise DivergenceError(f"the loss is {loss.item()} at step {step} ({', '.join(names)}); lower learning_rate")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
        optimizer.step()
        total += loss.item()
        beat.update()
        if time.perf_counter() - saved >= save_after and step + 1 < last:
            save(step + 1, (step + 1 - start, total))
            saved, save_after = time.perf_counter(), SAVE_EVERY
    return total / config.steps_per_epoch


def draw(config: DetectorConfig, train: Sequence[EdgeViews], step: int) -> tuple[Tensor, Tensor, list[str]]:
    """The batch of a step: images float32 ``[B, 3, crop, crop]`` in [-1, 1], truth ``[B, 1, crop, crop]``, names."""
    random = np.random.default_rng([config.seed, DRAW, step])
    images, truths, names = [], [], []
    for _ in range(config.batch):
        street = int(random.integers(len(train)))
        condition = config.conditions[int(random.integers(len(config.conditions)))]
        views = train[street]
        view = int(random.integers(len(views.edges)))
        top = int(random.integers(config.height - config.crop + 1))
        left = int(random.integers(config.width - config.crop + 1))
        window = (view, slice(top, top + config.crop), slice(left, left + config.crop))
        image, truth = views.images[condition][window] / np.float32(255), views.edges[window]
        if config.augment:
            gain, gamma = np.exp(random.uniform(-config.exposure, config.exposure, 2)).astype(np.float32)
            noise = random.standard_normal(image.shape, np.float32) * np.float32(random.uniform(0, config.noise))
            image = np.clip(np.power(np.maximum(image, 1e-4), gamma) * gain + noise, 0, 1)
            if random.random() < 0.5:
                image, truth = image[:, ::-1], truth[:, ::-1]
        images.append(image.transpose(2, 0, 1) * 2 - 1)
        truths.append(truth[None])
        names.append(f"street{config.street_seeds[street]}/{condition}-{view:04d}")
    return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(truths)), names


def judge(name: str, model: EdgeDetectorNetwork, views: EdgeViews, config: DetectorConfig) -> dict[str, EdgeScores]:
    """F-scores by condition: of ``sobel``, of ``canny``, or of the model under any other name."""
    result = {}
    for condition in JUDGED:
        images = views.images[condition]
        if name == "sobel":
            found = [sobel_edges(image) for image in images]
        elif name == "canny":
            found = [canny_edges(image) for image in images]
        else:
            found = list(detect(model, images))
        result[condition] = score_edges(found, list(views.edges), tolerance=config.tolerance, thin=name != "canny")
    return result


@torch.no_grad()
def detect(model: EdgeDetectorNetwork, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Edge maps of images uint8 ``[n, h, w, 3]`` in eval mode, float32 ``[n, h, w]`` in [0, 1]."""
    model.eval()
    blocks = [
        model.edges_uint8(torch.from_numpy(images[start : start + 8])).numpy() for start in range(0, len(images), 8)
    ]
    return np.concatenate(blocks)


def street_views(
    config: DetectorConfig, seed: int, count: int, conditions: Sequence[str], folder: Path, say: Say | None
) -> EdgeViews:
    """Views of a street, kept in ``folder`` so that a resumed run does not render again.

    Raises:
        StoreError: kept views cannot be read, or new ones not be written.
    """
    what = [seed, count, list(conditions), config.width, config.height, REVISION, EDGES_REVISION]
    path = folder / f"edges-{sha256_json(what)[:16]}.npz"
    kept = read_arrays(path)
    if kept is not None:
        return EdgeViews({condition: kept[condition] for condition in conditions}, kept["edges"])
    if say is not None:
        say(f"rendering {count} views of street {seed}")
    views = render_edge_views(seed, count, conditions, (config.width, config.height))
    write_arrays(path, {"edges": views.edges, **views.images})
    return views
