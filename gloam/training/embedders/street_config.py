"""Typed configuration: the dataclass is the single source, YAML only fills it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gloam.errors import UsageError
from gloam.record import fill_dataclass
from gloam.training.typed_config import read_mapping, recipe_mapping, recipes_of

RECIPES = "gloam.training.recipes"


@dataclass(frozen=True)
class TrainConfig:
    """A contrastive training run on procedural streets; the defaults take about a minute on two cores.

    Attributes:
        network: name in ``EMBEDDERS``.
        network_options: of its constructor, e.g. ``{"width": 16}``.
        seed: of initial weights, sampling and augmentation.
        epochs: passes; after each one the network is validated and the state is saved.
        batches_per_epoch: optimiser steps per epoch.
        batch_places: places per batch.
        images_per_place: images of each place in a batch; every image is the anchor of one tuple, the other images of
            its place are its positives.
        negatives: per tuple, the most similar images of other places in the batch, at most one per place.
        margin: of the contrastive loss.
        learning_rate: of Adam.
        learning_rate_decay: factor per epoch.
        pool_learning_rate_factor: GeM's p learns this much faster than the rest.
        weight_decay: L2 added to the gradient; GeM's p has none.
        freeze_batch_norm: keep running statistics as they are (for pretrained weights; random ones need their own).
        augment: random crop, exposure and mirroring of whole tuples.
        street_seeds: training streets.
        validation_seed: held-out street; neither a training street nor the one to be tested on.
        reserved_seeds: streets kept for testing; training or validating on one of them is refused.
        places: places per street.
        views_per_place: images per place, each from its own camera pose.
        conditions: what the images of a place are rendered in, by turns.
        width, height: image size in pixels.
        query_condition, map_condition: what is retrieved from what in validation.
        threads: torch threads; None leaves torch's own choice.
    """

    network: str = "gem_resnet18"
    network_options: Mapping[str, Any] = field(default_factory=lambda: {"width": 16})  # small enough for two cores
    seed: int = 0
    epochs: int = 10
    batches_per_epoch: int = 40
    batch_places: int = 12
    images_per_place: int = 4
    negatives: int = 5  # the papers' number
    margin: float = 0.75  # the papers' value for VGG16
    learning_rate: float = 3e-3  # from random weights; the papers tune ImageNet weights with 5e-7
    learning_rate_decay: float = 0.9
    pool_learning_rate_factor: float = 10.0  # cirtorch
    weight_decay: float = 5e-4  # cirtorch
    freeze_batch_norm: bool = False
    augment: bool = True
    street_seeds: tuple[int, ...] = (101, 102, 103, 104)
    validation_seed: int = 201
    reserved_seeds: tuple[int, ...] = ()
    places: int = 16
    views_per_place: int = 8
    conditions: tuple[str, ...] = ("day", "dusk", "night", "night-rain")
    width: int = 128
    height: int = 96
    query_condition: str = "night"
    map_condition: str = "day"
    threads: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            UsageError: naming the value and what it may be.
        """
        for name, least in (("epochs", 1), ("batches_per_epoch", 1), ("images_per_place", 2), ("negatives", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} {getattr(self, name)}: must be at least {least}")
        if self.batch_places <= self.negatives:
            raise UsageError(f"batch_places {self.batch_places}: {self.negatives} negatives need more places than that")
        if self.batch_places > self.places * len(self.street_seeds):
            raise UsageError(f"batch_places {self.batch_places} exceeds the places of all streets")
        if self.images_per_place > self.views_per_place:
            raise UsageError(f"images_per_place {self.images_per_place} exceeds views_per_place {self.views_per_place}")
        for name in ("margin", "learning_rate", "learning_rate_decay"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} {getattr(self, name)}: must be positive")
        if not self.street_seeds or len(set(self.street_seeds)) < len(self.street_seeds):
            raise UsageError(f"street_seeds {list(self.street_seeds)}: at least one, each once")
        if self.validation_seed in self.street_seeds:
            raise UsageError(f"validation_seed {self.validation_seed} is a training street; choose another")
        taken = {self.validation_seed, *self.street_seeds} & set(self.reserved_seeds)
        if taken:
            raise UsageError(f"street seed {min(taken)} is reserved for testing; choose another")
        if len(self.conditions) > self.views_per_place:
            raise UsageError(
                f"{len(self.conditions)} conditions need as many views_per_place, not {self.views_per_place}"
            )
        for name in ("query_condition", "map_condition"):
            if getattr(self, name) not in self.conditions:
                raise UsageError(f"{name} {getattr(self, name)!r} is not among the conditions {list(self.conditions)}")

    def to_dict(self) -> dict[str, Any]:
        """JSON form; :func:`fill_config` reads it back."""
        value = dataclasses.asdict(self)
        value["network_options"] = dict(self.network_options)
        return {key: list(item) if isinstance(item, tuple) else item for key, item in value.items()}


def fill_config(value: Mapping[str, Any], where: str, base: TrainConfig | None = None) -> TrainConfig:
    """Put values over the defaults, or over ``base``.

    Args:
        value: fields of :class:`TrainConfig`; lists become tuples, ints become floats where the field is a float.
        where: the file, for messages.

    Raises:
        UsageError: an unknown key (the nearest is named) or a value of the wrong type.
    """
    return fill_dataclass(TrainConfig, value, where, base)


def read_config(path: str | Path, base: TrainConfig | None = None) -> TrainConfig:
    """Fill a config from a YAML file.

    Raises:
        UsageError: not readable, not YAML, or not a mapping of known fields.
    """
    return fill_config(read_mapping(path), str(path), base)


def recipe_names() -> list[str]:
    """The recipes for embedders that come with gloam."""
    return recipes_of(RECIPES)


def read_recipe(name: str) -> TrainConfig:
    """A recipe that comes with gloam.

    Raises:
        UsageError: there is none of that name.
    """
    return fill_config(recipe_mapping(RECIPES, name), f"recipe {name}")
