"""The main job on the embedded town: render, train, export, describe, index, retrieve, localize, report.

Every stage keeps what it made, so a second run reuses it and a killed one carries on. The town that is localized is
neither trained nor validated on; untrained weights and chance stand beside every figure.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gloam.data.pairs import read_pairs, write_pairs
from gloam.data.sources import find_images
from gloam.data.town import TownConfig, TownDataset, write_town
from gloam.errors import GloamError
from gloam.eval.localization.benchmark import Descriptors, LocalizationResult, run_localization
from gloam.eval.localization.ltvl import write_ltvl
from gloam.eval.localization.scores import ConditionScores, PoseErrors, pose_errors, score_conditions
from gloam.eval.retrieval.ground_truth import read_ground_truth
from gloam.eval.retrieval.scores import RetrievalScores
from gloam.eval.retrieval.streamed import evaluate_stores
from gloam.files import sha256_file, write_json
from gloam.model_card import InputRule, ModelCard
from gloam.runtime.bulk.extract import ExtractOptions, extract
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.localization.features import SiftFeatures
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.search.index import build_index
from gloam.runtime.search.pairs import retrieve_pairs
from gloam.training.embedders.config import read_metric_recipe
from gloam.workflows.reports.page import (
    ErrorSet,
    GalleryResult,
    GalleryRow,
    PoseTrack,
    RecallCurve,
    ReportData,
    Table,
    write_report,
)

METHODS = ("2b", "2a", "top1")
RATIO = 0.85  # Lowe's test for SIFT
NAMES = {"trained": "trained", "untrained": "untrained weights"}
Say = Callable[[str], None]


@dataclass(frozen=True)
class DemoConfig:
    """What the demo runs.

    Attributes:
        seed: of the town that is localized; reserved, so that no training street can be it.
        workers: processes for rendering, threads for localization.
        top_k: map images retrieved per query.
        town: sizes of the town; the seed above replaces its own.
        recipe: of the embedder.
        changes: keys of the recipe replaced.
    """

    seed: int = 7
    workers: int = 2
    top_k: int = 5
    town: TownConfig = dataclasses.field(default_factory=TownConfig)
    recipe: str = "town"
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class DemoResult:
    """The demo's figures as data and as text, and where the report is."""

    data: dict[str, Any]
    text: str
    report: Path


@dataclass(frozen=True)
class Retrieval:
    """One model's part: its file, its stores, its scores and its pairs."""

    model: Path
    card: ModelCard
    query: DescriptorStore
    mapping: DescriptorStore
    scores: RetrievalScores
    pairs: dict[str, list[tuple[str, float]]]


def run_demo(folder: str | Path, config: DemoConfig | None = None, say: Say | None = None) -> DemoResult:
    """Run or resume the demo.

    Args:
        folder: for everything it makes.
        config: seeds and sizes.
        say: gets one line per stage.

    Returns:
        figures and the path of the HTML report.
    """
    config = config or DemoConfig()
    root = Path(folder)
    clock = _Clock(say)
    town = write_town(root / "town", dataclasses.replace(config.town, seed=config.seed), config.workers)
    clock.tell("town", f"{town.rendered} images rendered, {town.reused} reused")
    models = _models(root, config, clock)
    retrievals = {name: _retrieve(root / name, town, model, config) for name, model in models.items()}
    clock.tell(
        "describe", f"{len(retrievals['trained'].query)} queries, {len(retrievals['trained'].mapping)} map images"
    )
    results = {name: _localize(root, name, town, item, config) for name, item in retrievals.items()}
    found = results["trained"]
    clock.tell("localize", f"map of {found.map_points} points, {found.map_error:.2f} px")
    errors = {
        (name, method): pose_errors(poses, town.query.poses)
        for name, result in results.items()
        for method, poses in result.poses.items()
    }
    scores = {key: score_conditions(item, town.conditions) for key, item in errors.items()}
    tables = [_retrieval_table(retrievals), *_localization_tables(scores)]
    report = root / "report.html"
    write_report(_report_data(config, town, retrievals, results, errors, tables), report)
    clock.tell("report", str(report))
    data = {
        "seed": config.seed,
        "report": str(report),
        "seconds": clock.seconds,
        "retrieval": {name: item.scores.to_dict() for name, item in retrievals.items()},
        "localization": {
            f"{method} {name}": {condition: _recalls(row) for condition, row in rows.items()}
            for (name, method), rows in scores.items()
        },
        "map": {"points": found.map_points, "reprojection_error_px": found.map_error},
    }
    write_json(root / "demo.json", data)
    total = sum(clock.seconds.values())
    text = "\n\n".join([*(_as_text(table) for table in tables), f"{total:.0f} s in all. Report: {report}"])
    return DemoResult(data, text, report)


class _Clock:
    """Says what each stage did and how long it took."""

    def __init__(self, say: Say | None) -> None:
        self.seconds: dict[str, float] = {}
        self._say = say
        self._last = time.perf_counter()

    def tell(self, stage: str, what: str) -> None:
        now = time.perf_counter()
        self.seconds[stage], self._last = now - self._last, now
        if self._say is not None:
            self._say(f"{stage:9s} {self.seconds[stage]:6.1f} s  {what}")


def _models(root: Path, config: DemoConfig, clock: _Clock) -> dict[str, Path]:
    """The trained embedder and the same network untrained, exported and self-tested."""
    import torch

    from gloam.export.embedder import export_embedder
    from gloam.networks.checkpoints import load_checkpoint, weights_sha256
    from gloam.networks.embedders import create_embedder
    from gloam.runtime.backends.selftest import run_selftest
    from gloam.training.config_changes import merge
    from gloam.training.embedders.batch_norm import settle_batch_norm
    from gloam.training.embedders.image_sets import open_set
    from gloam.training.train import train

    changes = merge(config.changes, {"data": {"reserved_seeds": [config.seed]}})
    views = root / "training" / "views"
    summary = train("embedder", config.recipe, changes, root / "training", views=views)
    recipe = summary.config
    clock.tell(
        "train",
        f"{summary.images} images of other streets; held-out street {recipe.query_condition} to "
        f"{recipe.map_condition} mAP {summary.untrained['mAP']:.3f} untrained, {summary.validation['mAP']:.3f} trained",
    )
    trained = load_checkpoint(summary.weights)
    torch.manual_seed(recipe.seed)
    untrained = create_embedder(recipe.network, **recipe.network_options)
    settle_batch_norm(untrained, np.stack(open_set(recipe.data.train, views).pixels or ()))
    models = {
        "trained": (trained.model, trained.provenance),
        "untrained": (untrained, {"recipe": f"random weights, seed {recipe.seed}", "licence": "Apache-2.0"}),
    }
    paths = {}
    for name, (model, provenance) in models.items():
        paths[name] = root / f"embedder-{name}.onnx"
        wanted = (weights_sha256(model.state_dict()), _input_rule(config))
        if _exported(paths[name]) != wanted:
            export_embedder(model, paths[name], input_rule=wanted[1], provenance=provenance)
        difference, tolerance = run_selftest(Embedder.load(paths[name]).session)
        if difference > tolerance:
            raise GloamError(f"{paths[name]}: self-test failed by {difference:.1e}; run `gloam doctor`")
    clock.tell("export", ", ".join(str(path) for path in paths.values()))
    return paths


def _exported(path: Path) -> tuple[str, InputRule | None] | None:
    """The weights' hash and the input rule of a file that is there."""
    if not path.is_file():
        return None
    try:
        card = Embedder.load(path).card
    except GloamError:
        return None  # a file of an older schema, or damaged: exported again
    return card.provenance["weights_sha256"], card.input_rule


def _input_rule(config: DemoConfig) -> InputRule:
    """Larger than in training: more cells to pool. Chosen on towns of seeds 31, 41 and 51."""
    width, _ = read_metric_recipe(config.recipe, config.changes, kind="embedder").data.train["size"]
    return InputRule.of(width * 3 // 2)


def _retrieve(folder: Path, town: TownDataset, model: Path, config: DemoConfig) -> Retrieval:
    embedder = Embedder.load(model)
    stores = {}
    options = ExtractOptions(shard_size=64)
    folder = folder / embedder.fingerprint[:12]  # another model or size is another store
    for split in ("query", "mapping"):
        place = folder / split
        extract(find_images(town.folder / split), embedder, place, options)
        stores[split] = DescriptorStore.open(place)
    build_index(stores["mapping"], folder / "index")
    write_pairs(folder / "pairs.txt", retrieve_pairs(stores["query"], stores["mapping"], config.top_k))
    pairs: dict[str, list[tuple[str, float]]] = {name: [] for name in town.query.names}
    for pair in read_pairs(folder / "pairs.txt"):
        pairs[pair.query].append((pair.mapping, float(pair.score or 0.0)))
    scores = evaluate_stores(stores["query"], stores["mapping"], read_ground_truth(town.ground_truth))
    return Retrieval(model, embedder.card, stores["query"], stores["mapping"], scores, pairs)


def _localize(root: Path, name: str, town: TownDataset, retrieval: Retrieval, config: DemoConfig) -> LocalizationResult:
    rows = {
        image: row
        for store in (retrieval.query, retrieval.mapping)
        for image, row in zip(store.names, store.load(), strict=True)
    }
    result = run_localization(
        town.mapping,
        town.query,
        {query: [image for image, _ in images] for query, images in retrieval.pairs.items()},
        SiftFeatures(max_keypoints=2048, pixel_shift=0.5),
        METHODS if name == "trained" else ("2b",),
        descriptors=Descriptors(rows),
        workspace=root / "localization",
        workers=config.workers,
        ratio=RATIO,
    )
    cameras = {image: record.camera_id for image, record in town.query.records.items()}
    for method, poses in result.poses.items():
        write_ltvl(root / "poses" / f"{method}-{name}.txt", poses, cameras, "full")
    return result


def _retrieval_table(retrievals: Mapping[str, Retrieval]) -> Table:
    trained, untrained = retrievals["trained"].scores, retrievals["untrained"].scores
    rows: list[list[str | int | float | None]] = []
    for condition, scores in trained.conditions.items():
        control = untrained.conditions[condition]
        rows.append(
            [
                condition,
                scores.queries,
                scores.mAP,
                control.mAP,
                scores.chance_mAP,
                scores.recall[1],
                control.recall[1],
                scores.recall[5],
                control.recall[5],
            ]
        )
    return Table(
        "Retrieval: finding map images by day that show the query's place",
        ["condition", "queries", "mAP", "untrained", "chance", "R@1", "untrained", "R@5", "untrained"],
        rows,
        "The town's street was neither trained nor validated on. Untrained: the same network with random weights.",
    )


def _localization_tables(scores: Mapping[tuple[str, str], Mapping[str, ConditionScores]]) -> list[Table]:
    titles = {
        ("trained", "2b"): "Localization on one global map (2b), SIFT, retrieval by the trained embedder",
        ("untrained", "2b"): "Control: the same map (2b), retrieval by untrained weights",
        ("trained", "2a"): "Localization on a mini-map of the retrieved images (2a)",
        ("trained", "top1"): "Pose of the first retrieved image (top-1)",
    }
    tables = []
    for key, title in titles.items():
        rows: list[list[str | int | float | None]] = [
            [condition, row.queries, row.localized, *(100 * recall for recall in row.recalls), _finite(row)]
            for condition, row in scores[key].items()
            if condition != "all"
        ]
        columns = ["condition", "queries", "localized", "% 0.25 m 2°", "% 0.5 m 5°", "% 5 m 10°", "median m"]
        tables.append(Table(title, columns, rows, "A query without a pose counts as a failure."))
    return tables


def _finite(row: ConditionScores) -> float | None:
    return row.median_position if np.isfinite(row.median_position) else None


def _recalls(row: ConditionScores) -> dict[str, Any]:
    return {"queries": row.queries, "localized": row.localized, "recalls": row.recalls, "median_m": _finite(row)}


def _report_data(
    config: DemoConfig,
    town: TownDataset,
    retrievals: Mapping[str, Retrieval],
    results: Mapping[str, LocalizationResult],
    errors: Mapping[tuple[str, str], PoseErrors],
    tables: list[Table],
) -> ReportData:
    truth = read_ground_truth(town.ground_truth)
    positives = {
        query: {truth.map_names[row] for row in rows}
        for query, rows in zip(truth.query_names, truth.positives, strict=True)
    }
    sets, tracks, gallery = [], [], []
    for (name, method), item in errors.items():
        label = method if name == "trained" else f"{method}, {NAMES[name]}"
        row_of = {query: row for row, query in enumerate(item.names)}
        for condition, queries in town.conditions.items():
            rows = [row_of[query] for query in queries]
            sets.append(
                ErrorSet(label, condition, [item.position[row] for row in rows], [item.rotation[row] for row in rows])
            )
    for condition, queries in town.conditions.items():
        true = np.array([town.query.poses[query].center[:2] for query in queries])
        poses = [results["trained"].poses["2b"].get(query) for query in queries]
        estimated = np.array([[np.nan, np.nan] if pose is None else pose.center[:2] for pose in poses])
        tracks.append(PoseTrack(condition, true, estimated))
        for query in queries:
            shown = [
                GalleryResult(town.mapping.image_path(image), score, image in positives[query])
                for image, score in retrievals["trained"].pairs[query]
            ]
            gallery.append(GalleryRow(town.query.image_path(query), query, condition, shown))
    cards = {name: item.card for name, item in retrievals.items()}
    return ReportData(
        title=f"A town by night, seed {config.seed}",
        tables=tables,
        recall_curves=[
            RecallCurve(NAMES[name], condition, sorted(row.recall), [row.recall[k] for k in sorted(row.recall)])
            for name, item in retrievals.items()
            for condition, row in item.scores.conditions.items()
        ],
        errors=sets,
        tracks=tracks,
        map_xy=np.array([pose.center[:2] for pose in town.mapping.poses.values()]),
        gallery=gallery,
        identity={
            "town": f"seed {config.seed}, {len(town.mapping.names)} map images, {len(town.query.names)} queries",
            "embedder": f"{cards['trained'].name}, {cards['trained'].dimension}-D",
            "space": cards["trained"].space(),
            "model file": sha256_file(retrievals["trained"].model),
            "retrieved per query": str(config.top_k),
            "local features": "RootSIFT, at most 2048",
        },
        method="2b",
    )


def _as_text(table: Table) -> str:
    """A table in aligned plain text."""
    cells = [[str(column) for column in table.columns]]
    for row in table.rows:
        cells.append(
            ["-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value) for value in row]
        )
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = [
        "  ".join(
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    return "\n".join([table.title, *lines])
