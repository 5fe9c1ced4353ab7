"""Translation between seven conditions of the town, by the weakly-paired model, its ablations and other methods.

Weak pairs of drives through streets of the second look. Judged on streets that no model was trained on, per domain:
FID of what is translated into it against its photographs, in the space of an ImageNet MobileNetV2, which has seen no
street of the town, and the distance of SIFT descriptors to a photograph of the same place. Beside it, retrieval:
queries of six conditions are translated into the seventh, the map's, or left as they are, or both get CLAHE. The value
is the mean over seeds of the full model's mean FID over that of untouched images.

Every training takes ``GLOAM_TOWN_WEATHER_MINUTES`` of processor time (20), on one thread. A folder named by
``GLOAM_BENCH_RUNS`` keeps what is done, and the same command carries on; ``GLOAM_BENCH_ONLY`` names models, separated
by commas, to run those alone, for example ``weakly_paired:0`` (model and seed).
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.shared.night_scores import Job, judging_space, train_all
from benchmarks.shared.result import KEPT, Result
from gloam.data.images import decode_image
from gloam.data.town.config import WEATHER
from gloam.data.town.drives.config import DrivesConfig
from gloam.data.town.drives.write import PAIRS, TEST_PAIRS, Drives, DrivesRequest, write_drives
from gloam.data.weak_pairs.matching import angles
from gloam.data.weak_pairs.pair_file import read_pair_file
from gloam.data.weak_pairs.table import read_table
from gloam.eval.retrieval.ground_truth import GroundTruth
from gloam.eval.retrieval.scores import evaluate
from gloam.eval.translation.features import FeatureExtractor, Features
from gloam.eval.translation.frechet import frechet_distance
from gloam.eval.translation.sift import SiftDistance, pair_distance
from gloam.files import sha256_json, write_json
from gloam.runtime.models.formulas import create_classic
from gloam.runtime.models.image_model import ImageOperation
from gloam.runtime.models.translator import Translator
from gloam.training.config_changes import merge, nest
from gloam.training.translators.config import RECIPES
from gloam.training.typed_config import differences, recipe_mapping, recipes_of

Pixels = npt.NDArray[np.uint8]

ONLY, MINUTES = "GLOAM_BENCH_ONLY", "GLOAM_TOWN_WEATHER_MINUTES"
USUAL = 20.0  # minutes of the recipes
TARGET = 0.7
RECIPE, FULL = "town_weakly_paired", "weakly_paired"
SEEDS = (0, 1, 2)  # of the full models; the others have the first
# Models that are the town's recipe with the keys in which the paper's recipe differs from that of the full model.
VARIANTS = (
    "weakly_paired_no_gen_align",
    "weakly_paired_no_classify_loss",
    "weakly_paired_no_mask",
    "weakly_paired_stack_discr",
    "spade",
)
OWN = {
    "ganimation": "town_ganimation",
    "mduit": "town_mduit",
    "adain": "town_adain",
}  # models with recipes of their own
FULL_MODELS = (FULL, "mduit")
DRIVES = DrivesConfig(
    train=(101, 102, 103, 104, 105, 106), val=(201,), test=(71, 83, 97), width=128, height=96, domains=WEATHER
)
REFERENCE = "overcast"  # the map's condition
SOURCES = 30  # images of each other domain that are translated into a domain; photographs of the domain: all
PAIRED = 10  # weak pairs of each other domain for the distance of SIFT descriptors
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
class Judged:
    """What models are judged on.

    Attributes:
        images: of the test streets, by domain, in the order of their names.
        paths: of those.
        partners: for each domain, pairs of an image of another domain and of one of its own at the same place.
        positives: for each domain, for each of its images the rows of the map's images of the same place.
    """

    images: dict[str, list[Pixels]]
    paths: dict[str, list[Path]]
    partners: dict[str, list[tuple[Pixels, Pixels]]]
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
        jobs = [_job(model, minutes, drives) for model in models]
        made = train_all(jobs, folder / "runs")
        judged = read_judged(drives)
        space = judging_space(folder)
        real = {domain: space.features(images) for domain, images in judged.images.items()}
        key = [DRIVES.content_hash(), space.weights_sha256, SOURCES, PAIRED, QUERIES, REFERENCE]

        def scored(operation: Callable[[str], ImageOperation], what: str) -> dict[str, Any]:
            return _kept(folder, [*key, what], lambda: score(judged, real, space, operation))

        untouched = create_classic("none")
        assert untouched is not None
        rows = {"untouched": scored(lambda _: untouched, "untouched")}
        for job in jobs:
            translator = Translator.load(made[job.label]["onnx"])
            rows[job.label] = scored(translator.towards, made[job.label]["weights_sha256"])
        retrieval = {"CLAHE on queries and map": _kept(folder, [*key, "clahe"], lambda: _clahe(judged, space))}
        floor = _floor(drives, real, space)
    base = rows["untouched"]["mean FID"]
    for row in rows.values():
        row["mean FID over untouched"] = row["mean FID"] / base
    retrieval = {**{label: row.pop("retrieval") for label, row in rows.items()}, **retrieval}
    ratios = [rows[Model(FULL, seed).label]["mean FID over untouched"] for seed in SEEDS if Model(FULL, seed) in models]
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
            "photographs of a domain": len(next(iter(judged.images.values()))),
            "translated into a domain": f"{SOURCES} images of each other domain",
            "SIFT": f"{PAIRED} weak pairs with each other domain; the share without a distance is beside it",
            "minutes of a training": minutes,
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
    if "mduit" in skipped:
        skipped["z of mduit beside GeM"] = skipped["mduit"]
    return models, skipped


def _job(model: Model, minutes: float, drives: Drives) -> Job:
    """Its training: so many minutes, and as many epochs as are done in them where the recipe's fit into its own."""
    recipe = OWN.get(model.name, RECIPE)
    options = recipe_mapping(RECIPES, recipe)["options"]
    changes: dict[str, Any] = {}
    if model.name in VARIANTS:
        pair = (recipe_mapping(RECIPES, name)["options"] for name in (FULL, model.name))
        for name, _, value in differences(*pair):
            changes = merge(changes, nest(name, value))
        changes["generator_options"] = {**options["generator_options"], **changes.get("generator_options", {})}
        changes["discriminator_options"] = {
            **options["discriminator_options"],
            **changes.get("discriminator_options", {}),
        }
    share = minutes / USUAL
    epochs = max(round(options["epochs"] * share), 1)
    changes |= {"epochs": epochs, "decay_epochs": min(round(options["decay_epochs"] * share), epochs)}
    changes["domains"] = list(DRIVES.domains)
    data = {"day": str(drives.folder / PAIRS)}
    overrides = (("options", changes), ("data", data), ("max_minutes", minutes))
    return Job(recipe, model.seed, overrides, model.label)


def read_judged(drives: Drives) -> Judged:
    """Images, pairs and places of the test streets."""
    config = drives.config
    found = read_table(drives.positions)
    folder = drives.folder / "test"
    tables = {}
    for domain in config.domains:
        rows = np.array([row for row, path in enumerate(found[domain].paths) if path.is_relative_to(folder)], np.int64)
        tables[domain] = found[domain].part(rows, "of another part")
    images = {domain: [decode_image(path) for path in table.paths] for domain, table in tables.items()}
    decoded = {
        path: image for domain, table in tables.items() for path, image in zip(table.paths, images[domain], strict=True)
    }
    partners: dict[str, list[tuple[Pixels, Pixels]]] = {domain: [] for domain in config.domains}
    pairs = read_pair_file(drives.folder / TEST_PAIRS, domains=config.domains).pairs
    for target, source in itertools.permutations(range(len(config.domains)), 2):
        both = [(a, b) for pair in pairs for a, b in ((pair[0], pair[1]), (pair[1], pair[0]))]
        mine = [(decoded[a.item.path], decoded[b.item.path]) for a, b in both if (a.label, b.label) == (source, target)]
        partners[config.domains[target]] += _spread(mine, PAIRED)
    reference = tables[REFERENCE]
    positives = {}
    for domain, table in tables.items():
        apart = np.linalg.norm(table.centers[:, None] - reference.centers[None], axis=2)
        rows, columns = np.indices(apart.shape).reshape(2, -1)
        turns = angles(table.directions[rows], reference.directions[columns]).reshape(apart.shape)
        near = (apart <= config.distance) & (turns <= config.heading)
        positives[domain] = [np.flatnonzero(row) for row in near]
    return Judged(images, {d: list(t.paths) for d, t in tables.items()}, partners, positives)


def score(
    judged: Judged, real: dict[str, Features], space: FeatureExtractor, operation: Callable[[str], ImageOperation]
) -> dict[str, Any]:
    """A row: every domain's figures, their means, and retrieval.

    Args:
        operation: what translates into a domain.
    """
    domains: dict[str, dict[str, float | None]] = {}
    distances: list[float] = []
    for target in judged.images:
        translate = operation(target)
        sources = [
            image for other in judged.images if other != target for image in _spread(judged.images[other], SOURCES)
        ]
        fakes = space.features([translate([image])[0] for image in sources])
        pairs = [pair_distance(translate([image])[0], partner) for image, partner in judged.partners[target]]
        sift = SiftDistance.of(pairs)
        distances += [distance for distance in pairs if distance is not None]
        domains[target] = {
            "FID": frechet_distance(real[target], fakes),
            "SIFT": sift.mean if sift.undefined < 1 else None,
            "SIFT undefined": sift.undefined,
        }
    into = operation(REFERENCE)
    return {
        "domains": domains,
        "mean FID": float(np.mean([row["FID"] for row in domains.values()])),
        "mean SIFT": float(np.mean(distances)) if distances else None,  # over all pairs that have one
        "SIFT undefined": 1 - len(distances) / sum(map(len, judged.partners.values())),
        "retrieval": retrieved(judged, space, real[REFERENCE], into),
    }


def retrieved(
    judged: Judged, space: FeatureExtractor, database: Features, operation: ImageOperation
) -> dict[str, float]:
    """mAP by condition of the queries, and the mean."""
    names = [str(path) for path in judged.paths[REFERENCE]]
    found = {}
    for domain, images in judged.images.items():
        if domain == REFERENCE:
            continue
        rows = _spread(range(len(images)), QUERIES)
        queries = space.features([operation([images[row]])[0] for row in rows])
        asked = [str(judged.paths[domain][row]) for row in rows]
        truth = GroundTruth(
            tuple(names),
            tuple(asked),
            tuple(judged.positives[domain][row] for row in rows),
            tuple(np.zeros(0, np.int64) for _ in rows),
        )
        scores = evaluate(asked, _unit(queries), names, _unit(database), truth)
        found[domain] = float(scores.mAP)
    return {**found, "mean": float(np.mean(list(found.values())))}


def _clahe(judged: Judged, space: FeatureExtractor) -> dict[str, float]:
    clahe = create_classic("clahe")
    assert clahe is not None
    return retrieved(judged, space, space.features(clahe(judged.images[REFERENCE])), clahe)


def _floor(drives: Drives, real: dict[str, Features], space: FeatureExtractor) -> dict[str, float]:
    """FID that photographs of the training streets have to those of the judged: what translation at best comes to."""
    folder, found = drives.folder / "train", read_table(drives.positions)
    values = {}
    for domain, features in real.items():
        paths = _spread([path for path in found[domain].paths if path.is_relative_to(folder)], len(features))
        values[domain] = frechet_distance(features, space.features([decode_image(path) for path in paths]))
    return {**values, "mean": float(np.mean(list(values.values())))}


def over_seeds(rows: dict[str, Any], models: Sequence[Model]) -> dict[str, dict[str, Any]]:
    """Mean and standard deviation (ddof 1) over the seeds of a model."""
    found: dict[str, dict[str, Any]] = {}
    for name, group in itertools.groupby(models, lambda model: model.name):
        labels = [model.label for model in group]
        for figure in ("mean FID over untouched", "mean SIFT", "SIFT undefined"):
            values = [rows[label][figure] for label in labels if rows[label][figure] is not None]
            mean = float(np.mean(values)) if values else None
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
            found.setdefault(name, {})[figure] = {"mean": mean, "sd": spread, "seeds": len(values)}
    return found


def _spread(items: Sequence[Any], count: int) -> list[Any]:
    """At most so many, evenly chosen."""
    rows = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[row] for row in rows]


def _unit(features: Features) -> npt.NDArray[np.float32]:
    return np.asarray(features / np.linalg.norm(features, axis=1, keepdims=True), np.float32)


def _kept(folder: Path, key: list[Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A row; read where an earlier run kept it."""
    file = folder / "rows" / f"{sha256_json(key)[:16]}.json"
    if not file.is_file():
        write_json(file, make())
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found
