"""The papers' tables in miniature, on procedural streets: generators and embedders are trained here, in minutes.

The numbers are not the papers': streets, networks and schedules are small. What can be compared is the order of the
rows, beside untrained weights and chance. Generators, embedders and the judged streets share no seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.data.photometric import apply_photometric
from gloam.data.retrieval_sets.sets import RetrievalSet, read_retrieval_set
from gloam.errors import UsageError, require_all
from gloam.eval.retrieval.ground_truth import GroundTruth
from gloam.eval.retrieval.places import ground_truth_of_places
from gloam.eval.retrieval.streamed import evaluate_streamed
from gloam.eval.retrieval.tokyo import condition_matrix
from gloam.heartbeat import Say
from gloam.model_card import Photometric
from gloam.runtime.descriptors.source import DescriptorArray, DescriptorSource
from gloam.workflows.reproduce.costs import training_parameters
from gloam.workflows.reproduce.models import photometric_of
from gloam.workflows.reproduce.published import published
from gloam.workflows.reproduce.rows import PACKAGES
from gloam.workflows.reproduce.table import side_by_side

JUDGED = (71, 83)  # streets that nothing is trained or chosen on
PLACES, VIEWS = 24, 6  # of each judged street; two views of a place under each condition
CONDITIONS = ("day", "dusk", "night")
GENERATORS = {"CycleGAN": "town_cyclegan", "CUT": "town_cut", "HEDNGAN": "town_hedngan"}
SMALL_VGG = [[16, 2], [32, 2], [64, 3], [64, 3], [64, 3]]


@dataclass(frozen=True)
class TownRow:
    """A row of the miniature.

    Attributes:
        recipe: of metric learning; "" for untrained weights.
        maker: a generator of :data:`GENERATORS`, trained first; "" for the recipe's own.
        changes: keys of the recipe replaced.
        beside: a row whose descriptor stands beside this one's.
        label: of its folder, where the names of the changes do not tell rows apart.
    """

    recipe: str = ""
    maker: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)
    beside: str = ""
    label: str = ""


_ALL_IMAGES = {"night": {"mode": "per_image", "share": 0.15, "roles": ["anchor", "positive", "negative"]}}
_CONTROLS = {
    "untrained weights": TownRow(),
    "day": TownRow("town_day"),
    "CLAHE": TownRow("town_clahe"),
    "CLAHE, Lab inversion": TownRow("town_lab"),
}
_ACROSS = ("day>day", "night>day")
DRAWS, NOISE = 10, 16  # simulated rankings by light alone; random numbers in a descriptor of each
_SIX = ("day>dusk", "dusk>day", "dusk>night", "night>dusk", "day>night", "night>day")

# Columns and rows by table of the Dark Side paper and of the thesis.
TOWN_TABLES: dict[tuple[str, str], tuple[tuple[str, ...], dict[str, TownRow]]] = {
    ("dark-side", "1"): (
        _ACROSS,
        {**_CONTROLS, **{f"{name} C": TownRow("town_night25", name) for name in ("HEDNGAN", "CycleGAN")}},
    ),
    ("dark-side", "4"): (
        _ACROSS,
        {
            "EdgeMAC": TownRow(
                "town_day", changes={"network": "edgemac_vgg16", "network_options": {"stages": SMALL_VGG}}
            ),
            "GeM": TownRow("town_clahe"),
            "EdgeMAC + GeM": TownRow("town_clahe", beside="EdgeMAC"),
        },
    ),
    ("dark-side", "5"): (
        _ACROSS,
        {
            "CLAHE C": TownRow("town_clahe"),
            "CLAHE CD": TownRow("town_clahe", changes={"anchors": "diverse"}),
            "CycleGAN C": TownRow("town_night25", "CycleGAN"),
            "CycleGAN CD": TownRow("town_diverse", "CycleGAN"),
        },
    ),
    ("dark-side", "6"): (
        _SIX,
        {
            "CLAHE C": TownRow("town_clahe"),
            "CycleGAN C": TownRow("town_night25", "CycleGAN"),
            "CycleGAN CD": TownRow("town_diverse", "CycleGAN"),
        },
    ),
    ("dark-side", "7"): (
        _ACROSS,
        {
            "CLAHE, Lab inversion": TownRow("town_lab"),
            **{name: TownRow("town_diverse", name) for name in GENERATORS},
            "CycleGAN 50 %": TownRow("town_night50", "CycleGAN"),
        },
    ),
    ("dark-side", "8"): (("minutes", "steps/s", "parameters, M"), {name: TownRow(maker=name) for name in GENERATORS}),
    ("thesis", "5.1"): (
        _ACROSS,
        {"baseline": TownRow("town_day"), "CycleGAN": TownRow("town_day", "CycleGAN", _ALL_IMAGES)},
    ),
}


@dataclass(frozen=True)
class TownTable:
    """What the miniature printed.

    Attributes:
        paper, table: that it stands for.
        columns: of the numbers; ``night>day`` asks by night for views by day, mAP times 100.
        rows: numbers by row.
        chance: mAP of a random ranking by column.
        lighting: mAP by column of a ranking that tells the light of an image, and nothing of its place.
        notes: to be read with it.
    """

    paper: str
    table: str
    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, float]]
    chance: Mapping[str, float]
    notes: Sequence[str]
    lighting: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "paper": self.paper,
            "table": self.table,
            "town": {name: dict(values) for name, values in self.rows.items()},
            "chance": dict(self.chance),
            "lighting alone": dict(self.lighting),
            "notes": list(self.notes),
        }

    def to_text(self) -> str:
        """A row per line, controls last."""
        controls = {"chance": self.chance, "lighting alone": self.lighting}
        rows = {**self.rows, **{name: values for name, values in controls.items() if values}}
        width = max(len(name) for name in rows) + 2
        lines = [f"{self.paper}, table {self.table}, in miniature", ""]
        lines.append(" " * width + "".join(f"{column:>15}" for column in self.columns))
        for name, values in rows.items():
            cells = (f"{values[column]:>15.2f}" if column in values else f"{'-':>15}" for column in self.columns)
            lines.append(f"{name:<{width}}" + "".join(cells))
        return "\n".join([*lines, "", *self.notes])


def reproduce_town(
    paper: str,
    table: str,
    folder: str | Path,
    *,
    minutes: float = 14.0,
    rows: Sequence[str] = (),
    seed: int = 0,
    embedder_changes: Mapping[str, Any] | None = None,
    generator_changes: Mapping[str, Any] | None = None,
    judged: RetrievalSet | None = None,
    say: Say | None = None,
) -> TownTable:
    """Train and judge a table's rows in miniature; what an earlier call trained in the folder is used again.

    Args:
        paper, table: of :data:`TOWN_TABLES`.
        folder: for networks and nights.
        minutes: processor time for each generator, at most.
        rows: some rows; all by default.
        seed: of embedders and generators.
        embedder_changes, generator_changes: keys of every recipe replaced, for quick runs.
        judged: views to be judged on; two streets of the reserved seeds by default.
        say: gets one line per stage.

    Raises:
        UsageError: no such table or row, or one that has no miniature.
    """
    published(paper, table)
    if (paper, table) not in TOWN_TABLES:
        raise UsageError(f"{paper}, table {table}: compares networks of others, which no town can train; use --data")
    columns, every = TOWN_TABLES[paper, table]
    unknown = [row for row in rows if row not in every]
    if unknown:
        raise UsageError(f"the miniature of table {table} has no row {unknown[0]!r}; choose one of {', '.join(every)}")
    chosen = {name: every[name] for name in rows or every}
    run = TownRun(Path(folder), minutes, seed, dict(embedder_changes or {}), dict(generator_changes or {}), say)
    if table == "8":
        return _costs(paper, table, columns, chosen, run)
    require_all(PACKAGES, "reproduce a table")
    views = judged or read_retrieval_set(
        "town", seeds=JUDGED, places=PLACES, views_per_place=VIEWS, conditions=CONDITIONS
    )
    truths = {name: item for name, item in judged_sets(views).items() if name in columns}
    found: dict[str, dict[str, float]] = {}
    chance: dict[str, float] = {}
    for name, row in chosen.items():
        sources = [run.described(row, views)]
        if row.beside:
            sources.append(run.described(every[row.beside], views))
        source = side_by_side(sources)
        scores = evaluate_streamed(source, source, truths)
        found[name] = {column: 100 * scores[column].mAP for column in columns}
        chance = {column: 100 * scores[column].chance_mAP for column in columns}
        run.tell(f"{name}: " + ", ".join(f"{column} {value:.1f}" for column, value in found[name].items()))
    notes = [
        f"mAP x 100 on {len(views)} views of streets that nothing was trained on; one seed ({seed}). Procedural "
        "streets, small networks from random weights: compare the order of rows with the paper's, not the numbers."
    ]
    lighting = lighting_alone(views, truths)
    across = [column for column in columns if len(set(column.split(">"))) == 2]
    if across:
        notes.append(
            f"In {', '.join(across)} other places' images in the query's light are in the map and wrong, as Tokyo 24/7 "
            "has it: what tells the light better than the place falls below chance, down to lighting alone."
        )
    return TownTable(paper, table, columns, found, chance, notes, lighting)


def lighting_alone(views: RetrievalSet, truths: Mapping[str, GroundTruth]) -> dict[str, float]:
    """mAP x 100 of rankings by light alone: images in the query's light first, at random among their like.

    Args:
        views: with conditions.
        truths: sets by column, of :func:`judged_sets`.

    Returns:
        the mean of :data:`DRAWS` simulated rankings, by column.
    """
    conditions = views.conditions or ()
    known = sorted(set(conditions))
    light = np.eye(len(known))[[known.index(condition) for condition in conditions]]
    random = np.random.default_rng(0)
    drawn: dict[str, list[float]] = {name: [] for name in truths}
    for _ in range(DRAWS):
        rows = np.concatenate((light, 0.01 * random.normal(size=(len(light), NOISE))), axis=1)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        source = DescriptorArray([item.name for item in views.images], rows.astype(np.float32))
        for name, scores in evaluate_streamed(source, source, truths).items():
            drawn[name].append(100 * scores.mAP)
    return {name: float(np.mean(values)) for name, values in drawn.items()}


def judged_sets(views: RetrievalSet) -> dict[str, GroundTruth]:
    """One set per condition of the query against each condition of the map: views of the query's place are right."""
    names = [item.name for item in views.images]
    place_of = {name: str(label) for name, label in zip(names, views.clusters.tolist(), strict=True)}
    truth = ground_truth_of_places(names, names, place_of)
    by_condition: dict[str, list[str]] = {}
    for name, condition in zip(names, views.conditions or (), strict=True):
        by_condition.setdefault(condition, []).append(name)
    return condition_matrix(truth, by_condition, by_condition)


@dataclass
class TownRun:
    """Trains what a row needs, once; what an earlier run trained in the folder is used again.

    Attributes:
        folder: for networks, nights and rendered streets.
        minutes: processor time for each generator, at most.
        seed: of embedders and generators.
        embedder_changes, generator_changes: keys of every recipe replaced.
        say: gets one line per stage.
        look: of the streets that everything is trained on.
        detector_changes: keys of HED's recipe replaced.
    """

    folder: Path
    minutes: float
    seed: int
    embedder_changes: dict[str, Any]
    generator_changes: dict[str, Any]
    say: Say | None
    look: int = 1
    detector_changes: dict[str, Any] = field(default_factory=dict)

    def tell(self, line: str) -> None:
        """Say a line."""
        if self.say is not None:
            self.say(line)

    def generator(self, name: str) -> Any:
        """The summary of a generator's training."""
        from gloam.training.config_changes import merge
        from gloam.training.train import train

        recipe = GENERATORS[name]
        data: dict[str, Any] = {"reserved_seeds": list(JUDGED)}
        if self.look != 1:
            data["look"] = self.look
        changes: dict[str, Any] = {"seed": self.seed, "max_minutes": self.minutes, "tensorboard": False, "data": data}
        if name == "HEDNGAN":
            self.tell("HED: training on the town's own edges")
            weights = train("edges", "town_hed", self.detector_changes, self.folder / "hed").weights
            changes = merge(changes, {"options": {"detector_weights": str(weights)}})
        self.tell(f"{name}: training, at most {self.minutes:g} minutes")
        place = self.folder / f"{recipe}-{self.seed}-{self.minutes:g}{self._of_look}"
        return train("translator", recipe, merge(changes, self.generator_changes), place, views=self._views)

    @property
    def _views(self) -> Path:
        """Rendered streets, shared by all trainings."""
        return self.folder / "views"

    @property
    def _of_look(self) -> str:
        return "" if self.look == 1 else f"-look{self.look}"

    def _changes(self, row: TownRow) -> dict[str, Any]:
        from gloam.training.config_changes import merge
        from gloam.training.embedders.config import read_metric_recipe

        changes = merge(merge({"seed": self.seed}, row.changes), self.embedder_changes)
        if self.look != 1:
            data = read_metric_recipe(row.recipe or "town_day", changes).data
            look = {"look": self.look}
            sets = {"train": {**data.train, **look}, "validation": {**data.validation, **look}}
            changes = merge(changes, {"data": sets})
        return changes

    def trained(self, row: TownRow) -> Path:
        """Weights of a row's embedder; their provenance states the normalisation of its images."""
        from gloam.training.config_changes import merge
        from gloam.training.train import train

        changes = self._changes(row)
        if row.maker:
            changes = merge(changes, {"maker": str(self.generator(row.maker).weights["day2night"])})
        key = "-".join(part for part in (row.recipe, row.maker, row.label or "-".join(sorted(row.changes))) if part)
        place = self.folder / f"{key}-{self.seed}{self._of_look}"
        self.tell(f"{key}: training")
        return train("metric", row.recipe, changes, place, nights=self.folder / "nights", views=self._views).weights

    def untrained(self, row: TownRow) -> Any:
        """A row's network with random weights."""
        import torch

        from gloam.networks.embedders import create_embedder
        from gloam.training.embedders.config import read_metric_recipe

        config = read_metric_recipe(row.recipe or "town_day", self._changes(row))
        torch.manual_seed(self.seed)
        return create_embedder(config.network, **config.network_options)

    def described(self, row: TownRow, views: RetrievalSet) -> DescriptorSource:
        """Descriptors of the judged views by a row's embedder."""
        from gloam.networks.checkpoints import load_checkpoint

        if row.recipe:
            trained = load_checkpoint(self.trained(row))
            model, photometric = trained.model, photometric_of(trained.provenance)
        else:
            model, photometric = self.untrained(row), Photometric()
        return DescriptorArray([item.name for item in views.images], _describe(model, views, photometric))


def _describe(model: Any, views: RetrievalSet, photometric: Photometric) -> npt.NDArray[np.float32]:
    """Unit descriptors ``[n, D]`` by the network itself, one view at a time: nothing is exported here."""
    import torch

    rows = []
    with torch.inference_mode():
        for index in range(len(views)):
            image = apply_photometric(views.image(index), photometric)
            rows.append(model.eval().describe_uint8(torch.from_numpy(np.ascontiguousarray(image))[None]).numpy()[0])
    return np.stack(rows).astype(np.float32)


def _costs(paper: str, table: str, columns: tuple[str, ...], chosen: Mapping[str, TownRow], run: TownRun) -> TownTable:
    """Table 8: processor time, steps per second and parameters of the generators that are trained."""
    from gloam.networks.checkpoints import load_generator

    full = training_parameters()
    rows: dict[str, dict[str, float]] = {}
    notes = ["Processor time of this machine; parameters of the miniature's day-to-night generator."]
    for name in chosen:
        summary = run.generator(name)
        model = load_generator(summary.weights["day2night"]).model
        count = sum(parameter.numel() for parameter in model.parameters())
        rate = summary.step / max(summary.seconds, 1e-9)
        rows[name] = {"minutes": summary.seconds / 60, "steps/s": rate, "parameters, M": count / 1e6}
        printed = published(paper, table).rows[name][-1]
        notes.append(f"{name} at full size trains {full[name] / 1e6:.2f} M parameters; the paper prints {printed} M.")
    return TownTable(paper, table, columns, rows, {}, notes)
