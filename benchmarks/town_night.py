"""Does training with made nights help to recognise streets by night? Dark Side Augmentation in miniature.

An ImageNet MobileNetV2 with GeM is fine-tuned on days of some streets, with nothing, Lab inversion, or a generator
that this very run trains on other streets as the maker of nights, and judged on streets that none of them has seen. All
streets are of the second look; the generator's recipe was chosen on the first. Beside it are makers of night among
seven conditions, the weakly-paired one and MDUIT, of twenty minutes each, as [town_weather] trains them. The value is
the night-to-day mAP that made nights (25 %, random anchors) gain over days with CLAHE, mean over the seeds.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shared.night_retrieval import (
    CLAHE,
    DAYS,
    IMAGENET,
    MADE,
    TRANSLATED,
    Job,
    Row,
    describe,
    made_nights,
    pooled_deviation,
    save_set,
    score,
    table_rows,
    train_rows,
    untrained,
)
from benchmarks.shared.night_scores import Job as GeneratorJob
from benchmarks.shared.night_scores import train_all
from benchmarks.shared.result import KEPT, Result
from benchmarks.town_weather import DRIVES, FULL_MODELS, USUAL, Model, weather_job
from gloam.data.retrieval_sets.sets import RetrievalSet
from gloam.data.retrieval_sets.streets import read_town
from gloam.data.town.drives.write import DrivesRequest, write_drives
from gloam.model_card import Photometric
from gloam.networks.checkpoints import load_checkpoint
from gloam.runtime.models.image_model import ImageOperation
from gloam.training.embedders.nights import open_night_maker

SEEDS = (0, 1, 2)
LOOK = 2
TRAINED = (111, 112, 113, 114, 115, 116)  # streets of the embedder; the generator's are its recipe's, 101 to 106
VALIDATED = (201,)
JUDGED = (71, 83, 97)  # all choices were made on 301 and 302
GENERATOR = "town_cyclegan"  # the one whose run gives the way back too
COMMON = replace(
    IMAGENET, epochs=3, tuples=120, learning_rate=1e-4, negative_pool=2000, anchor_pool=480, validate_every=3
)
NIGHT = "night"
WEATHERED = {f"made nights 25 %, {name}": Model(name, SEEDS[0]) for name in FULL_MODELS}
LONGEST = 100.0  # minutes of processor time, all in all


def run() -> Result:
    """Train the generator, then every row with every seed; score."""
    began = time.process_time()
    with tempfile.TemporaryDirectory(prefix="gloam-night-") as temporary:
        folder = Path(temporary)
        one = GeneratorJob(GENERATOR, 0, (("data", {"reserved_seeds": list(JUDGED), "look": LOOK}),))
        kept = Path(os.environ.get(KEPT) or folder) / "town_weather"
        drives = write_drives(DrivesRequest(kept / "drives", DRIVES, workers=1))
        several = {label: weather_job(model, USUAL, drives) for label, model in WEATHERED.items()}
        generators = train_all([one, *several.values()], folder)
        made = generators[one.label]
        to_night, to_day = made["files"]["day2night"], made["files"]["night2day"]
        rows = table_rows(to_night)
        for label, job in several.items():
            maker = generators[job.label]["files"]["translator"]
            rows.append(Row(label, made_nights(0.25), maker, NIGHT))
        train, validation = (save_set(found, folder / f"{name}.npz") for name, found in day_sets().items())
        jobs = [
            Job(row, seed, COMMON, train, validation, folder / "runs", folder / "nights")
            for seed in SEEDS
            for row in rows
        ]
        trained = train_rows(jobs)
        judged = judged_set()
        assert judged.pixels is not None
        scores: dict[str, dict[str, list[float]]] = {}
        chance = 0.0
        back = open_night_maker(to_day)
        nights = [row for row, condition in enumerate(judged.conditions or ()) if condition == "night"]

        def judge(label: str, model: Any, photometric: str, translate: dict[int, ImageOperation] | None = None) -> None:
            nonlocal chance
            normalised = Photometric("clahe", clip=COMMON.clahe_clip) if photometric == "clahe" else Photometric()
            found = score(judged, describe(model, judged.pixels or (), normalised, translate))
            for name, item in found.items():
                scores.setdefault(label, {}).setdefault(name, []).append(item.mAP)
            chance = found["night>day"].chance_mAP

        judge("ImageNet", untrained(), "none")
        judge("ImageNet, CLAHE", untrained(), "clahe")
        for job, (weights, _) in zip(jobs, trained, strict=True):
            model = load_checkpoint(weights).model
            judge(job.row.label, model, job.row.changes.get("photometric", COMMON.photometric))
            if job.row.label == CLAHE:
                judge(TRANSLATED, model, "clahe", dict.fromkeys(nights, back))
    cpu = (time.process_time() - began) / 60 + sum(item["cpu minutes"] for item in generators.values())
    cpu += sum(cost["cpu minutes"] for _, cost in trained)
    gain, loss = (np.array(scores[MADE][name]) - np.array(scores[CLAHE][name]) for name in ("night>day", "day>day"))
    spread = pooled_deviation([scores[CLAHE]["night>day"], scores[MADE]["night>day"]])
    value = float(gain.mean())
    met = value >= 2 * spread and float(-loss.mean()) <= 0.01
    detail = {
        "mAP": {
            label: {
                name: {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None}
                | {"by seed": values}
                for name, values in row.items()
            }
            for label, row in scores.items()
        },
        "chance mAP, night>day": chance,
        "gain by seed": gain.tolist(),
        "gain over days alone by seed": (
            np.array(scores[MADE]["night>day"]) - np.array(scores[DAYS]["night>day"])
        ).tolist(),
        "pooled spread over seeds": spread,
        "day>day change": float(loss.mean()),
        "cpu minutes in all": cpu,
        "cpu minutes allowed": LONGEST,
        "generator": {"recipe": GENERATOR} | {key: made[key] for key in ("steps", "of", "cpu minutes")},
        "generators of seven conditions": {
            label: {key: generators[job.label][key] for key in ("steps", "of", "cpu minutes")}
            for label, job in several.items()
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
    return Result(value, "mAP gained, night to day", target, met, detail)


def day_sets() -> dict[str, RetrievalSet]:
    """What the embedders are trained and validated on."""
    return {
        "train": read_town(seeds=TRAINED, places=16, views_per_place=5, look=LOOK),
        "validation": read_town(seeds=VALIDATED, places=12, views_per_place=3, look=LOOK),
    }


def judged_set() -> RetrievalSet:
    """What they are judged on."""
    return read_town(seeds=JUDGED, places=24, views_per_place=6, conditions=("day", "night"), look=LOOK)
