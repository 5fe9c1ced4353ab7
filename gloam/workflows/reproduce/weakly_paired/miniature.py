"""Weak pairs of the town in place of RobotCar's: each place is seen once under each condition, never from one pose."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gloam.data.scene import position_error, rotation_error
from gloam.data.town.training_views import render_training_views
from gloam.data.weak_pairs.pair_file import Listed, write_pair_file
from gloam.files import sha256_json, write_bytes
from gloam.heartbeat import Say
from gloam.record import to_json
from gloam.training.config_changes import merge
from gloam.workflows.reproduce.town import JUDGED
from gloam.workflows.reproduce.weakly_paired.request import RECIPES

DOMAINS = ("day", "dusk", "night", "night-rain")
SILENT = ("minutes", "crop", "changes", "network_changes")  # what does not change the pictures
APART = 10_000.0  # metres between streets, which share nothing
GANIMATION = {"generator_options": {"width": 32, "blocks": 4}, "discriminator_options": {"width": 32, "layers": 5}}
OTHERS = {
    "generator_options": {"width": 16, "base": [4, 4]},
    "discriminator_options": {"width": 32},
    "perceptual_weight": 0.0,  # VGG19 would have to be fetched
    "average_decay": 0.99,
}


@dataclass(frozen=True)
class Miniature:
    """Sizes of the town's version.

    Attributes:
        minutes: processor time for each generator, at most.
        seeds: of the streets that are trained on.
        judged: of the streets that are judged.
        places: of each street; each is seen once under each condition.
        size: (width, height) of a photograph, pixels.
        crop: side of a training crop, pixels.
        look: of the streets.
        changes, network_changes: keys of every generator's recipe and of that of the figure's NetVLAD replaced, for
            quick runs.
    """

    minutes: float = 14.0
    seeds: tuple[int, ...] = (101, 102, 103, 104)
    judged: tuple[int, ...] = JUDGED
    places: int = 24
    size: tuple[int, int] = (256, 192)
    crop: int = 128
    look: int = 1
    changes: Mapping[str, Any] = field(default_factory=dict)
    network_changes: Mapping[str, Any] = field(default_factory=dict)

    def recipes(self) -> dict[str, dict[str, Any]]:
        """Keys of each method's recipe replaced."""
        common = {
            "batch": 4,
            "steps_per_epoch": 50,
            "max_minutes": self.minutes,
            "clock": "cpu",
            "device": "cpu",
            "tensorboard": False,
            "sample_every": 10,
            "held_out": 4,
            "save_every": 200,
            "options": {"epochs": 40, "decay_epochs": 20},
            "data": {"size": self.crop, "transform": "scalecrop", "scale": [1.0, 1.0], "flip": True, "workers": 0},
        }
        return {
            row: merge(merge(common, {"options": GANIMATION if row == "GANimation" else OTHERS}), self.changes)
            for row in RECIPES
        }


def write_town_pairs(folder: Path, miniature: Miniature, say: Say) -> Path:
    """Render the streets and pair their views; what an earlier call rendered there is used again.

    Args:
        folder: for the pictures, ``DOMAIN/...png``, and ``pairs.json`` of parts ``train`` and ``test``.
        miniature: which streets.
        say: gets one line per street.

    Returns:
        the pair file. Positions of different streets are :data:`APART` metres from each other.
    """
    wanted = {name: value for name, value in to_json(miniature).items() if name not in SILENT}
    folder = folder / sha256_json([wanted, DOMAINS])[:12]
    file = folder / "pairs.json"
    if file.is_file():
        return file
    paths: list[Path] = []
    labels: list[int] = []
    parts: list[str] = []
    positions: list[Sequence[float]] = []
    pairs: list[tuple[int, int, float, float]] = []
    streets = [*((seed, "train") for seed in miniature.seeds), *((seed, "test") for seed in miniature.judged)]
    for number, (seed, part) in enumerate(streets):
        say(f"street {seed}: {miniature.places} places under {', '.join(DOMAINS)}")
        views = render_training_views(seed, miniature.places, len(DOMAINS), DOMAINS, miniature.size, miniature.look)
        first = len(paths)
        for row, (image, condition) in enumerate(zip(views.images, views.conditions, strict=True)):
            paths.append(folder / condition / f"street{seed}-{views.places[row]:04d}.png")
            content = io.BytesIO()
            Image.fromarray(image).save(content, "PNG")
            write_bytes(paths[-1], content.getvalue())
            labels.append(DOMAINS.index(condition))
            parts.append(part)
            positions.append((views.poses[row].center + np.array([APART * number, 0.0, 0.0])).tolist())
        for place in np.unique(views.places).tolist():
            rows = np.flatnonzero(views.places == place).tolist()
            for one, other in combinations(rows, 2):
                both = views.poses[one], views.poses[other]
                pairs.append((first + one, first + other, position_error(*both), rotation_error(*both)))
    write_pair_file(file, Listed({name: {} for name in DOMAINS}, paths, labels, parts, positions, pairs))
    return file
