"""Made nights on REAL photographs: an ImageNet MobileNetV2 fine-tuned on some webcams, tested on the others.

Leave-cameras-out: three folds, each with its own generator, trained on the fold's training cameras alone (and unpaired
street photographs by night). Every camera is tested once. Few cameras that never move make a sample too small to judge;
the interval resamples cameras.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.amos_retrieval import SIZE
from benchmarks.amos_translators import NO_NOISE, PHOTOGRAPHS
from benchmarks.shared.intervals import group_bootstrap
from benchmarks.shared.night_retrieval import (
    CLAHE,
    DAYS,
    IMAGENET,
    MADE,
    TRANSLATED,
    Job,
    describe,
    save_set,
    score,
    table_rows,
    train_rows,
    untrained,
)
from benchmarks.shared.night_scores import Job as GeneratorJob
from benchmarks.shared.night_scores import train_all
from benchmarks.shared.result import Result, data_pack
from gloam.data.images import decode_image
from gloam.data.retrieval_sets.pairing import pairs_within
from gloam.data.retrieval_sets.sets import RetrievalSet
from gloam.data.sources import ImageItem
from gloam.model_card import Photometric
from gloam.networks.checkpoints import load_checkpoint
from gloam.runtime.models.image_model import ImageOperation
from gloam.training.embedders.nights import open_night_maker

FOLDS = 3  # every third camera is tested
GENERATOR, GENERATOR_MINUTES = "town_cyclegan", 5.0  # of processor time
TRAINED_SIZE = (208, 160)  # width, height of fine-tuning; tested at the size of amos_retrieval
SEED = 0
COMMON = replace(
    IMAGENET, epochs=2, tuples=40, learning_rate=5e-5, negative_pool=200, anchor_pool=200, validate_every=2
)


def run() -> Result:
    """Three folds: generator, rows, test."""
    pack, streets = data_pack("amos_daynight") / "images", data_pack("night_street_unpaired") / "images"
    cameras = sorted(path.name for path in pack.iterdir() if (path / "day").is_dir() and (path / "night").is_dir())
    with tempfile.TemporaryDirectory(prefix="gloam-amos-night-") as temporary:
        folder = Path(temporary)
        folds = [[name for at, name in enumerate(cameras) if at % FOLDS == fold] for fold in range(FOLDS)]
        generators = [
            GeneratorJob(GENERATOR, fold, _data(pack, streets, [c for c in cameras if c not in tested], folder, fold))
            for fold, tested in enumerate(folds)
        ]
        made = list(train_all(generators, folder).values())
        jobs = [
            job
            for fold, tested in enumerate(folds)
            for job in _jobs(pack, [c for c in cameras if c not in tested], made[fold], folder, fold)
        ]
        weights = dict(zip([(job.folder.name, job.row.label) for job in jobs], train_rows(jobs), strict=True))
        found: dict[str, dict[str, dict[str, float]]] = {}
        for fold, tested in enumerate(folds):
            images = _read(pack, tested, SIZE, ("day", "night"))
            back = open_night_maker(made[fold]["files"]["night2day"])
            for label, values in _test(images, weights, f"fold{fold}", back).items():
                for name, by_query in values.items():
                    found.setdefault(label, {}).setdefault(name, {}).update(by_query)
    table = {label: {name: _summary(values) for name, values in row.items()} for label, row in found.items()}
    queries = sorted(found[CLAHE]["night>day"])
    gains = [found[MADE]["night>day"][name] - found[CLAHE]["night>day"][name] for name in queries]
    value = float(np.mean(gains))
    detail = {
        "mAP": table,
        "gain, 95 % over cameras": list(group_bootstrap(gains, [_camera(name) for name in queries])),
        "cameras": cameras,
        "folds": folds,
        "generators": [{key: item[key] for key in ("steps", "of", "cpu minutes")} for item in made],
        "queries": len(queries),
        "mind": "each query is searched for among the days of its own fold's cameras, three places: an easy task",
    }
    return Result(value, "mAP gained, night to day", None, None, detail)


def _jobs(pack: Path, cameras: Sequence[str], made: dict[str, Any], folder: Path, fold: int) -> list[Job]:
    train = save_set(_read(pack, cameras, TRAINED_SIZE, ("day",)), folder / f"train{fold}.npz")
    return [
        Job(row, SEED, COMMON, train, train, folder / f"fold{fold}", folder / f"nights{fold}")
        for row in table_rows(made["files"]["day2night"])
    ]


def _test(
    images: RetrievalSet, weights: dict[tuple[str, str], Any], fold: str, back: ImageOperation
) -> dict[str, dict[str, dict[str, float]]]:
    """Average precision of every query, by row and direction."""
    clahe, plain = Photometric("clahe", clip=COMMON.clahe_clip), Photometric()
    nights = [row for row, condition in enumerate(images.conditions or ()) if condition == "night"]
    variants: list[tuple[str, Any, Photometric, dict[int, ImageOperation] | None]] = [
        ("ImageNet", untrained(), plain, None),
        ("ImageNet, CLAHE", untrained(), clahe, None),
    ]
    for (name, label), (path, _) in weights.items():
        if name != fold:
            continue
        model = load_checkpoint(path).model
        variants.append((label, model, plain if label == DAYS else clahe, None))
        if label == CLAHE:
            variants.append((TRANSLATED, model, clahe, dict.fromkeys(nights, back)))
    found = {}
    for label, model, photometric, translate in variants:
        scores = score(images, describe(model, images.pixels or (), photometric, translate))
        found[label] = {name: dict(item.per_query) for name, item in scores.items()}
    return found


def _read(pack: Path, cameras: Sequence[str], size: tuple[int, int], conditions: Sequence[str]) -> RetrievalSet:
    """All photographs of some cameras; a camera is a cluster."""
    paths = [path for camera in cameras for when in conditions for path in sorted((pack / camera / when).glob("*.jpg"))]
    clusters = np.array([cameras.index(path.parts[-3]) for path in paths], np.int64)
    queries, positives = pairs_within(clusters, 2, SEED)
    return RetrievalSet(
        tuple(ImageItem("/".join(path.parts[-3:]), path) for path in paths),
        clusters,
        queries,
        positives,
        tuple(path.parts[-2] for path in paths),
        tuple(_stretched(path, size) for path in paths),
    )


def _stretched(path: Path, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.resize(decode_image(path), size, interpolation=cv2.INTER_AREA), np.uint8)


def _data(pack: Path, streets: Path, cameras: Sequence[str], folder: Path, fold: int) -> tuple[tuple[str, Any], ...]:
    """Lists of the fold's training photographs for the generator."""
    root = pack.parents[1]
    data: dict[str, Any] = {"kind": "lists", "root": str(root), "held_out_share": 0.05, **PHOTOGRAPHS}
    for when in ("day", "night"):
        paths = [path for camera in cameras for path in sorted((pack / camera / when).glob("*.jpg"))]
        if when == "night":
            paths += sorted(streets.glob("*.JPG"))
        data[when] = str(folder / f"{when}{fold}.txt")
        text = "\n".join(str(path.relative_to(root)) for path in paths) + "\n"
        Path(data[when]).write_text(text, encoding="utf-8")
    return ("data", data), ("options", NO_NOISE), ("max_minutes", GENERATOR_MINUTES)


def _summary(by_query: dict[str, float]) -> dict[str, Any]:
    names = sorted(by_query)
    values = [by_query[name] for name in names]
    return {
        "mAP": float(np.mean(values)),
        "95 % over cameras": list(group_bootstrap(values, [_camera(name) for name in names])),
        "queries": len(values),
    }


def _camera(name: str) -> str:
    return name.split("/")[0]
