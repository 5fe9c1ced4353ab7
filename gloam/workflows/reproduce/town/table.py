"""The papers' tables in miniature, on procedural streets: generators and embedders are trained here, in minutes.

The numbers are not the papers': streets, networks and schedules are small. What can be compared is the order of the
rows, beside untrained weights and chance. Generators, embedders and the judged streets share no seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from gloam.data.retrieval_sets.sets import RetrievalSet
from gloam.errors import DataError, UsageError, require_all
from gloam.eval.retrieval.ground_truth import GroundTruth
from gloam.eval.retrieval.places import ground_truth_of_places
from gloam.eval.retrieval.streamed import evaluate_streamed
from gloam.eval.retrieval.tokyo import condition_matrix
from gloam.files import sha256_file, sha256_json
from gloam.heartbeat import Say
from gloam.record import to_json
from gloam.runtime.descriptors.source import DescriptorArray, DescriptorSource
from gloam.runtime.models.embedder import Embedder
from gloam.training.edges import config as edges
from gloam.training.embedders import config as embedders
from gloam.training.translators import config as translators
from gloam.training.typed_config import recipe_mapping
from gloam.workflows.demo_embedder import SHIPPED
from gloam.workflows.reproduce.costs import training_parameters
from gloam.workflows.reproduce.generator_scores import NightScores, describe_images, score_nights
from gloam.workflows.reproduce.published import published
from gloam.workflows.reproduce.records import Budget, Scored, run_row
from gloam.workflows.reproduce.request import RetrievalRequest
from gloam.workflows.reproduce.result import SHEET, SHOWN, RetrievalTable, TableRow
from gloam.workflows.reproduce.rows import PACKAGES
from gloam.workflows.reproduce.table import joined
from gloam.workflows.reproduce.town.rows import GENERATORS, STANDS_FOR, TOWN_TABLES, TownRow
from gloam.workflows.reproduce.town.run import DETECTOR, TownRun, describe_views, judged_views
from gloam.workflows.translation_grid import side_by_side, write_sheet

DRAWS, NOISE = 10, 16  # simulated rankings by light alone; random numbers in a descriptor of each
LOOK = 1  # of the streets
HURRIED = {"epochs": 3}  # of an edge detector's recipe, within a budget


def reproduce_town(request: RetrievalRequest, say: Say | None = None) -> RetrievalTable:
    """Train and judge a table's rows in miniature; what an earlier call trained in the folder is used again.

    Args:
        request: its data and weights are not looked at.
        say: gets one line per stage.

    Raises:
        UsageError: no such table or row, or one that has no miniature.
    """
    paper, table = request.paper, request.table
    found = published(paper, table)
    if (paper, table) not in TOWN_TABLES:
        raise UsageError(f"{paper}, table {table}: compares networks of others, which no town can train; use --data")
    columns, every = TOWN_TABLES[paper, table]
    unknown = [row for row in request.rows if row not in every]
    if unknown:
        raise UsageError(f"the miniature of table {table} has no row {unknown[0]!r}; choose one of {', '.join(every)}")
    require_all(PACKAGES, "reproduce a table")
    names = list(request.rows or every)
    tell = say or (lambda line: None)
    budget = Budget.of(request)
    run = _Miniature(request, columns, every, names, budget, tell)
    rows = []
    for name in names:
        key = sha256_json([columns, _spec(every, name), to_json(request.judged), run.minutes, run.changes])
        seeds = [request.seed + at for at in range(request.seeds)]
        rows.append(run_row(request, name, partial(run.scored, name), budget, tell, seeds=seeds, key=key))
        means = ", ".join(f"{column} {mean:.1f}" for column in columns if (mean := rows[-1].mean(column)) is not None)
        if means:
            tell(f"{name}: {means}")
    return RetrievalTable(
        paper,
        table,
        found,
        columns,
        rows,
        run.controls if any(row.scores for row in rows) else {},
        notes=run.notes(),
        pictures=run.sheet(rows),
        town=True,
    )


def _spec(every: Mapping[str, TownRow], name: str) -> list[Any]:
    """What a row, and the one beside it, are trained by, with the recipes as they are now."""
    row = every[name]
    makers = [GENERATORS[maker] for maker in (row.maker, row.to_day, row.detector) if maker in GENERATORS]
    recipes = [(embedders.RECIPES["metric"], row.recipe)] if row.recipe else []
    recipes += [(translators.RECIPES, maker.recipe) for maker in makers]
    if row.detector or any(maker.detector for maker in makers):
        recipes.append((edges.RECIPES, DETECTOR))
    stated = [recipe_mapping(*recipe) for recipe in recipes]
    return [to_json(row), to_json(makers), stated, *([] if not row.beside else _spec(every, row.beside))]


@dataclass
class _Miniature:
    """What all rows of a miniature share."""

    request: RetrievalRequest
    columns: tuple[str, ...]
    every: Mapping[str, TownRow]
    names: Sequence[str]
    budget: Budget
    say: Say

    @cached_property
    def minutes(self) -> tuple[float, float | None]:
        """Of each generator, and of each embedder; None for the whole recipe."""
        rows = [self.every[name] for name in self.names]
        rows += [self.every[row.beside] for row in rows if row.beside]
        makers = {name for row in rows for name in (row.maker, row.to_day, row.detector) if name in GENERATORS}
        detectors = {GENERATORS[name].detector for name in makers} | {row.detector for row in rows}
        embedders = {(row.recipe, row.maker, row.label, row.detector) for row in rows if row.recipe}
        detectors = {name for name in detectors if name and name not in GENERATORS}
        seeds = self.request.seeds
        shares = self.budget.shares(len(makers) * seeds + len(detectors), len(embedders) * seeds)
        return (self.request.minutes, None) if shares is None else shares

    @property
    def changes(self) -> list[Any]:
        """Keys of the recipes replaced, JSON-ready."""
        request = self.request
        return [
            to_json(item) for item in (request.embedder_changes, request.generator_changes, request.detector_changes)
        ]

    @cached_property
    def views(self) -> RetrievalSet:
        """That rows are judged on."""
        return judged_views(self.request.judged)

    @cached_property
    def truths(self) -> dict[str, GroundTruth]:
        """By column."""
        return {name: item for name, item in judged_sets(self.views).items() if name in self.columns}

    def run(self, seed: int) -> TownRun:
        """Trainings of a seed."""
        request = self.request
        generator, embedder = self.minutes
        changes = (dict(request.embedder_changes), dict(request.generator_changes))
        detectors = {**(HURRIED if embedder is not None else {}), **request.detector_changes}
        return TownRun(
            request.runs or request.output,
            generator,
            seed,
            *changes,
            self.say,
            LOOK,
            detector_changes=detectors,
            embedder_minutes=embedder,
        )

    def scored(self, name: str, seed: int) -> Scored:
        """A row's numbers by one seed.

        Raises:
            GloamError: why there are none.
        """
        row = self.every[name]
        if row.reason:
            raise DataError(row.reason)
        run = self.run(seed)
        scores: dict[str, float] = {}
        facts: dict[str, Any] = {"members": []}
        if self.request.table == "8":
            scores, facts = self._costs(run, row)
        if "FID" in self.columns and row.maker:
            found = self._nights(run, row.maker)
            scores |= {column: value for column, value in found.figures.items() if column in self.columns}
            facts["members"] += [_generator_facts(run, row.maker)]
            facts["nights"] = found.to_dict()
        if self.truths:
            scores |= self._retrieved(run, row, facts)
        return Scored(scores, facts, run.trained_here)

    def _retrieved(self, run: TownRun, row: TownRow, facts: dict[str, Any]) -> dict[str, float]:
        model, photometric, stated = run.opened(row)
        facts["members"].append(stated)
        facts["images"] = {column: f"{len(truth.query_names)} queries" for column, truth in self.truths.items()}
        if model.name.startswith("how"):
            return run.by_asmk(model, photometric, row, self.views, self.truths)
        sources: list[DescriptorSource] = [describe_views(model, self.views, photometric)]
        if row.beside:
            other, other_light, other_facts = run.opened(self.every[row.beside])
            sources.append(describe_views(other, self.views, other_light))
            facts["members"].append(other_facts)
        database = queries = joined(sources)
        if row.to_day:
            from gloam.training.embedders.nights import open_night_maker

            file = run.generator(row.to_day).weights["night2day"]
            facts["members"].append({"weights": [_file(file)], "network": "translator of the queries by night"})
            queries = self._by_day(model, photometric, database, open_night_maker(file))
        scores = evaluate_streamed(queries, database, self.truths)
        return {column: 100 * scores[column].mAP for column in self.truths}

    def _by_day(self, model: Any, photometric: Any, database: DescriptorSource, through: Any) -> DescriptorSource:
        """The views as queries: those by night through a translator, the others as they are."""
        conditions = self.views.conditions or ()
        nights = np.flatnonzero(np.array(conditions) == "night")
        translated = describe_views(model, self.views.part(nights), photometric, through)
        rows = np.concatenate([block for _, block in database.blocks()]).copy()
        rows[nights] = np.concatenate([block for _, block in translated.blocks()])
        return DescriptorArray(database.names, rows)

    def _nights(self, run: TownRun, maker: str) -> NightScores:
        """Scores of a generator's nights on the judged streets, in the space of the demo's embedder."""
        from gloam.eval.translation.features import EmbedderFeatures
        from gloam.training.embedders.nights import open_night_maker

        views, conditions = self.views, np.array(self.views.conditions)
        days, nights = (np.flatnonzero(conditions == name) for name in ("day", "night"))
        extractor = EmbedderFeatures(Embedder.load(SHIPPED[LOOK]["trained"]))
        real = describe_images((views.image(int(at)) for at in nights), extractor)
        operation = open_night_maker(run.generator(maker).weights["day2night"])
        return score_nights(operation, (views.image(int(at)) for at in days), real, extractor)

    def sheet(self, rows: Sequence[TableRow]) -> list[tuple[str, Path]]:
        """A picture of the same views by every generator of the rows, where the table is of generators."""
        from gloam.training.embedders.nights import open_night_maker

        files = {
            row.name: Path(member["weights"][0]["file"])
            for row in rows
            for member in row.facts.get("members", ())
            if str(member.get("network")).startswith("generator ")
        }
        if "FID" not in self.columns or not files:
            return []
        days = np.flatnonzero(np.array(self.views.conditions) == "day")
        shown = [self.views.image(int(at)) for at in days[:: max(len(days) // SHOWN, 1)][:SHOWN]]
        path = self.request.output / SHEET
        makers = [open_night_maker(file) for file in files.values()]
        height, width = shown[0].shape[:2]
        labels = [f"view {at + 1}" for at in range(len(shown))]
        write_sheet(path, ("source", *files), labels, side_by_side(shown, makers), (width, height))
        return [("The same views by every generator", path)]

    def _costs(self, run: TownRun, row: TownRow) -> tuple[dict[str, float], dict[str, Any]]:
        """Processor time, steps per second and parameters of a generator's training."""
        from gloam.networks.checkpoints import load_generator

        summary = run.generator(row.maker)
        model = load_generator(summary.weights["day2night"]).model
        count = sum(parameter.numel() for parameter in model.parameters())
        scores = {
            "minutes": summary.seconds / 60,
            "steps/s": summary.step / max(summary.seconds, 1e-9),
            "parameters, M": count / 1e6,
        }
        return scores, {"members": [_generator_facts(run, row.maker)]}

    @property
    def controls(self) -> dict[str, dict[str, float]]:
        """Chance, and light alone."""
        if not self.truths:
            return {}
        names = [item.name for item in self.views.images]
        nothing = DescriptorArray(names, np.eye(len(names), dtype=np.float32))
        scores = evaluate_streamed(nothing, nothing, self.truths)
        chance = {column: 100 * scores[column].chance_mAP for column in self.truths}
        return {"chance": chance, "lighting alone": lighting_alone(self.views, self.truths)}

    def notes(self) -> list[str]:
        """To be read with the table."""
        found = [
            f"Trained on procedural streets: compare the order of rows with the paper's, not the numbers. {STANDS_FOR}"
        ]
        if self.truths:
            found.append(f"mAP x 100 on {len(self.views)} views of streets that nothing was trained on.")
        if "FID" in self.columns:
            found.append(
                "FID of nights made of the judged streets' views by day against their views by night, in the space "
                "of the "
                "demo's embedder; the thesis has Inception's. Each set of the thesis is a few streets of its own."
            )
        if self.request.table == "8":
            full = training_parameters()
            printed = published(self.request.paper, "8").rows
            found.append("Processor time of this machine; parameters of the miniature's day-to-night generator.")
            found += [
                f"{name} at full size trains {full[name] / 1e6:.2f} M parameters; the paper prints "
                f"{printed[name][-1]} M."
                for name in self.names
                if name in full
            ]
        generator, embedder = self.minutes
        if embedder is not None:
            found.append(
                f"Of the budget {generator:.2g} minutes are for each generator and {embedder:.2g} for each embedder; a "
                "training that its time ended has other digits in another run."
            )
        across = [column for column in self.truths if len(set(column.split(">"))) == 2]
        if across:
            found.append(
                f"In {', '.join(across)} other places' images in the query's light are in the map and wrong, as Tokyo "
                "24/7 has it: what tells the light better than the place falls below chance, down to lighting alone."
            )
        return found


def _generator_facts(run: TownRun, name: str) -> dict[str, Any]:
    summary = run.generator(name)
    ended = f", {summary.step} of {summary.steps} steps" if summary.limited else ""
    return {
        "weights": [_file(summary.weights["day2night"])],
        "network": f"generator {name}",
        "recipe": GENERATORS[name].recipe,
        "from": f"trained here by recipe {GENERATORS[name].recipe}, seed {run.seed}{ended}",
    }


def _file(path: Path) -> dict[str, str]:
    return {"file": str(path), "sha256": sha256_file(path)}


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
