"""A translator's run as a typed configuration; a recipe is a YAML file that fills it."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from gloam.errors import UsageError
from gloam.files import sha256_file
from gloam.record import fill_dataclass, to_json
from gloam.training.config_changes import merge
from gloam.training.translators.batches import DataConfig
from gloam.training.translators.data_config import DOMAIN_KINDS
from gloam.training.translators.trainers import TRAINERS, DomainOptions, TrainerOptions
from gloam.training.translators.trainers.cyclegan import CycleGANOptions
from gloam.training.typed_config import recipe_mapping

RECIPES = "gloam.training.recipes.translators"


@dataclass(frozen=True)
class TranslatorConfig:
    """A run of one trainer on one set of images.

    Attributes:
        trainer: name in ``TRAINERS``.
        options: of that trainer: networks, losses, learning rate, epochs.
        data: where the images come from and how they are cropped.
        seed: of initial weights, sampling and crops.
        batch: images of each domain per step, over all processes.
        steps_per_epoch: None is what the data make of it (their ``images_per_epoch`` over the batch).
        precision: ``32``; ``bf16`` or ``fp16`` (autocast, weights stay float32; fp16 needs CUDA); ``64`` for checks.
        channels_last: memory layout of images and weights; faster on tensor cores.
        device: ``cpu``, ``cuda``, or ``auto``: CUDA where there is one.
        processes: that share each batch, one per GPU, or several on the CPU. Statistics of batch norm and image pools
            belong to each process; with instance norm and no pool any number of processes gives what one gives.
        threads: torch threads of each process; None leaves torch's own choice.
        max_minutes: the run ends, whole and with its products, after the step in which this time is used up; None is
            never. The learning rate follows the epochs, not the time. A higher value carries on where it ended.
        clock: what ``max_minutes`` counts: ``cpu`` is processor time of all threads and processes together, ``wall``
            the time that passes; both from the rendering or check of the images on, all calls of the run together.
        save_every: steps between saves; every epoch's end is saved too.
        log_every: steps between rows of ``losses.csv``; a row holds the means since the row before.
        sample_every: epochs between sample strips and held-out scores.
        held_out: images of each domain, never trained on, that strips and scores are made of; 0 makes none.
        score_all: errors of cycles are over all images that are never trained on, each domain's in its own direction,
            not over the first ``held_out``.
        strip_rows: how many of them a strip shows.
        judge: exported embedder (``.onnx``), or ``inception``, in whose space KID, FID, precision and recall of
            held-out images are logged; None logs none.
        tensorboard: write event files.
    """

    trainer: str = "cyclegan"
    options: TrainerOptions = field(default_factory=CycleGANOptions)
    data: DataConfig = field(default_factory=DataConfig)
    seed: int = 0
    batch: int = 1  # CycleGAN, pix2pix and CUT
    steps_per_epoch: int | None = None
    precision: Literal["32", "bf16", "fp16", "64"] = "32"
    channels_last: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    processes: int = 1
    threads: int | None = None
    max_minutes: float | None = None
    clock: Literal["cpu", "wall"] = "cpu"
    save_every: int = 1000
    log_every: int = 50
    sample_every: int = 1
    held_out: int = 8
    score_all: bool = False
    strip_rows: int = 4
    judge: str | None = None
    tensorboard: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            UsageError: naming the value and what it may be.
        """
        if self.trainer not in TRAINERS:
            raise UsageError(f"unknown trainer {self.trainer!r}; choose one of {', '.join(TRAINERS)}")
        if not isinstance(self.options, TRAINERS[self.trainer][1]):
            raise UsageError(f"trainer {self.trainer!r}: the options are those of another trainer")
        for name in ("batch", "processes", "save_every", "log_every", "sample_every", "strip_rows"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)}: must be at least 1")
        for name in ("steps_per_epoch", "threads"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)}: must be at least 1, or left out")
        if self.held_out < 0 or self.seed < 0:
            raise UsageError(f"held_out {self.held_out} and seed {self.seed}: must not be negative")
        if self.batch % self.processes:
            raise UsageError(f"batch {self.batch} cannot be cut into {self.processes} equal parts; choose a multiple")
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise UsageError(f"max_minutes {self.max_minutes}: must be positive, or left out")
        if self.trainer == "pix2pix" and not self.data.paired:
            raise UsageError(f"trainer 'pix2pix' needs pairs; data kind {self.data.kind!r} has none")
        domains = self.options.domains if isinstance(self.options, DomainOptions) else ()
        many = self.data.kind in DOMAIN_KINDS
        if many and not domains:
            raise UsageError(f"trainer {self.trainer!r} takes two domains; data kind {self.data.kind!r} has many")
        if self.options.beside is not None and not many:
            raise UsageError(
                f"trainer {self.trainer!r} compares images of known domains, which data kind {self.data.kind!r} does "
                f"not state; choose one of {', '.join(DOMAIN_KINDS)}"
            )
        if len(domains) > 2 and not many:
            raise UsageError(
                f"data kind {self.data.kind!r} has two domains, the options {len(domains)}; choose one of "
                f"{', '.join(DOMAIN_KINDS)}"
            )
        if self.options.channels != self.data.channels:
            raise UsageError(f"channels: the options say {self.options.channels}, the data {self.data.channels}")

    def to_dict(self) -> dict[str, Any]:
        """JSON form; :func:`fill_translator_config` reads it back."""
        value: dict[str, Any] = to_json(self)
        return value

    def identity(self) -> dict[str, Any]:
        """What a run's trajectory depends on, beside the images: limits, cadence and device are left out.

        A detector counts by its content, not by where its file lies, and so do the weights of a frozen VGG.
        """
        names = ("trainer", "seed", "batch", "precision", "channels_last")
        options = to_json(self.options)
        for name in ("detector_weights", "perceptual_weights", "appearance_weights", "encoder_weights"):
            file = options.get(name)
            if file is not None and Path(file).is_file():
                options[name] = sha256_file(file)
        return {**{name: getattr(self, name) for name in names}, "options": options}

    def dtype(self) -> torch.dtype:
        """Of weights and images."""
        return torch.float64 if self.precision == "64" else torch.float32


def fill_translator_config(
    value: Mapping[str, Any], where: str, base: TranslatorConfig | None = None
) -> TranslatorConfig:
    """Put values over the defaults, or over ``base``.

    Args:
        value: fields of :class:`TranslatorConfig`; ``options`` are those of the trainer, and fall back to its own
            defaults where the trainer is not that of ``base``.
        where: the file, for messages.

    Raises:
        UsageError: an unknown key (the nearest is named), a value of the wrong type, or one that is refused.
    """
    rest = dict(value)
    start = base or TranslatorConfig()
    trainer = rest.pop("trainer", start.trainer)
    if not isinstance(trainer, str) or trainer not in TRAINERS:
        nearest = difflib.get_close_matches(str(trainer), TRAINERS, 1, cutoff=0.0)[0]
        raise UsageError(f"{where}: unknown trainer {trainer!r}; did you mean {nearest!r}?")
    kind = TRAINERS[trainer][1]
    options = rest.pop("options", {}) or {}
    if not isinstance(options, Mapping):
        raise UsageError(f"{where}: options: expected keys and values, found {type(options).__name__}")
    given = start.options if type(start.options) is kind else None
    filled = fill_dataclass(kind, options, f"{where}: options", given)
    if isinstance(rest.get("precision"), int):
        rest["precision"] = str(rest["precision"])  # YAML reads 32 as a number
    return fill_dataclass(TranslatorConfig, {**rest, "trainer": trainer, "options": filled}, where, start)


def read_translator_recipe(name: str, overrides: Mapping[str, Any] | None = None) -> TranslatorConfig:
    """A recipe that comes with gloam, with values of the user's over its own.

    Args:
        name: a file of :data:`RECIPES`.
        overrides: as in a recipe. Given here and not afterwards, because a recipe for images that only the user has is
            incomplete without their place.

    Raises:
        UsageError: there is none of that name, or it is incomplete without further values.
    """
    recipe, own = recipe_mapping(RECIPES, name), overrides or {}
    if own.get("trainer", recipe.get("trainer")) != recipe.get("trainer"):
        recipe.pop("options", None)  # they are another trainer's
    return fill_translator_config(merge(recipe, own), f"recipe {name}")


def with_epochs(config: TranslatorConfig, epochs: int) -> TranslatorConfig:
    """The same run in so many epochs; the learning rate falls in the same share of them.

    Raises:
        UsageError: less than one epoch.
    """
    options = config.options
    decay = min(round(options.decay_epochs * epochs / options.epochs), epochs)
    return dataclasses.replace(config, options=dataclasses.replace(options, epochs=epochs, decay_epochs=max(decay, 0)))
