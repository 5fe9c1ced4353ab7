"""The town's drives in place of RobotCar's traversals, and recipes small enough for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gloam.data.town.drives.config import DrivesConfig
from gloam.data.town.drives.write import PAIRS, TEST_PAIRS, DrivesRequest, write_drives
from gloam.heartbeat import Say
from gloam.training.config_changes import merge, nest
from gloam.training.translators.config import RECIPES as TRANSLATORS
from gloam.training.typed_config import differences, recipe_mapping
from gloam.workflows.reproduce.weakly_paired.request import RECIPES

GANIMATION: dict[str, Any] = {
    "generator_options": {"width": 32, "blocks": 4},
    "discriminator_options": {"width": 32, "layers": 5},
}
TOWN, FULL = "town_weakly_paired", "weakly_paired"  # recipes of the full model, sized for the town, and the paper's


@dataclass(frozen=True)
class Miniature:
    """Sizes of the town's version.

    Attributes:
        minutes: processor time for each generator, at most.
        drives: streets, conditions and camera; every condition of the town's weather by default.
        crop: side of a training crop, pixels; crops keep the scale of the photographs.
        limit: most pairs, and most real images, that a domain is judged on.
        workers: rendering processes; 0 is one per core.
        changes, network_changes: keys of every generator's recipe and of that of the figure's NetVLAD replaced, for
            quick runs.
    """

    minutes: float = 14.0
    drives: DrivesConfig = field(default_factory=DrivesConfig)
    crop: int = 128
    limit: int = 60
    workers: int = 0
    changes: Mapping[str, Any] = field(default_factory=dict)
    network_changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a photograph, pixels."""
        return self.drives.width, self.drives.height

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
        made = {}
        for row, recipe in RECIPES.items():
            own = GANIMATION if row == "GANimation" else town_options(recipe)
            made[row] = merge(merge({"options": own}, common), self.changes)
        return made


def town_options(recipe: str) -> dict[str, Any]:
    """Options by which the town's full model learns, changed in all that a paper's recipe differs in from its full one.

    Args:
        recipe: an ablation, ``spade``, or the full model.
    """
    town, full, own = (recipe_mapping(TRANSLATORS, name)["options"] for name in (TOWN, FULL, recipe))
    changes: dict[str, Any] = {}
    for name, _, value in differences(full, own):
        changes = merge(changes, nest(name, value))
    networks = {key: {**town[key], **changes.get(key, {})} for key in ("generator_options", "discriminator_options")}
    return {**town, **changes, **networks}


def write_town_pairs(folder: Path, miniature: Miniature, say: Say) -> tuple[Path, Path]:
    """Render the drives and pair their views; what an earlier call rendered there is used again.

    Args:
        folder: for the pictures.
        miniature: which streets.
        say: gets a line before and after.

    Returns:
        the file of pairs to train on, and that of streets that nothing is trained on.

    Raises:
        StoreError: the folder holds other drives, or something else.
    """
    say(f"drives under {', '.join(miniature.drives.domains)}")
    for line in str(write_drives(DrivesRequest(folder, miniature.drives, miniature.workers))).splitlines():
        say(line)
    return folder / PAIRS, folder / TEST_PAIRS
