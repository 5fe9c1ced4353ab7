"""Tables of localization on look-alikes of their benchmarks, by embedders that are trained here; nothing is downloaded.

Names, cameras, rigs and conditions are the benchmarks'; streets, networks and schedules are small, so that the numbers
are not the papers'. The look-alikes' streets are none that anything was trained on. What was trained, rendered,
described and localized is kept, and a run that was ended carries on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from gloam.data.localization_sets.look_alike import SIZES, write_look_alike
from gloam.data.town.drives.config import DrivesConfig
from gloam.errors import DataError, GloamError, require_all
from gloam.files import sha256_file
from gloam.heartbeat import Say
from gloam.workflows.reproduce.localization.content import DRIVES, ContentRun
from gloam.workflows.reproduce.localization.request import LOCALIZED, TableRequest
from gloam.workflows.reproduce.localization.result import GeneratorFacts, LocalizationTable
from gloam.workflows.reproduce.localization.runner import SetRun
from gloam.workflows.reproduce.localization.supply import Weights
from gloam.workflows.reproduce.localization.table import NEEDS, Control, given_weights, localize_table
from gloam.workflows.reproduce.published import published
from gloam.workflows.reproduce.rows import CONTENT, Missing, row_source
from gloam.workflows.reproduce.town.nights import score_generators
from gloam.workflows.reproduce.town.rows import TownRow
from gloam.workflows.reproduce.town.run import TownRun

LOOK = 2  # of the streets of the look-alikes, and so of training
MAX_SIDE = 192  # pixels of an image that is described; the networks are trained at 128
KEYPOINTS = 2048
EPOCHS = 4  # of an embedder
DETECTOR = {"epochs": 3}
PICTURE = 400  # longer side of the largest image, pixels: in smaller ones SIFT finds too little by night
NIGHTS = 3  # times the toy's queries by night

_STAGES = [[8, 1], [16, 1], [32, 2], [48, 2], [64, 2]]  # of VGG16, a tenth of the town's own in time
_VGG = {"network": "gem_vgg16", "network_options": {"stages": _STAGES}}
_NETVLAD = {"network": "netvlad_vgg16", "network_options": {"stages": _STAGES, "clusters": 8}}
# What stands for a row of a paper. A residual network of 18 layers stands for ResNet-101.
NETWORKS: dict[str, Mapping[str, Any]] = {"VGG16": _VGG, "R101": {}}
KINDS = {"GeM": ("town_day", ""), "CycleGAN": ("town_diverse", "CycleGAN"), "HEDNGAN": ("town_diverse", "HEDNGAN")}
EMBEDDERS = {
    f"{network} {kind}": TownRow(recipe, maker, changes, label=network)
    for network, changes in NETWORKS.items()
    for kind, (recipe, maker) in KINDS.items()
} | {"NetVLAD": TownRow("town_day", changes=_NETVLAD, label="NetVLAD")}
STANDS_FOR = {
    "VGG16": "VGG16 with eight convolutions of 8 to 64 channels",
    "R101": "a ResNet-18 of a quarter of its width for ResNet-101",
    "NetVLAD": "NetVLAD of 8 clusters on that VGG16, trained here and not on Pittsburgh",
    "GeM": "trained on day photographs",
    "CycleGAN": "25 % of diverse anchors made night by a CycleGAN trained here",
    "HEDNGAN": "25 % of diverse anchors made night by a HED^N GAN trained here",
    "Full": "mduit, and the rows without parts of it, at a quarter of its width, trained on drives of other streets",
}
VECTOR = "mduit"  # label of MDUIT's untrained vector


@dataclass
class TownSupply:
    """Embedders of a table's rows, trained when they are asked for; those of one network and kind are one.

    Attributes:
        paper, table: of the rows.
        run: that trains.
        content: that trains MDUIT's vector.
        given: embedders by row, in place of trained ones.
    """

    paper: str
    table: str
    run: TownRun
    content: ContentRun
    given: Mapping[str, Path] = field(default_factory=dict)
    _trained: dict[str, Path] = field(default_factory=dict)

    def lacking(self, row: str) -> list[Missing]:
        """Nothing is missing: what is not given is trained, or cannot be."""
        return []

    def weights(self, row: str) -> Weights:
        """See :class:`gloam.workflows.reproduce.localization.supply.Supply`."""
        if row in self.given:
            return Weights([self.given[row]], "given with --weights")
        if row in CONTENT:
            if row not in self._trained:
                self._trained[row] = self.content.trained(row)
            minutes = f"{self.content.minutes:.3g} minutes"
            return Weights([self._trained[row]], f"trained here by recipe {CONTENT[row]}, at most {minutes}")
        name = self.name_of(row)
        if name is None:
            raise DataError(row_source(self.paper, self.table, row).how)
        if name not in self._trained:
            self._trained[name] = self.run.trained(EMBEDDERS[name])
        spec = EMBEDDERS[name]
        made = f", nights by {spec.maker} of {self.run.minutes:.3g} minutes" if spec.maker else ""
        return Weights([self._trained[name]], f"trained here by recipe {spec.recipe}{made}")

    @staticmethod
    def name_of(row: str) -> str | None:
        """The embedder of metric learning that a row is of; None where it has none."""
        return next((name for name in EMBEDDERS if row == name or row.endswith(f" {name}")), None)


def town_supply(
    paper: str,
    table: str,
    output: Path,
    minutes: float,
    seed: int,
    given: Mapping[str, Path],
    say: Say,
    drives: DrivesConfig = DRIVES,
) -> TownSupply:
    """What trains a table's rows below its output folder; tables and figures of one folder share their runs.

    Args:
        paper, table: of the rows.
        output: folder.
        minutes: processor time of each generator, at most.
        seed: of all trainings.
        given: embedders by row, in place of trained ones.
        say: gets one line per step.
        drives: that MDUIT is trained on.
    """
    place = output / "training"
    run = TownRun(place, minutes, seed, {"epochs": EPOCHS}, {}, say, LOOK, DETECTOR)
    return TownSupply(paper, table, run, ContentRun(place / "content", minutes, seed, say, drives), given)


def localize_town(
    request: TableRequest, minutes: float, say: Say
) -> tuple[LocalizationTable, list[SetRun], Sequence[GeneratorFacts]]:
    """A table on look-alikes of its benchmarks.

    Args:
        request: its data, sets, true poses, features and sizes are not looked at.
        minutes: processor time of each generator, at most.
        say: gets one line per step.

    Returns:
        the table, what was found of each benchmark, and the generators with their metrics.

    Raises:
        UsageError: no such table or row.
        MissingExtraError: a package is missing; nothing is rendered before that is known.
    """
    require_all(NEEDS, "reproduce a table")
    key = (request.paper, request.table)
    place = request.output
    sets: dict[str, Path] = {}
    truth: dict[str, Path] = {}
    for spec in LOCALIZED[key][0]:
        name = spec.names[0]
        say(f"{name}: rendering its look-alike")
        toy = SIZES[name]["toy"]
        queries = {kind: count * (NIGHTS if "night" in kind else 1) for kind, count in toy.queries.items()}
        size = replace(toy, picture=PICTURE, queries=queries)
        folder = place / "look-alikes" / name
        found = write_look_alike(folder, name, size, workers=request.protocol.workers or 1, say=say)
        sets[name], truth[name] = found.set, found.truth
    rows = list(published(*key).rows)
    given = given_weights(request, rows)
    supply = town_supply(*key, place, minutes, request.protocol.seed, given, say)
    run, content = supply.run, supply.content
    asked = replace(
        request,
        sets=sets,
        truth=truth,
        features="sift",
        matcher="mutual",
        photometric="clahe",
        max_keypoints=KEYPOINTS,
        max_side=MAX_SIDE,
    )
    networks: dict[str, Callable[[], Any]] = {
        name: partial(run.untrained, TownRow(changes=NETWORKS.get(name, _NETVLAD))) for name in _networks(rows)
    }
    if CONTENT.keys() & set(rows):
        networks[VECTOR] = content.untrained
    controls = [
        *(Control(f"untrained {name}", _untrained(run, name, network)) for name, network in networks.items()),
        Control("by chance"),
    ]
    table, runs = localize_table(asked, say, supply, controls)
    notes = [
        "Look-alikes of the benchmarks at toy size: their names, cameras, rigs and conditions on procedural streets "
        "that nothing was trained on. The numbers are not the papers': compare the order of rows, beside untrained "
        "weights and chance. Few queries: one is several per cent.",
        "Here " + "; ".join(f"{name} is {what}" for name, what in STANDS_FOR.items() if _named(rows, name)) + ".",
    ]
    if any(group.method == "2b" for group in LOCALIZED[key][1]):
        notes.append(f"2a and 2b: SIFT on CLAHE-normalised light, at most {KEYPOINTS} keypoints.")
    generators = _generators(supply, rows if not request.rows else list(request.rows), place, say)
    detail = {**table.detail, "generators": {item.name: item.to_dict() for item in generators}}
    return replace(table, notes=[*table.notes, *notes], detail=detail), runs, generators


def _named(rows: Sequence[str], word: str) -> bool:
    return any(word in row.split() for row in rows)


def _networks(rows: Sequence[str]) -> list[str]:
    """Networks of the rows of which an untrained one is a control."""
    return [network for network in (*NETWORKS, "NetVLAD") if _named(rows, network)]


def _untrained(run: TownRun, name: str, network: Callable[[], Any]) -> Callable[[], Path]:
    """Writes random weights of a network, when they are asked for."""

    def write() -> Path:
        from gloam.networks.checkpoints import save_checkpoint

        path = run.folder / f"untrained-{name}-{run.seed}.safetensors"
        if not path.is_file():
            save_checkpoint(path, network(), {"recipe": "untrained", "data": "none", "licence": "Apache-2.0"})
        return path

    return write


def _generators(supply: TownSupply, rows: Sequence[str], place: Path, say: Say) -> list[GeneratorFacts]:
    """What the generators of the rows are worth by themselves: trained already, and read again."""
    makers = list(
        dict.fromkeys(EMBEDDERS[n].maker for row in rows if (n := supply.name_of(row)) and EMBEDDERS[n].maker)
    )
    files: dict[str, Path] = {}
    trainings = {}
    for maker in makers:
        try:
            summary = supply.run.generator(maker)
        except GloamError as error:
            say(f"{maker}: {error}")
            continue
        files[maker] = summary.weights["day2night"]
        trainings[maker] = (summary.step, summary.steps, summary.seconds)
    if not files:
        return []
    scores = score_generators(files, place / "generators", LOOK, say)
    found = []
    for name, figures in scores.items():
        if name in files:
            step, steps, seconds = trainings[name]
            found.append(GeneratorFacts(name, files[name], sha256_file(files[name]), step, steps, seconds, figures))
        else:
            found.append(GeneratorFacts(name, figures=figures))
    return found
