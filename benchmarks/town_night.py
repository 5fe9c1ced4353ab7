"""Does training with made nights help to recognise streets by night? Dark Side Augmentation in miniature.

An ImageNet MobileNetV2 with GeM is fine-tuned on days of some streets, with nothing, Lab inversion, or a generator
that this very run trains on other streets as the maker of nights, and judged on streets that none of them has seen. All
streets are of the second look. Every choice was made on streets 301 and 302, among shares, anchors, makers and their
options; the streets that judge were named before anything was trained for them. Beside it are makers of night among
seven conditions, the weakly-paired one and MDUIT, of six minutes each, as [town_weather] trains them.

The value is the night-to-day mAP that the chosen row gains over the better of days alone and days with CLAHE, mean over
the seeds; the intervals resample places.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.shared import night_gains
from benchmarks.shared.night_retrieval import (
    CHOSEN,
    CLAHE,
    DAYS,
    IMAGENET,
    TRANSLATED,
    Job,
    Row,
    chosen_nights,
    describe,
    save_set,
    score,
    table_rows,
    train_rows,
    untrained,
)
from benchmarks.shared.night_scores import LOOK, second_look, train_all
from benchmarks.shared.night_scores import Job as GeneratorJob
from benchmarks.shared.result import KEPT, Result
from benchmarks.town_weather import DRIVES, FULL_MODELS, NOISE, USUAL, Model, weather_job
from gloam.data.retrieval_sets.sets import RetrievalSet
from gloam.data.retrieval_sets.streets import read_town
from gloam.data.town.drives.write import DrivesRequest, write_drives
from gloam.model_card import Photometric
from gloam.networks.checkpoints import load_checkpoint
from gloam.runtime.models.image_model import ImageOperation
from gloam.training.embedders.nights import open_night_maker

SEEDS = (0, 1, 2)
TRAINED = (111, 112, 113, 114, 115, 116)  # streets of the embedder; the generator's are its recipe's, 101 to 106
VALIDATED = (201,)
JUDGED = (74, 86, 99)
GENERATOR, WITH_WAY_BACK = "town_cut", "town_cyclegan"
COMMON = replace(
    IMAGENET, epochs=3, tuples=120, learning_rate=1e-4, negative_pool=2000, anchor_pool=480, validate_every=3
)
NIGHT = "night"
WEATHERED = {f"{CHOSEN}, {name}": Model(name, SEEDS[0]) for name in FULL_MODELS}
LONGEST = 100.0  # minutes of processor time, all in all


def run() -> Result:
    """Train the generator, then every row with every seed; score."""
    began = time.process_time()
    with tempfile.TemporaryDirectory(prefix="gloam-night-") as temporary:
        folder = Path(temporary)
        one, other = (GeneratorJob(name, 0, second_look(name, JUDGED)) for name in (GENERATOR, WITH_WAY_BACK))
        kept = Path(os.environ.get(KEPT) or folder) / "town_weather"
        drives = write_drives(DrivesRequest(kept / "drives", DRIVES, workers=1))
        several = {label: weather_job(model, USUAL, drives) for label, model in WEATHERED.items()}
        generators = train_all([one, other, *several.values()], folder)
        back = open_night_maker(generators[other.label]["files"]["night2day"])
        rows = table_rows(generators[one.label]["files"]["day2night"])
        rows.append(Row(f"{CHOSEN}, CycleGAN", chosen_nights(), generators[other.label]["files"]["day2night"]))
        for label, job in several.items():
            maker = generators[job.label]["files"]["translator"]
            rows.append(Row(label, chosen_nights(), maker, NIGHT, NOISE))
        train, validation = (save_set(found, folder / f"{name}.npz") for name, found in day_sets().items())
        jobs = [
            Job(row, seed, COMMON, train, validation, folder / "runs", folder / "nights")
            for seed in SEEDS
            for row in rows
        ]
        trained = train_rows(jobs)
        judged = judged_set()
        assert judged.pixels is not None
        found: dict[str, dict[str, list[night_gains.ByQuery]]] = {}
        chance = 0.0
        nights = [row for row, condition in enumerate(judged.conditions or ()) if condition == "night"]

        def judge(label: str, model: Any, photometric: str, translate: dict[int, ImageOperation] | None = None) -> None:
            nonlocal chance
            normalised = Photometric("clahe", clip=COMMON.clahe_clip) if photometric == "clahe" else Photometric()
            scores = score(judged, describe(model, judged.pixels or (), normalised, translate))
            for name, item in scores.items():
                found.setdefault(label, {}).setdefault(name, []).append(item.per_query)
            chance = scores[night_gains.NIGHT].chance_mAP

        judge("ImageNet", untrained(), "none")
        judge("ImageNet, CLAHE", untrained(), "clahe")
        for job, (weights, _) in zip(jobs, trained, strict=True):
            model = load_checkpoint(weights).model
            judge(job.row.label, model, job.row.changes.get("photometric", COMMON.photometric))
            if job.row.label == CLAHE:
                judge(TRANSLATED, model, "clahe", dict.fromkeys(nights, back))
    cpu = (time.process_time() - began) / 60 + sum(item["cpu minutes"] for item in generators.values())
    cpu += sum(cost["cpu minutes"] for _, cost in trained)
    place_of = dict(zip(judged.names, map(str, judged.clusters), strict=True))
    control = night_gains.strongest(found, (DAYS, CLAHE))
    made_rows = [row.label for row in rows if row.maker]
    gains = night_gains.gains(found, made_rows, control, place_of.__getitem__)
    spread = night_gains.pooled_spread(found, CHOSEN, control)
    value, day = (gains[CHOSEN][name]["mean"] for name in (night_gains.NIGHT, night_gains.DAY))
    detail = {
        "mAP": night_gains.table(found, place_of.__getitem__),
        "chance mAP, night>day": chance,
        "chosen": CHOSEN,
        "control": control,
        "gains over the control": gains,
        "pooled spread over seeds": spread,
        "cpu minutes in all": cpu,
        "cpu minutes allowed": LONGEST,
        "generators": {
            label: {key: item[key] for key in ("steps", "of", "cpu minutes")} for label, item in generators.items()
        },
        "tuples of each run": trained[0][1]["tuples"],
        "common": asdict(COMMON) | {"data": None},
        "images": {
            "streets": list(JUDGED),
            "queries by night": len(nights),
            "all": len(judged),
            "look": LOOK,
            "size": "128x96",
        },
    }
    target = "gain >= twice the pooled spread over seeds, day loss <= 0.01"
    return Result(value, "mAP gained, night to day", target, value >= 2 * spread and day >= -0.01, detail)


def day_sets() -> dict[str, RetrievalSet]:
    """What the embedders are trained and validated on."""
    return {
        "train": read_town(seeds=TRAINED, places=16, views_per_place=5, look=LOOK),
        "validation": read_town(seeds=VALIDATED, places=12, views_per_place=3, look=LOOK),
    }


def judged_set() -> RetrievalSet:
    """What they are judged on."""
    return read_town(seeds=JUDGED, places=24, views_per_place=6, conditions=("day", "night"), look=LOOK)
