"""What of weakly-paired translation is reproduced, with what, and where its generators come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gloam.errors import ModelError, UsageError
from gloam.heartbeat import Say
from gloam.training.config_changes import merge
from gloam.training.train import train
from gloam.workflows.reproduce.begun import begun
from gloam.workflows.reproduce.rows import EXPERIMENTS, WEIGHTS, Missing

PAPER = "weakly-paired"
# Under the data folder.
PAIRS = Path("weakly-paired/pairs.json")
VGG19 = WEIGHTS / "vgg19-dcbb9e9d.pth"
PRODUCT = "translator.safetensors"
RECIPES = {
    "no_gen_align": "weakly_paired_no_gen_align",
    "no_classify_loss": "weakly_paired_no_classify_loss",
    "no_mask": "weakly_paired_no_mask",
    "stack_discr": "weakly_paired_stack_discr",
    "SPADE_org": "spade",
    "GANimation": "ganimation",
    "FINAL": "weakly_paired",
}
OF_FIGURE = ("NetVLAD Pittsburgh", "NetVLAD of the pairs")
UNPERCEIVED = ("GANimation",)  # which learns without VGG19


@dataclass(frozen=True)
class WeaklyPairedRequest:
    """What to reproduce, and with what.

    Attributes:
        table: ``2`` or ``figure7``.
        data: folder with :data:`PAIRS`, the weights of VGG19 and Inception, and trained runs.
        output: for what is made on the way, and the results; the same call carries on.
        rows: some methods; all by default.
        weights: translators by method, in place of the known ones, a file or the folder of a run; of the figure also
            embedders, by a name of :data:`OF_FIGURE`.
        train: train recipes whose weights are missing.
        references: of the figure: domains of the map, and of the queries; the paper's three by default.
        limit: of the table: most pairs, and most real images, of a domain; all by default.
        device: where translators run and features are computed.
        seed: of trainings and of what is drawn.

    Raises:
        UsageError: no such method, or another device.
    """

    table: str
    data: Path
    output: Path
    rows: Sequence[str] = ()
    weights: Mapping[str, Path] = field(default_factory=dict)
    train: bool = False
    references: Sequence[str] = ()
    limit: int | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.device not in ("cpu", "cuda"):
            raise UsageError(f"{PAPER} runs on cpu or cuda, not on {self.device}")
        for row in (*self.rows, *self.weights):
            known = (*RECIPES, *(OF_FIGURE if row in self.weights else ()))
            if row not in known:
                raise UsageError(f"{PAPER}, {self.table}: no row {row!r}; choose one of {', '.join(known)}")


@dataclass(frozen=True)
class Generators:
    """Finds a method's generator, or trains it.

    Attributes:
        request: what is reproduced.
        pairs: file of weak pairs, whose part ``train`` is trained on.
        runs: folder of the runs, one for each recipe.
        domains: of the pairs.
        changes: keys of every recipe replaced; None where the papers' recipes are run as they are, with VGG19.
    """

    request: WeaklyPairedRequest
    pairs: Path
    runs: Path
    domains: Sequence[str]
    changes: Mapping[str, Mapping[str, Any]] | None = None

    def find(self, row: str, say: Say) -> tuple[Path | None, list[Missing]]:
        """The generator's file or folder, or what is missing for it.

        Raises:
            GloamError: given weights are not there, or a training cannot be done.
        """
        if row in self.request.weights:
            given = self.request.weights[row]
            if not (given / PRODUCT if given.is_dir() else given).is_file():
                raise ModelError(f"{given}: no such file, or a folder without {PRODUCT}; give a translator's weights")
            return given, []
        recipe = RECIPES[row]
        folder = self.runs / recipe
        if not self.request.train and self.changes is None:
            if (folder / PRODUCT).is_file():
                return folder, []
            return None, [Missing(folder / PRODUCT, f"--train trains recipe {recipe}; or give --weights {row}=FILE")]
        changes: dict[str, Any] = {
            "seed": self.request.seed,
            "options": {"domains": list(self.domains)},
            "data": {"day": str(self.pairs)},
        }
        if self.changes is not None:
            changes = merge(changes, self.changes[row])
            folder = begun(self.runs / f"{recipe}-{self.request.seed}", changes["max_minutes"])
        elif row not in UNPERCEIVED:
            file = self.request.data / VGG19
            if not file.is_file():
                return None, [Missing(file, "torchvision's VGG19, https://download.pytorch.org/models/" + VGG19.name)]
            changes["options"]["perceptual_weights"] = str(file)
        say(f"{row}: recipe {recipe}")
        train("translator", recipe, changes, folder, say=say)
        return folder, []


def generators_of_papers(request: WeaklyPairedRequest, domains: Sequence[str]) -> Generators:
    """On the pair file and in the runs of the data folder."""
    return Generators(request, request.data / PAIRS, request.data / EXPERIMENTS, domains)


def missing_pairs(request: WeaklyPairedRequest) -> list[Missing]:
    """The pair file, where it is not there."""
    file = request.data / PAIRS
    how = "gloam pair on Oxford RobotCar, see docs/weak_pairs.md; its images must be where the file says"
    return [] if file.is_file() else [Missing(file, how)]
