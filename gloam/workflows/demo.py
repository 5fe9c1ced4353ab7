"""The main job on the embedded town: render, describe, index, retrieve, localize, report; training where asked for.

The embedder comes with gloam, and so do its untrained weights, so that every machine prints the same table and none
needs torch. Training it anew gives a second table. Every stage keeps what it made, so a second run reuses it and a
killed one carries on. The town that is localized is neither trained nor validated on; untrained weights and chance
stand beside every figure.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gloam.data.pairs import read_pairs, write_pairs
from gloam.data.sources import find_images
from gloam.data.town import TownConfig, TownDataset, write_town
from gloam.errors import GloamError, UsageError, require_all
from gloam.eval.localization.benchmark import Descriptors, LocalizationResult, run_localization
from gloam.eval.localization.ltvl import write_ltvl
from gloam.eval.localization.scores import ConditionScores, pose_errors, score_conditions
from gloam.eval.retrieval.ground_truth import read_ground_truth
from gloam.eval.retrieval.streamed import evaluate_stores
from gloam.files import write_json
from gloam.model_card import Photometric
from gloam.runtime.backends.selftest import run_selftest
from gloam.runtime.bulk.extract import ExtractOptions, extract
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.localization.features.sources import SiftFeatures
from gloam.runtime.localization.matches.mutual import MutualMatcher
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.search.index import build_index
from gloam.runtime.search.pairs import retrieve_pairs
from gloam.workflows.demo_embedder import SHIPPED, read_demo_recipe, train_demo_embedder
from gloam.workflows.reports.demo import DemoRun, Retrieval, write_demo_report
from gloam.workflows.reports.page.data import Table

METHODS = ("2b", "2a", "top1")
SIFT = SiftFeatures(max_keypoints=2048, pixel_shift=0.5)
# By look of the town. In the second, light that is made even first localizes more by night and no less by day.
FEATURES = {
    1: ("SIFT", SIFT),
    2: ("SIFT on CLAHE", dataclasses.replace(SIFT, photometric=Photometric("clahe"))),
}
RATIO = 0.85  # Lowe's test for SIFT
NEEDS = ("onnxruntime", "faiss", "pycolmap")
Say = Callable[[str], None]


@dataclass(frozen=True)
class DemoConfig:
    """What the demo runs.

    Attributes:
        seed: of the town that is localized; reserved, so that no training street can be it.
        workers: processes for rendering, threads for localization.
        top_k: map images retrieved per query.
        town: sizes and look of the town; the seed above replaces its own.
        train: train the embedder anew as well, for a table of its own.
        recipe: of that training.
        changes: keys of the recipe replaced.
    """

    seed: int = 7
    workers: int = 2
    top_k: int = 5
    town: TownConfig = dataclasses.field(default_factory=lambda: TownConfig(look=2))
    train: bool = False
    recipe: str = "town"
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class DemoResult:
    """The demo's figures as data and as text, and where the report is."""

    data: dict[str, Any]
    text: str
    report: Path


def run_demo(folder: str | Path, config: DemoConfig | None = None, say: Say | None = None) -> DemoResult:
    """Run or resume the demo.

    Args:
        folder: for everything it makes.
        config: seeds and sizes.
        say: gets one line per stage.

    Returns:
        figures and the path of the HTML report.

    Raises:
        MissingExtraError: a package is missing; nothing is rendered before that is known.
        UsageError: a street that an embedder was trained on.
        StoreError: the folder holds another town, or cannot be written.
    """
    config = config or DemoConfig()
    require_all(NEEDS, "run the demo")
    if config.train:
        training = read_demo_recipe(config.recipe, config.changes, config.seed, config.town.look)
    root = Path(folder)
    clock = _Clock(say)
    models = dict(SHIPPED[config.town.look])
    if config.seed in Embedder.load(models["trained"]).card.provenance["street_seeds"]:
        raise UsageError(f"street seed {config.seed} is one that the embedder was trained on; choose another")
    of_seed = dataclasses.replace(config.town, seed=config.seed)
    town = write_town(root / "town", of_seed, config.workers, progress=say is not None)
    clock.tell("town", f"{town.rendered} images rendered, {town.reused} reused")
    if config.train:
        made = train_demo_embedder(root / "training", training, clock.tell)
        models |= {f"{name} anew": path for name, path in made.items()}
    _self_test(models.values())
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
    tables = [
        table
        for anew in (("", " anew") if config.train else ("",))
        for table in (_retrieval_table(retrievals, anew), *_localization_tables(scores, anew, config.town.look))
    ]
    features = f"{FEATURES[config.town.look][0]} (RootSIFT), at most {SIFT.max_keypoints}"
    run = DemoRun(town, retrievals, results, errors, tables, config.top_k, features)
    report, queries = write_demo_report(run, root)
    clock.tell("report", str(report))
    data = {
        "seed": config.seed,
        "look": config.town.look,
        "report": str(report),
        "queries": str(queries),
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


def _self_test(models: Iterable[Path]) -> None:
    for path in models:
        difference, tolerance = run_selftest(Embedder.load(path).session)
        if difference > tolerance:
            raise GloamError(f"{path}: self-test failed by {difference:.1e}; run `gloam doctor`")


def _retrieve(folder: Path, town: TownDataset, model: Path, config: DemoConfig) -> Retrieval:
    embedder = Embedder.load(model)
    stores = {}
    # float32: halves would round what two processors compute to other sides, and ranks with it.
    options = ExtractOptions(dtype="float32", shard_size=64)
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
        FEATURES[config.town.look][1],
        METHODS if name == "trained" else ("2b",),
        descriptors=Descriptors(rows),
        workspace=root / "localization",
        workers=config.workers,
        rule=MutualMatcher(RATIO),
    )
    cameras = {image: record.camera_id for image, record in town.query.records.items()}
    for method, poses in result.poses.items():
        write_ltvl(root / "poses" / f"{method}-{name}.txt", poses, cameras, "full")
    return result


def _retrieval_table(retrievals: Mapping[str, Retrieval], anew: str) -> Table:
    trained, untrained = (retrievals[f"{name}{anew}"].scores for name in ("trained", "untrained"))
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
        f"Retrieval{' by the embedder trained anew' if anew else ''}: "
        "finding map images by day that show the query's place",
        ["condition", "queries", "mAP", "untrained", "chance", "R@1", "untrained", "R@5", "untrained"],
        rows,
        "The town's street was neither trained nor validated on. Untrained: the same network with random weights.",
    )


def _localization_tables(
    scores: Mapping[tuple[str, str], Mapping[str, ConditionScores]], anew: str, look: int
) -> list[Table]:
    by, control = ("embedder trained anew", ", made anew") if anew else ("trained embedder", "")
    titles = {
        (f"trained{anew}", "2b"): f"Localization on one global map (2b), {FEATURES[look][0]}, retrieval by the {by}",
        (f"untrained{anew}", "2b"): f"Control: the same map (2b), retrieval by untrained weights{control}",
    }
    if not anew:
        titles |= {
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
