"""Train a translator: open the images, run the loop in one process or several, write the networks and the record."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gloam.data.town.looks import street_names
from gloam.files import sha256_json
from gloam.heartbeat import Say, to_stderr
from gloam.networks.checkpoints import save_checkpoint
from gloam.training.run_contents import RunContents
from gloam.training.run_record import PACKAGES, RunRecord, installed
from gloam.training.run_state import has_state
from gloam.training.translators.batches import open_batches
from gloam.training.translators.company_batches import open_company_batches
from gloam.training.translators.config import TranslatorConfig
from gloam.training.translators.fabric import FabricEngine, launch, make_fabric
from gloam.training.translators.monitor import HELD_OUT_FILE, LOSSES_FILE, in_units, read_table
from gloam.training.translators.steps import Clock, Judge, Loop
from gloam.training.translators.trainers import TRAINERS, DomainOptions

if TYPE_CHECKING:
    from lightning_fabric import Fabric

VIEWS_FOLDER = "views"
INCEPTION = "inception"  # as a judge
WHEN = ("step", "epoch", "seconds", "learning_rate")
TOWN_LICENCE = "Apache-2.0"
OTHER_LICENCE = "Apache-2.0 for the code; the terms of the training images apply to the weights"


@dataclass(frozen=True)
class TranslatorSummary:
    """What a run gave.

    Attributes:
        weights: the written ``.safetensors`` checkpoints by name: ``day2night``, and what else the trainer makes.
        weights_sha256: of their tensors, by the same names.
        step, steps: done, and asked for by the recipe.
        limited: True where ``max_minutes`` ended the run.
        seconds: by the run's clock, all calls together.
        losses: the last row of ``losses.csv``, by name.
        held_out: the last row of ``held_out.csv``, by name.
        config: of the run.
    """

    weights: dict[str, Path]
    weights_sha256: dict[str, str]
    step: int
    steps: int
    limited: bool
    seconds: float
    losses: dict[str, float]
    held_out: dict[str, float]
    config: TranslatorConfig

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "weights": {name: str(path) for name, path in self.weights.items()},
            "weights_sha256": self.weights_sha256,
            "step": self.step,
            "steps": self.steps,
            "limited": self.limited,
            "seconds": round(self.seconds, 1),
            "clock": self.config.clock,
            "losses": self.losses,
            "held_out": self.held_out,
            "held_out_in_units": in_units(self.held_out),
        }

    def __str__(self) -> str:
        """Lines for people."""
        clock = self.config.clock
        end = f"ended by max_minutes {self.config.max_minutes:g}" if self.limited else "complete"
        scores = ", ".join(f"{name} {value:.4f}" for name, value in in_units(self.held_out).items()) or "none"
        return (
            f"{', '.join(map(str, self.weights.values()))}: {self.step} of {self.steps} steps ({end}), "
            f"{self.seconds / 60:.1f} {clock} minutes\nheld-out scores: {scores}"
        )


def train_translator(
    config: TranslatorConfig,
    folder: str | Path,
    *,
    recipe: str = "custom",
    views: str | Path | None = None,
    say: Say | None = None,
) -> TranslatorSummary:
    """Train to the end of the recipe, or of its time, and write the networks, curves, samples and ``train.json``.

    The same call carries on after a kill, and with a higher ``max_minutes`` after the limit; a finished run is only
    read. Parameters are then bit for bit those of an uninterrupted run (same machine, threads and processes; CPU).

    Args:
        config: trainer, data, limits.
        folder: output folder, created where it is missing.
        recipe: name that goes into the weights' provenance.
        views: where rendered town views are kept, to be shared by runs; ``folder/views`` by default.
        say: gets one line per stage and epoch; with several processes they go to the error output instead.

    Raises:
        UsageError: this machine has no such device, or the images do not fit the networks.
        DataError: absent or unreadable images.
        ModelError: no such network, or not with these options.
        StoreError: ``folder`` holds another run, or cannot be written.
        DivergenceError: a loss is not finite; step, file names and the saved state are named.
        MissingExtraError: an optional package is absent.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning_fabric")
        fabric = make_fabric(config.device, config.processes, config.precision)
        place, cache = Path(folder), Path(views) if views is not None else Path(folder) / VIEWS_FOLDER
        told = say if config.processes == 1 else (to_stderr if say is not None else None)
        return launch(fabric, _run, config, place, recipe, cache, told)


def _run(
    fabric: Fabric,
    config: TranslatorConfig,
    folder: Path,
    recipe: str,
    views: Path,
    say: Say | None,
) -> TranslatorSummary:
    """One process of a run; the first one writes the results."""
    clock = Clock(config.clock)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    torch.backends.cudnn.benchmark = True  # images of a run have one size
    engine = FabricEngine(fabric)
    make, _ = TRAINERS[config.trainer]
    trainer = make(config.options, engine, config.seed)  # a wrong network is refused before minutes of rendering
    judge = embedder_judge(config.judge) if config.judge is not None and fabric.global_rank == 0 else None
    with fabric.rank_zero_first():  # the first process renders, and reads what may have changed, for all
        once = say if fabric.global_rank == 0 else None
        contents = RunContents(folder, once)
        names = config.options.domains if isinstance(config.options, DomainOptions) else ()
        beside = config.options.beside
        if beside is None:
            batches = open_batches(config.data, config.batch, config.seed, views, contents, once, names)
        else:
            batches = open_company_batches(config.data, config.batch, config.seed, beside, names, contents)
        contents.note(has_state(folder))
    loop = Loop(config, folder, fabric, engine, trainer, batches, clock, say, judge)
    end = loop.run()
    fabric.barrier()
    weights, hashes = {}, {}
    if fabric.global_rank == 0:
        trainer.finish(batches)
        provenance = {
            "recipe": recipe,
            "data": _data_name(config),
            "licence": TOWN_LICENCE if config.data.kind.startswith("town") else OTHER_LICENCE,
            "config_sha256": sha256_json(config.to_dict()),
            "steps": end.step,
        }
        for name, product in trainer.products().items():
            weights[name] = folder / f"{name}.safetensors"
            saved = save_checkpoint(weights[name], product.float(), provenance)  # type: ignore[arg-type]  # a saved kind
            hashes[name] = saved["weights_sha256"]
    losses, held_out = _last_rows(folder, LOSSES_FILE, HELD_OUT_FILE)
    summary = TranslatorSummary(
        weights, hashes, end.step, end.steps, end.limited, end.seconds, losses, held_out, config
    )
    if fabric.global_rank == 0:
        _record(recipe, summary, batches.identity, str(fabric.device)).write(folder)
    return summary


def embedder_judge(path: str) -> Judge:
    """KID, FID, and PRD's two F-scores where there are images enough, of fake against real night.

    Args:
        path: of an exported embedder, in whose space they are; or ``inception``.

    Raises:
        ModelError: not an embedder.
    """
    from gloam.eval.translation.features import EmbedderFeatures, FeatureExtractor
    from gloam.eval.translation.kernel import kernel_distance
    from gloam.eval.translation.scores import compare_features
    from gloam.runtime.models.embedder import Embedder

    space: FeatureExtractor
    if path == INCEPTION:
        from gloam.networks.inception import InceptionFeatures

        space = InceptionFeatures()
    else:
        space = EmbedderFeatures(Embedder.load(path))

    def pixels(images: Tensor) -> list[Any]:
        shades = ((images.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1)
        return list(shades.expand(-1, -1, -1, 3).cpu().numpy())

    def judge(pictures: Mapping[str, Tensor], night: Tensor) -> dict[str, float]:
        real, fake = space.features(pixels(night)), space.features(pixels(pictures["fake"]))
        found = {name: figure.value for name, figure in compare_features(real, fake).items()}
        # KID of few images: of one subset of them all.
        found["KID"] = float(kernel_distance(real, fake, subset_size=min(len(real), len(fake))).mean)
        return {name: value for name, value in found.items() if value is not None}

    return judge


def _record(recipe: str, summary: TranslatorSummary, content: Mapping[str, Any], device: str) -> RunRecord:
    """Of a run whose curves are in ``losses.csv`` and ``held_out.csv``."""
    more = {
        "data": dict(content),
        "seconds": round(summary.seconds, 1),
        "clock": summary.config.clock,
        **{name: getattr(summary, name) for name in ("step", "steps", "limited", "losses", "held_out")},
    }
    versions = installed((*PACKAGES, "lightning-fabric"))
    config = summary.config.to_dict()
    return RunRecord(recipe, config, summary.weights_sha256, device, more=more, versions=versions)


def _last_rows(folder: Path, *names: str) -> list[dict[str, float]]:
    """Values in the last row of each table, without what is empty and when it was."""
    found = []
    for name in names:
        rows = read_table(folder / name) if (folder / name).is_file() else []
        last = rows[-1] if rows else {}
        found.append({key: value for key, value in last.items() if value is not None and key not in WHEN})
    return found


def _data_name(config: TranslatorConfig) -> str:
    data = config.data
    return street_names(data.seeds, data.look) if data.kind.startswith("town") else data.kind
