"""The demo's pages: how well the town is recognised by night, and what became of every query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gloam.data.scene import Pose
from gloam.data.town import TownDataset
from gloam.data.town.outline import street_outline
from gloam.eval.localization.benchmark import LocalizationResult
from gloam.eval.localization.outcomes import query_outcomes
from gloam.eval.localization.scores import PoseErrors
from gloam.eval.retrieval.ground_truth import read_ground_truth
from gloam.eval.retrieval.scores import RetrievalScores
from gloam.files import sha256_file
from gloam.model_card import ModelCard
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.localization.colmap import AbsolutePoseOptions
from gloam.workflows.reports.page.data import (
    Control,
    ErrorSet,
    PoseTrack,
    RecallCurve,
    ReportData,
    Table,
)
from gloam.workflows.reports.page.write import write_report
from gloam.workflows.reports.queries import query_rows, query_table

REPORT_FILE, QUERIES_FILE = "report.html", "queries.html"
SHOWN, CONTROL = "trained", "untrained"  # names of the models that the first screen compares
METHOD = "2b"  # by which it does
NAMES = {
    "trained": "trained",
    "untrained": "untrained weights",
    "trained anew": "trained anew",
    "untrained anew": "untrained weights, made anew",
}
METHOD_NAMES = {"2b": "one map (2b)", "2a": "mini-map (2a)", "top1": "first image's pose (top-1)"}


@dataclass(frozen=True)
class Retrieval:
    """One model's part: its file, its stores, its scores and its pairs."""

    model: Path
    card: ModelCard
    query: DescriptorStore
    mapping: DescriptorStore
    scores: RetrievalScores
    pairs: dict[str, list[tuple[str, float]]]


@dataclass(frozen=True)
class DemoRun:
    """What the demo found.

    Attributes:
        town: that was localized.
        retrievals, results: by the model's name.
        errors: by the model's name and method.
        tables: as they are printed.
        top_k: map images retrieved per query.
        features: local features in words.
    """

    town: TownDataset
    retrievals: Mapping[str, Retrieval]
    results: Mapping[str, LocalizationResult]
    errors: Mapping[tuple[str, str], PoseErrors]
    tables: Sequence[Table]
    top_k: int
    features: str


def write_demo_report(run: DemoRun, folder: Path, made: Mapping[str, str] | None = None) -> tuple[Path, Path]:
    """Write ``report.html`` and, with every query, ``queries.html``.

    Args:
        run: what was found.
        folder: of the demo.
        made: see :func:`gloam.workflows.reports.page.template.write_page`.

    Returns:
        the two files.

    Raises:
        StoreError: a file cannot be written.
    """
    town, found = run.town, run.results[SHOWN]
    retrieval = run.retrievals[SHOWN]
    conditions = {query: condition for condition, queries in town.conditions.items() for query in queries}
    retrieved = {query: [image for image, _ in images] for query, images in retrieval.pairs.items()}
    poses = {query: pose for query, pose in found.poses[METHOD].items() if pose is not None}
    outcomes = query_outcomes(METHOD, found, poses, retrieved, AbsolutePoseOptions().min_inliers)
    item = run.errors[SHOWN, METHOD]
    errors = dict(zip(item.names, zip(item.position, item.rotation, strict=True), strict=True))
    rows = query_rows(METHOD, found, outcomes, conditions, errors, _judged(town, retrieval))
    shown, beside = (_label(name, METHOD) for name in (SHOWN, CONTROL))
    report, queries = folder / REPORT_FILE, folder / QUERIES_FILE
    data = ReportData(
        title=f"A town by night, seed {town.config.seed}",
        tables=run.tables,
        recall_curves=[
            RecallCurve(NAMES[name], condition, sorted(row.recall), [row.recall[k] for k in sorted(row.recall)])
            for name, part in run.retrievals.items()
            for condition, row in part.scores.conditions.items()
        ],
        errors=_error_sets(run),
        tracks=_tracks(town, poses),
        map_xy=np.array([pose.center[:2] for pose in town.mapping.poses.values()]),
        ground=street_outline(town.config.seed, town.config.length, town.config.look),
        gallery=rows,
        identity=_identity(run),
        method=shown,
        control=Control(beside, "untrained weights", "trained embedder"),
        links=[(QUERIES_FILE, "Every query")],
    )
    write_report(data, report, made)
    every = replace(
        data,
        title=f"{data.title}: every query",
        tables=[query_table(outcomes, f"Queries, {shown}", errors=errors)],
        recall_curves=(),
        most=len(rows),
        details=True,
        links=[(REPORT_FILE, "The report")],
    )
    write_report(every, queries, made)
    return report, queries


def _label(name: str, method: str) -> str:
    return f"{METHOD_NAMES[method]}, {NAMES[name]}"


def _judged(town: TownDataset, retrieval: Retrieval) -> dict[tuple[str, str], tuple[float, bool]]:
    """Similarity, and whether it shows the query's place, of each retrieved image."""
    truth = read_ground_truth(town.ground_truth)
    positives = {
        query: {truth.map_names[row] for row in rows}
        for query, rows in zip(truth.query_names, truth.positives, strict=True)
    }
    return {
        (query, image): (score, image in positives[query])
        for query, images in retrieval.pairs.items()
        for image, score in images
    }


def _error_sets(run: DemoRun) -> list[ErrorSet]:
    sets = []
    for (name, method), item in run.errors.items():
        row_of = {query: row for row, query in enumerate(item.names)}
        for condition, queries in run.town.conditions.items():
            rows = [row_of[query] for query in queries]
            position, rotation = ([values[row] for row in rows] for values in (item.position, item.rotation))
            sets.append(ErrorSet(_label(name, method), condition, position, rotation))
    return sets


def _tracks(town: TownDataset, poses: Mapping[str, Pose]) -> list[PoseTrack]:
    nowhere = np.full(2, np.nan)
    return [
        PoseTrack(
            condition,
            np.array([town.query.poses[query].center[:2] for query in queries]),
            np.array([poses[query].center[:2] if query in poses else nowhere for query in queries]),
        )
        for condition, queries in town.conditions.items()
    ]


def _identity(run: DemoRun) -> dict[str, str]:
    town, retrieval = run.town, run.retrievals[SHOWN]
    return {
        "town": f"seed {town.config.seed}, look {town.config.look}, {len(town.mapping.names)} map images, "
        f"{len(town.query.names)} queries",
        "embedder": f"{retrieval.card.name}, {retrieval.card.dimension}-D",
        "space": retrieval.card.space(),
        "model file": sha256_file(retrieval.model),
        "retrieved per query": str(run.top_k),
        "local features": run.features,
        "map": f"{run.results[SHOWN].map_points} points, mean reprojection error {run.results[SHOWN].map_error:.2f} px",
    }
