"""MDUIT and AdaIN for the miniature: trained on weak pairs of the town's drives, in minutes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gloam.data.town.drives.config import DrivesConfig
from gloam.heartbeat import Say
from gloam.training.translators.config import RECIPES
from gloam.training.typed_config import recipe_mapping
from gloam.workflows.reproduce.begun import begun
from gloam.workflows.reproduce.rows import CONTENT
from gloam.workflows.reproduce.weakly_paired.miniature import Miniature, write_town_pairs

SMALL = "town_mduit"  # the recipe whose sizes are taken
SMALLS = {"adain": "town_adain"}  # of other trainers
OF_TRANSLATION = ("appearance_learned",)  # its options that a trainer without translation lacks
DRIVES = DrivesConfig(width=128, height=96)


@dataclass(frozen=True)
class ContentRun:
    """Trains rows' vectors and translators; what an earlier run trained in the folder is used again.

    Attributes:
        folder: for pictures and runs.
        minutes: processor time of each, at most.
        seed: of each.
        say: gets a line per stage.
        drives: streets and conditions that they are trained on.
    """

    folder: Path
    minutes: float
    seed: int
    say: Say
    drives: DrivesConfig = DRIVES

    @functools.cached_property
    def pairs(self) -> tuple[Path, Path]:
        """The files of pairs to train on, and of streets that nothing is trained on; their drives are rendered once."""
        return write_town_pairs(self.folder / "drives", Miniature(self.minutes, self.drives), self.say)

    def trained(self, row: str) -> Path:
        """Weights of a row's embedder.

        Raises:
            DivergenceError: the training failed.
        """
        return self.products(CONTENT[row], row)["embedder"]

    def products(self, recipe: str, row: str) -> Mapping[str, Path]:
        """Weights that the training of a recipe gives, ``translator`` or ``embedder`` or both.

        Args:
            recipe: of mduit, of a part of it, or of AdaIN.
            row: that it is of, to be said.

        Raises:
            DivergenceError: the training failed.
        """
        from gloam.training.train import train

        pairs, _ = self.pairs
        place = begun(self.folder / f"{recipe}-{self.seed}", self.minutes)
        self.say(f"{row}: recipe {recipe} on the drives, at most {self.minutes:.3g} minutes")
        return train("translator", recipe, self.changes(recipe, pairs), place, say=self.say).weights

    def changes(self, recipe: str, pairs: Path) -> dict[str, Any]:
        """Keys of a row's recipe replaced by those of the small one."""
        trainer = recipe_mapping(RECIPES, recipe)["trainer"]
        small = recipe_mapping(RECIPES, SMALLS.get(trainer, SMALL))
        options = {**small["options"], "domains": list(self.drives.domains)}
        if small.pop("trainer") != trainer:
            options = {name: value for name, value in options.items() if name not in OF_TRANSLATION}
        own = {"seed": self.seed, "max_minutes": self.minutes, "tensorboard": False, "device": "cpu"}
        return {**small, "options": options, "data": {**small["data"], "day": str(pairs)}, **own}

    def untrained(self) -> Any:
        """Their network with random weights."""
        import torch

        from gloam.networks.embedders import create_embedder

        options = recipe_mapping(RECIPES, SMALL)["options"]
        shape = {key: options["generator_options"][key] for key in ("width", "blocks")}
        torch.manual_seed(self.seed)
        return create_embedder("mduit_content", dimension=options["dimension"], **shape)
