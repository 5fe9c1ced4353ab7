"""Translation between seven conditions of the town, by the weakly-paired model, its ablations and other methods.

Weak pairs of drives through streets of the second look. Judged on streets that no model was trained on, per domain:
FID of what is translated into it against its photographs, in the space of an ImageNet MobileNetV2, which has seen no
street of the town, and the distance of SIFT descriptors to a photograph of the same place. Beside it, retrieval:
queries of six conditions are translated into the seventh, the map's, or left as they are, or both get CLAHE; and
MDUIT's vector z beside a GeM that is trained on the same images for as many minutes. The value is the mean over seeds
of the full model's mean FID over that of untouched images.

Every training takes ``GLOAM_TOWN_WEATHER_MINUTES`` of processor time (6), on one thread. A folder named by
``GLOAM_BENCH_RUNS`` keeps what is done, and the same command carries on; ``GLOAM_BENCH_ONLY`` names models, separated
by commas, to run those alone, for example ``weakly_paired:0`` (model and seed).
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.shared.night_scores import Job, judging_space, train_all
from benchmarks.shared.result import KEPT, Result, kept_rows
from gloam.data.images import decode_image
from gloam.data.town.config import WEATHER
from gloam.data.town.drives.config import DrivesConfig
from gloam.data.town.drives.write import PAIRS, TEST_PAIRS, Drives, DrivesRequest, write_drives
from gloam.data.weak_pairs.matching import angles
from gloam.data.weak_pairs.table import read_table
from gloam.eval.retrieval.ground_truth import GroundTruth
from gloam.eval.retrieval.scores import evaluate
from gloam.eval.translation.domains import UNTOUCHED, JudgedDomain, judged_domains, score_domains
from gloam.eval.translation.features import EmbedderFeatures, FeatureExtractor, Features
from gloam.eval.translation.frechet import frechet_distance
from gloam.export.embedder import export_embedder
from gloam.files import sha256_file, sha256_json
from gloam.networks.checkpoints import load_checkpoint
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.models.image_model import ImageOperation
from gloam.runtime.models.translator import load_translator
from gloam.training.train import train
from gloam.training.translators.config import RECIPES
from gloam.training.typed_config import recipe_mapping, recipes_of
from gloam.workflows.evaluation.domains import open_towards, read_domains
from gloam.workflows.reproduce.weakly_paired.miniature import FULL, TOWN, town_options

ONLY, MINUTES = "GLOAM_BENCH_ONLY", "GLOAM_TOWN_WEATHER_MINUTES"
ROWS = "town_weather-rows"  # the folder that keeps them
USUAL = 6.0  # minutes of a training
GEMS_OWN = 20.0  # minutes that GeM's epochs are made for
TARGET = 0.7
NOISE = 0  # seed of what models that take noise are given, as the paper draws it when it translates, too
SEEDS = (0, 1, 2)  # of the full models; the others have the first
# Models that are the town's recipe with the keys in which the paper's recipe differs from that of the full model.
VARIANTS = (
    "weakly_paired_no_gen_align",
    "weakly_paired_no_classify_loss",
    "weakly_paired_no_mask",
    "weakly_paired_stack_discr",
    "spade",
)
OWN = {  # models with recipes of their own
    "ganimation": "town_ganimation",
    "mduit": "town_mduit",
    "adain": "town_adain",
}
FULL_MODELS = (FULL, "mduit")
GEM = "GeM on the same images:0"  # an embedder, beside MDUIT's vector
# Of recipe town_day: blocks of a third of the map are the validation, and the rate falls as far as in its own epochs.
GEM_BLOCKS = {"kind": "weak_pairs", "side": 8.0, "apart": 6.0}
GEM_EPOCHS, GEM_RATE = 60, 0.978
# The recipes were chosen on streets 71, 83 and 97.
DRIVES = DrivesConfig(
    train=(101, 102, 103, 104, 105, 106), val=(201,), test=(72, 84, 98), width=128, height=96, domains=WEATHER
)
RATIO, CLAHE = "mean FID over untouched", "CLAHE on queries and map"
REFERENCE = "overcast"  # the map's condition
LIMIT = 180  # weak pairs and photographs of a domain
QUERIES = 60  # of each condition


@dataclass(frozen=True)
class Model:
    """One row: a model and a seed."""

    name: str
    seed: int

    @property
    def label(self) -> str:
        return f"{self.name}:{self.seed}"


@dataclass(frozen=True)
class Places:
    """Images of the test streets, and which show the same place.

    Attributes:
        paths: by domain, in the order of their names.
        positives: for each domain, for each of its images the rows of the map's images of the same place.
    """

    paths: dict[str, list[Path]]
    positives: dict[str, list[npt.NDArray[np.int64]]]


def run() -> Result:
    """Render, train, translate, score."""
    minutes = float(os.environ.get(MINUTES, USUAL))
    only = tuple(filter(None, os.environ.get(ONLY, "").split(",")))
    models, skipped = _models(only)
    kept = os.environ.get(KEPT)
    with tempfile.TemporaryDirectory(prefix="gloam-weather-") as temporary:
        folder = Path(kept) / "town_weather" if kept else Path(temporary)
        drives = write_drives(DrivesRequest(folder / "drives", DRIVES, workers=1))
        jobs = [weather_job(model, minutes, drives) for model in models]
        made = train_all(jobs, folder / "runs")
        domains, images, pairs = read_domains(drives.folder / TEST_PAIRS, "test")
        judged = judged_domains(domains, images, pairs, limit=LIMIT)
        places = read_places(drives)
        space = judging_space(folder)
        database = space.features([decode_image(path) for path in places.paths[REFERENCE]])
        key = [DRIVES.content_hash(), space.weights_sha256, LIMIT, QUERIES, REFERENCE, NOISE]

        def row(model: str | Path, what: str) -> dict[str, Any]:
            def make() -> dict[str, Any]:
                towards = open_towards(model, domains, noise=NOISE)
                table = score_domains(judged, {what: towards}, space, (DRIVES.width, DRIVES.height))
                found = table.to_dict()["methods"][what]
                return {**found, "retrieval": retrieved(places, space, database, towards(REFERENCE))}

            return kept_rows(ROWS, [*key, what], make)

        rows = {UNTOUCHED: row("none", UNTOUCHED)}
        rows |= {job.label: row(made[job.label]["onnx"], made[job.label]["weights_sha256"]) for job in jobs}
        retrieval = {CLAHE: kept_rows(ROWS, [*key, CLAHE], lambda: _clahe(places, space))}
        embedders = {f"z of {job.label}": Path(made[job.label]["files"]["embedder"]) for job in _with_vectors(jobs)}
        if GEM not in skipped:
            embedders[GEM] = _gem(drives, minutes, folder)
        for label, weights in embedders.items():
            key_of = [*key, sha256_file(weights)]
            retrieval[label] = kept_rows(ROWS, key_of, partial(_by_vectors, places, weights, folder))
        floor = kept_rows(ROWS, [*key, "floor"], lambda: _floor(drives, judged, space))
    base = rows[UNTOUCHED]["mean"]["FID"]
    for found in rows.values():
        found[RATIO] = found["mean"]["FID"] / base
    retrieval = {**{label: found.pop("retrieval") for label, found in rows.items()}, **retrieval}
    ratios = [rows[Model(FULL, seed).label][RATIO] for seed in SEEDS if Model(FULL, seed) in models]
    value = float(np.mean(ratios)) if ratios else None
    whole = not only and minutes == USUAL
    detail = {
        "scores": rows,
        "over seeds": over_seeds(rows, models),
        "real images of training streets instead of translations": floor,
        f"mAP of queries on a map of {REFERENCE}": retrieval,
        "not run": skipped,
        "runs": {label: {name: item[name] for name in ("steps", "of", "cpu minutes")} for label, item in made.items()},
        "protocol": {
            "domains": list(DRIVES.domains),
            "streets": {part: list(getattr(DRIVES, part)) for part in ("train", "val", "test")},
            "size": f"{DRIVES.width}x{DRIVES.height}",
            "of a domain": f"at most {LIMIT} weak pairs, whose sources are translated, and {LIMIT} photographs; seed 0",
            "sources": {domain.name: dict(Counter(pair.origin for pair in domain.pairs)) for domain in judged},
            "queries": f"{QUERIES} of each condition, a map of {len(places.paths[REFERENCE])} images",
            "minutes of a training": minutes,
            "noise of models that take it": f"drawn, seed {NOISE}",
        },
        "space": {"network": space.name, "weights_sha256": space.weights_sha256},
    }
    met = value is not None and value <= TARGET
    return Result(value, "mean FID over untouched's", f"<= {TARGET}", met if whole else None, detail)


def _models(only: Sequence[str]) -> tuple[list[Model], dict[str, str]]:
    """The models of this run, and why others are not in it."""
    names = recipes_of(RECIPES)
    models, skipped = [], {}
    for name in (FULL, *VARIANTS, *OWN):
        recipe = OWN.get(name, name)
        for seed in SEEDS if name in FULL_MODELS else SEEDS[:1]:
            model = Model(name, seed)
            if recipe not in names:
                skipped[name] = f"there is no recipe {recipe!r} of translators yet"
            elif only and model.label not in only:
                skipped[model.label] = f"{ONLY} leaves it out"
            else:
                models.append(model)
    if only and GEM not in only:
        skipped[GEM] = f"{ONLY} leaves it out"
    return models, skipped


def _with_vectors(jobs: Sequence[Job]) -> list[Job]:
    """Those that train an embedder too."""
    return [job for job in jobs if job.recipe == OWN["mduit"]]


def _gem(drives: Drives, minutes: float, folder: Path) -> Path:
    """Weights of a GeM that is trained on the images of the translators."""
    blocks = {**GEM_BLOCKS, "path": str(drives.folder / PAIRS)}
    changes = {
        "data": {"train": {**blocks, "every": -3}, "validation": {**blocks, "every": 3}},
        "epochs": max(round(GEM_EPOCHS * minutes / GEMS_OWN), 1),
        "learning_rate_decay": GEM_RATE ** (GEMS_OWN / minutes),
        "max_minutes": minutes,
        "threads": 1,
        "seed": SEEDS[0],
    }
    place = folder / "embedders" / sha256_json([changes, DRIVES.content_hash()])[:16]
    return Path(train("metric", "town_day", changes, place).weights)


def _by_vectors(places: Places, weights: Path, folder: Path) -> dict[str, float]:
    """Retrieval of untouched images by a trained embedder."""
    model = folder / "embedders" / f"{sha256_file(weights)[:16]}.onnx"
    export_embedder(load_checkpoint(weights).model, model, provenance={})
    space = EmbedderFeatures(Embedder.load(model))
    database = space.features([decode_image(path) for path in places.paths[REFERENCE]])
    return retrieved(places, space, database, load_translator("none"))


def weather_job(model: Model, minutes: float, drives: Drives) -> Job:
    """Its training: so many minutes, and as many epochs as are done in them where the recipe's fit into its own."""
    recipe = OWN.get(model.name, TOWN)
    mapping = recipe_mapping(RECIPES, recipe)
    options = mapping["options"]
    changes = town_options(model.name) if model.name in VARIANTS else {}
    share = minutes / mapping["max_minutes"]
    epochs = max(round(options["epochs"] * share), 1)
    changes |= {"epochs": epochs, "decay_epochs": min(round(options["decay_epochs"] * share), epochs)}
    changes["domains"] = list(DRIVES.domains)
    data = {"day": str(drives.folder / PAIRS)}
    overrides = (("options", changes), ("data", data), ("max_minutes", minutes))
    return Job(recipe, model.seed, overrides, model.label)


def read_places(drives: Drives) -> Places:
    """Of the test streets."""
    config, folder = drives.config, drives.folder / "test"
    tables = {}
    for domain, found in read_table(drives.positions).items():
        rows = np.array([row for row, path in enumerate(found.paths) if path.is_relative_to(folder)], np.int64)
        tables[domain] = found.part(rows, "of another part")
    reference = tables[REFERENCE]
    positives = {}
    for domain, table in tables.items():
        apart = np.linalg.norm(table.centers[:, None] - reference.centers[None], axis=2)
        rows, columns = np.indices(apart.shape).reshape(2, -1)
        turns = angles(table.directions[rows], reference.directions[columns]).reshape(apart.shape)
        positives[domain] = [np.flatnonzero(row) for row in (apart <= config.distance) & (turns <= config.heading)]
    return Places({domain: list(table.paths) for domain, table in tables.items()}, positives)


def retrieved(
    places: Places, space: FeatureExtractor, database: Features, operation: ImageOperation
) -> dict[str, float]:
    """mAP by condition of the queries, and the mean.

    Args:
        database: features of the map's images.
        operation: what queries are made of before they are described.
    """
    names = [str(path) for path in places.paths[REFERENCE]]
    found = {}
    for domain in DRIVES.domains:
        if domain == REFERENCE:
            continue
        paths, positives = places.paths[domain], places.positives[domain]
        rows = np.linspace(0, len(paths) - 1, min(QUERIES, len(paths))).round().astype(int)
        queries = space.features([operation([decode_image(paths[row])])[0] for row in rows])
        asked, nothing = [str(paths[row]) for row in rows], np.zeros(0, np.int64)
        truth = GroundTruth(tuple(names), tuple(asked), tuple(positives[row] for row in rows), (nothing,) * len(rows))
        found[domain] = float(evaluate(asked, _unit(queries), names, _unit(database), truth).mAP)
    return {**found, "mean": float(np.mean(list(found.values())))}


def _clahe(places: Places, space: FeatureExtractor) -> dict[str, float]:
    clahe = load_translator("clahe")
    database = clahe([decode_image(path) for path in places.paths[REFERENCE]])
    return retrieved(places, space, space.features(database), clahe)


def _floor(drives: Drives, judged: Sequence[JudgedDomain], space: FeatureExtractor) -> dict[str, float]:
    """FID between photographs of the training streets and of the judged: what is left to no translator."""
    folder, found = drives.folder / "train", read_table(drives.positions)
    values = {}
    for domain in judged:
        real = space.features([decode_image(item.path) for item in domain.real])
        paths = [path for path in found[domain.name].paths if path.is_relative_to(folder)]
        rows = np.linspace(0, len(paths) - 1, min(len(real), len(paths))).round().astype(int)
        values[domain.name] = frechet_distance(real, space.features([decode_image(paths[row]) for row in rows]))
    return {**values, "mean": float(np.mean(list(values.values())))}


def over_seeds(rows: dict[str, Any], models: Sequence[Model]) -> dict[str, dict[str, Any]]:
    """Mean and standard deviation (ddof 1) over the seeds of a model."""
    found: dict[str, dict[str, Any]] = {}
    for name, group in itertools.groupby(models, lambda model: model.name):
        labels = [model.label for model in group]
        for figure in (RATIO, "FID", "SIFT", "undefined"):
            stated = [rows[label][figure] if figure == RATIO else rows[label]["mean"][figure] for label in labels]
            values = [value for value in stated if value is not None]
            mean = float(np.mean(values)) if values else None
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
            found.setdefault(name, {})[figure] = {"mean": mean, "sd": spread, "seeds": len(values)}
    return found


def _unit(features: Features) -> npt.NDArray[np.float32]:
    return np.asarray(features / np.linalg.norm(features, axis=1, keepdims=True), np.float32)
