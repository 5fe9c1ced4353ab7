"""Configuration of edge detector training, and the recipes for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gloam.data.town.config import CONDITIONS
from gloam.errors import UsageError
from gloam.record import fill_dataclass, to_json
from gloam.training.typed_config import recipe_mapping

RECIPES = "gloam.training.recipes.edges"


@dataclass(frozen=True)
class DetectorConfig:
    """An edge detector trained from random weights on views of procedural streets with exact edges.

    Attributes:
        network: name in ``DETECTORS``; network_options: of its constructor.
        seed: of initial weights, sampling and augmentation.
        epochs: after each one the detector is validated and the state is saved.
        steps_per_epoch: optimiser steps.
        batch: images per step.
        crop: side of the square that is cut from a view, pixels.
        learning_rate: of Adam, in the first epoch; it falls linearly to a tenth in the last.
        head_factor: the 1x1 convolutions that score and fuse learn this much faster.
        augment: mirroring, changes of exposure and gamma, sensor noise.
        exposure: largest change of log gain and log gamma.
        noise: largest standard deviation of added noise, of 0..1; without it a detector of clean days draws noise.
        conditions: what the training views are photographed under.
        street_seeds: training streets; views: of each, under each condition.
        validation_seed: held-out street; validation_views: of it.
        reserved_seeds: streets kept for judging; training or validating on one of them is refused.
        width, height: of the views, pixels.
        tolerance: of the F-score, pixels; None is 0.0075 of the diagonal.
        threads: torch threads; None leaves torch's own choice.
    """

    network: str = "hed"
    network_options: Mapping[str, Any] = field(default_factory=lambda: {"width": 16})  # a quarter of VGG16's channels
    seed: int = 0
    epochs: int = 10
    steps_per_epoch: int = 50
    batch: int = 8
    crop: int = 128
    learning_rate: float = 2e-3  # from random weights; the paper tunes ImageNet weights with 1e-6 and per-layer factors
    head_factor: float = 10.0  # what they read has differences of a tenth; at the common rate they grow too slowly
    augment: bool = True
    exposure: float = 0.4
    noise: float = 0.03
    conditions: tuple[str, ...] = ("day",)
    street_seeds: tuple[int, ...] = (101, 102, 103, 104, 105, 106)
    views: int = 40
    validation_seed: int = 201
    validation_views: int = 16
    reserved_seeds: tuple[int, ...] = ()
    width: int = 213
    height: int = 160
    tolerance: float | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            UsageError: naming the value and what it may be.
        """
        for name in ("epochs", "steps_per_epoch", "batch", "views", "validation_views"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)}: must be at least 1")
        if not 32 <= self.crop <= min(self.width, self.height):
            raise UsageError(f"crop {self.crop}: must be 32 to {min(self.width, self.height)}, the views' shorter side")
        if not self.learning_rate > 0 or not self.head_factor > 0 or self.seed < 0:
            raise UsageError("learning_rate and head_factor must be positive, seed 0 or more")
        if not 0 <= self.noise <= 1 or not 0 <= self.exposure <= 2:
            raise UsageError(f"noise {self.noise} must be 0 to 1, exposure {self.exposure} 0 to 2")
        if not self.street_seeds or len(set(self.street_seeds)) < len(self.street_seeds):
            raise UsageError(f"street_seeds {list(self.street_seeds)}: at least one, each once")
        if self.validation_seed in self.street_seeds:
            raise UsageError(f"validation_seed {self.validation_seed} is a training street; choose another")
        taken = {self.validation_seed, *self.street_seeds} & set(self.reserved_seeds)
        if taken:
            raise UsageError(f"street seed {min(taken)} is reserved for judging; choose another")
        unknown = sorted(set(self.conditions) - set(CONDITIONS))
        if unknown or not self.conditions:
            raise UsageError(f"conditions {list(self.conditions)}: choose from {', '.join(CONDITIONS)}")

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        value: dict[str, Any] = to_json(self)
        return value


def read_detector_recipe(
    name: str, changes: Mapping[str, Any] | None = None, where: str | None = None
) -> DetectorConfig:
    """A recipe that comes with gloam, with some keys replaced.

    Args:
        name: a file of :data:`RECIPES`.
        changes: keys of :class:`DetectorConfig`.
        where: what the changes come from, for messages.

    Raises:
        UsageError: there is none of that name, an unknown key (the nearest is named), or a value that is refused.
    """
    base = fill_dataclass(DetectorConfig, recipe_mapping(RECIPES, name), f"recipe {name}")
    return fill_dataclass(DetectorConfig, changes, where or f"recipe {name}, changed", base) if changes else base
