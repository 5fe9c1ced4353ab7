"""The images of a figure, and its weights: given, trained below the data folder, or on the town."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gloam.data.town.drives.config import DrivesConfig
from gloam.data.weak_pairs.pair_file import WeakPairs, read_pair_file
from gloam.errors import DataError, ModelError, require_all
from gloam.heartbeat import Say
from gloam.training.train import train
from gloam.workflows.reproduce.localization.content import ContentRun
from gloam.workflows.reproduce.localization.supply import Weights
from gloam.workflows.reproduce.localization.town import TownSupply, town_supply
from gloam.workflows.reproduce.mduit.request import PAIRS, PAPER, MduitRequest, missing_pairs
from gloam.workflows.reproduce.records import origin_of_run
from gloam.workflows.reproduce.rows import EXPERIMENTS, PACKAGES, WEIGHTS, Missing

VGG = "torchvision's {name}, https://download.pytorch.org/models/{file}"
# Frozen networks of recipes: the option that names their file, and torchvision's.
FROZEN = {
    "mduit": ("appearance_weights", "VGG16", "vgg16-397923af.pth"),
    "mduit_no_nce": ("appearance_weights", "VGG16", "vgg16-397923af.pth"),
    "adain": ("encoder_weights", "VGG19", "vgg19-dcbb9e9d.pth"),
}


@dataclass(frozen=True)
class MduitRuns:
    """Finds what a recipe trained, or trains it.

    Attributes:
        request: what is reproduced.
        domains: of the pairs.
        say: gets one line per step.
        content: trains on the town; None for the data folder.
    """

    request: MduitRequest
    domains: Sequence[str]
    say: Say
    content: ContentRun | None = None

    def find(
        self, row: str, recipe: str, product: Literal["translator", "embedder"]
    ) -> tuple[Weights | None, list[Missing]]:
        """A row's weights, or what is missing for them.

        Args:
            row: of the figure.
            recipe: that trains it.
            product: of the recipe.

        Raises:
            GloamError: given weights are not there, or a training cannot be done.
        """
        name = f"{product}.safetensors"
        if row in self.request.weights:
            return Weights([given_file(self.request.weights[row], name)], "given with --weights"), []
        if self.content is not None:
            trained = self.content.products(recipe, row)[product]
            return Weights(
                [trained], f"trained here by recipe {recipe}, at most {self.content.minutes:.3g} minutes"
            ), []
        folder = self.request.data / EXPERIMENTS / recipe
        if not self.request.train:
            if (folder / name).is_file():
                return Weights([folder / name], origin_of_run(folder, recipe)), []
            return None, [Missing(folder / name, f"--train trains recipe {recipe}; or give --weights '{row}=FILE'")]
        changes: dict[str, Any] = {
            "seed": self.request.seed,
            "options": {"domains": list(self.domains)},
            "data": {"day": str(self.request.data / PAIRS)},
        }
        if recipe in FROZEN:
            option, network, file = FROZEN[recipe]
            path = self.request.data / WEIGHTS / file
            if not path.is_file():
                return None, [Missing(path, VGG.format(name=network, file=file))]
            changes["options"][option] = str(path)
        self.say(f"{row}: recipe {recipe}")
        trained = train("translator", recipe, changes, folder, say=self.say).weights[product]
        return Weights([trained], origin_of_run(folder, recipe)), []


@dataclass(frozen=True)
class OpenPairs:
    """What a figure is made from.

    Attributes:
        images: of part ``test``, with their pairs.
        reference: the reference domain.
        runs: that find or train.
        supply: of the town, which has NetVLAD too; None for the data folder.
    """

    images: WeakPairs
    reference: str
    runs: MduitRuns
    supply: TownSupply | None = None


def open_pairs(
    request: MduitRequest, town_minutes: float | None, say: Say, drives: DrivesConfig
) -> OpenPairs | list[Missing]:
    """The pairs of the data folder or of the town, or what is missing for them.

    Args:
        request: what and with what.
        town_minutes: processor time of each method, at most, on the town; None for the data folder.
        say: gets one line per step.
        drives: of the town.

    Raises:
        UsageError: the pairs do not have the reference.
        DataError: they cannot be read, or have no images for the test of the reference or of others.
        MissingExtraError: a package is missing.
    """
    missing = [] if town_minutes is not None else missing_pairs(request)
    if missing:
        return missing
    require_all(PACKAGES, "reproduce a figure")
    supply, file = None, request.data / PAIRS
    if town_minutes is not None:
        supply = town_supply(PAPER, "1", request.output, town_minutes, request.seed, request.weights, say, drives)
        _, file = supply.content.pairs
    images = read_pair_file(file, "test")
    reference = request.reference(images.domains, supply is not None)
    there = {images.domains[one.label] for one in images.images}
    if reference not in there or len(there) < 2:
        raise DataError(f"{file}: its part test has no images of {reference}, or of no other domain; pair them again")
    runs = MduitRuns(request, images.domains, say, None if supply is None else supply.content)
    return OpenPairs(images, reference, runs, supply)


def given_file(given: Path, name: str) -> Path:
    """The file that was given, or that of a name in the folder that was.

    Raises:
        ModelError: it is not there.
    """
    file = given / name if given.is_dir() else given
    if not file.is_file():
        raise ModelError(f"{given}: no such file, or a folder without {name}; give the weights of a network")
    return file
