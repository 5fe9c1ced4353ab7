"""Do the scores of fake nights foretell how well an embedder trained with them retrieves by night? The thesis: no.

Generators of three recipes, whole with two seeds (those of ``town_translators``) and cut short, are scored on streets
of the second look that they have not seen (FID, KID and PRD in an ImageNet MobileNetV2, FID in an embedder trained on
days), and each makes the nights of one fine-tuning. The value is Spearman's correlation of FID with night-to-day mAP;
it is not judged.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shared.night_retrieval import CLAHE, Job, Row, describe, made_nights, save_set, score, train_rows
from benchmarks.shared.night_scores import LOOK, judging_space, second_look, town_detector, train_all
from benchmarks.shared.night_scores import Job as GeneratorJob
from benchmarks.shared.result import Result
from benchmarks.town_night import COMMON, JUDGED, day_sets, judged_set
from gloam.data.town.unpaired_views import render_unpaired
from gloam.eval.translation.frechet import frechet_distance
from gloam.eval.translation.kernel import kernel_distance
from gloam.eval.translation.prd import precision_recall
from gloam.model_card import Photometric
from gloam.networks.checkpoints import load_checkpoint
from gloam.runtime.models.formulas import create_classic
from gloam.runtime.models.translator import Translator

RECIPES = ("town_cyclegan", "town_cut", "town_hedngan")
RUNS: tuple[tuple[int, float | None], ...] = ((0, None), (1, None), (0, 1.0))  # seed, minutes of processor time
FORMULAS = ("lab-inversion", "gamma")
VIEWS = 64  # of each judged street and condition


def run() -> Result:
    """Train generators, score their fakes, train an embedder with each."""
    with tempfile.TemporaryDirectory(prefix="gloam-correlation-") as temporary:
        folder = Path(temporary)
        detector = town_detector(folder)
        made: dict[str, dict[str, Any]] = {}
        for seed, minutes in RUNS:
            short: tuple[tuple[str, Any], ...] = () if minutes is None else (("max_minutes", minutes),)
            jobs = [GeneratorJob(one, seed, second_look(one, JUDGED, detector) + short) for one in RECIPES]
            length = "whole" if minutes is None else f"{minutes:g} min"
            found = train_all(jobs, folder / length)
            made |= {f"{label}, {length}": item for label, item in found.items()}
        makers = {label: item["files"]["day2night"] for label, item in made.items()}
        rows = [Row(CLAHE), *(Row(name, made_nights(0.25), name) for name in FORMULAS)]
        rows += [Row(label, made_nights(0.25), maker) for label, maker in makers.items()]
        train, validation = (save_set(found, folder / f"{name}.npz") for name, found in day_sets().items())
        jobs_of_rows = [Job(row, 0, COMMON, train, validation, folder / "runs", folder / "nights") for row in rows]
        weights = {job.row.label: found for job, (found, _) in zip(jobs_of_rows, train_rows(jobs_of_rows), strict=True)}
        judged = judged_set()
        clahe = Photometric("clahe", clip=COMMON.clahe_clip)
        table: dict[str, dict[str, float]] = {}
        for label, path in weights.items():
            descriptors = describe(load_checkpoint(path).model, judged.pixels or (), clahe)
            table[label] = {"mAP, night>day": score(judged, descriptors)["night>day"].mAP}
        views = [render_unpaired(seed, VIEWS, look=LOOK) for seed in JUDGED]
        day = [image for street in views for image in street["day"]]
        night = [image for street in views for image in street["night"]]
        space = judging_space(folder)
        embedder = load_checkpoint(weights[CLAHE]).model
        real, real_own = space.features(night), describe(embedder, night, clahe)
        operations = {label: Translator.load(item["onnx"]) for label, item in made.items()}
        for label, operation in {**operations, **{name: create_classic(name) for name in FORMULAS}}.items():
            assert operation is not None
            fakes = [operation([image])[0] for image in day]
            fake = space.features(fakes)
            recall = precision_recall(real, fake)
            table[label] |= {
                "FID": frechet_distance(real, fake),
                "KID": kernel_distance(real, fake, subset_size=len(day)).mean,
                "PRD F_8 (recall)": recall.f_recall,
                "PRD F_1/8 (precision)": recall.f_precision,
                "embedder FID": frechet_distance(
                    real_own * np.sqrt(real_own.shape[1]), describe(embedder, fakes, clahe) * np.sqrt(real_own.shape[1])
                ),
            }
    maps = [table[label]["mAP, night>day"] for label in made]
    correlations = {
        name: spearman([table[label][name] for label in made], maps)
        for name in ("FID", "KID", "PRD F_8 (recall)", "PRD F_1/8 (precision)", "embedder FID")
    }
    detail = {
        "table": table,
        "Spearman with night>day mAP over trained generators": correlations,
        "generators": len(made),
        "mind": "one fine-tuning each; with so few generators only a correlation near 1 or -1 would mean anything",
        "steps": {label: item["steps"] for label, item in made.items()},
    }
    return Result(correlations["FID"], "Spearman's correlation of FID and mAP", None, None, detail)


def spearman(one: Sequence[float], two: Sequence[float]) -> float:
    """Correlation of ranks; equal values share the mean of theirs."""
    ranks = [_ranks(np.asarray(values, np.float64)) for values in (one, two)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    below = (values[:, None] > values[None]).sum(1)
    equal = (values[:, None] == values[None]).sum(1)
    return below + (equal - 1) / 2
