"""Does a search know when it does not know? The probability that its first image is right, by night, on new towns.

Towns of the second look: the calibration is learned on :data:`DEVELOPED`, which were looked at while it was made, by
day, at dusk, by night and in night rain; it is judged on :data:`HELD_OUT`, whose seeds were stated before anything of
them was looked at, and on photographs of webcams by night, for which there is no bound. Images are found by the demo's
embedder, :data:`K` of them are put in the order of their verified matches, and the first is right where the ground
truth says so; where it calls it junk, the query is left out. Local features are XFeat's where the data packs have its
weights, else SIFT's on CLAHE pictures; ALIKED's take several times as long.

Beside every error stands that of a perfectly calibrated model on as many queries, by simulation; beside the coverage,
that of the best single score, each by a threshold chosen with the outcomes in hand. And what is said of the same
queries where every image that is right, or junk, is taken out of what was found: there nothing is right.

It takes about half an hour of a core, most of it to render towns and to verify pairs. ``GLOAM_BENCH_RUNS`` names a
folder that keeps towns, features and matches, and the same command carries on.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shared.matching_models import extractor_of
from benchmarks.shared.result import KEPT, Result, data_pack
from gloam.data.images import stored_size
from gloam.data.scene import Camera, Record, Scene
from gloam.data.sources import find_images
from gloam.data.town import TownConfig, write_town
from gloam.errors import DataError
from gloam.eval.retrieval.calibration import CalibrationScores
from gloam.eval.retrieval.ground_truth import GroundTruth, read_ground_truth
from gloam.eval.retrieval.judged import JudgedSearch, judge, score_search
from gloam.heartbeat import progress_bar
from gloam.model_card import InputRule, Photometric
from gloam.runtime.bulk.extract import ExtractOptions, extract
from gloam.runtime.descriptors.source import DescriptorArray, DescriptorSource
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.localization.colmap import solver_version
from gloam.runtime.localization.features.sources import FeatureSource, ModelFeatures, SiftFeatures
from gloam.runtime.localization.maps.mapping import PairMatcher
from gloam.runtime.localization.matches.mutual import MutualMatcher
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.models.local_features import LocalExtractor
from gloam.runtime.search.calibration import Calibration
from gloam.runtime.search.pairs import retrieve_pairs
from gloam.runtime.search.verified import Found, MatchKind, rerank
from gloam.training.calibration import fit_calibration
from gloam.workflows.demo_embedder import SHIPPED

DEVELOPED, HELD_OUT = (7, 61), (403, 409)
LOOK = 2
# Of a town: queries of a condition, and the conditions.
ROADS = {
    **dict.fromkeys(DEVELOPED, (60, ("day", "dusk", "night", "night-rain"))),
    **dict.fromkeys(HELD_OUT, (200, ("night",))),
}
LIMIT, PRECISION = 0.05, 0.95
K = 10  # images of a query that are verified
EXTRACTOR, KEYPOINTS = "XFeat", 1024
SIDE = 512  # pixels of the longer side at which features are found: the town's pictures as they are
RATIO = 0.85  # of Lowe's test for SIFT
WORKERS = 2
PACK, SET = "amos_daynight", "night2day"
STEP = 3  # every third night photograph of the webcams is a query: frames of one camera are near copies
FOCAL = 1.2  # of a webcam, in longer sides, as COLMAP guesses


@dataclass(frozen=True)
class Features:
    """Local features and their matching, one kind for towns and photographs.

    Attributes:
        name: in words.
        source: of pictures whose intrinsics count the first pixel's centre at .5.
        rule: matching; kind: as the calibration states it.
    """

    name: str
    source: FeatureSource
    rule: MutualMatcher
    kind: MatchKind


def run() -> Result:
    """Learn on the towns that were looked at, judge on the others; the value is of the nights of all held-out towns."""
    with _folder() as folder:
        features = _features(folder)
        space = Embedder.load(SHIPPED[LOOK]["trained"]).space
        searches: dict[int, JudgedSearch] = {}
        without: dict[int, JudgedSearch] = {}
        for seed in (*DEVELOPED, *HELD_OUT):
            searches[seed], without[seed] = _town(folder, seed, features)
        learned = _fit([searches[seed] for seed in DEVELOPED], space, features)
        towns = {str(seed): score_search(learned, searches[seed])["night"] for seed in HELD_OUT}
        nights = score_search(learned, _joined([searches[seed] for seed in HELD_OUT]))["night"]
        detail = {
            "held-out towns, nights": _said(nights),
            "each held-out town": {name: _said(scores) for name, scores in towns.items()},
            "developed, each by the others": _each_by_the_others(searches, space, features),
            "nothing right to be found": _unanswerable(learned, [without[seed] for seed in HELD_OUT]),
            "webcams by night": _webcams(folder, learned, features),
            "learned": {
                "weights": dict(zip(learned.evidence, learned.weights, strict=True)),
                "bias": learned.bias,
                **learned.provenance,
            },
            "features": features.name,
            "images a query": K,
            "seeds": {"developed": DEVELOPED, "held out, stated before": HELD_OUT},
        }
    target = f"<= {LIMIT:g}, nights of held-out towns together, 10 bins of as many queries each"
    return Result(nights.ece, "expected calibration error", target, nights.ece <= LIMIT, detail)


@contextmanager
def _folder() -> Iterator[Path]:
    kept = os.environ.get(KEPT)
    with tempfile.TemporaryDirectory(prefix="gloam-calibration-") as temporary:
        yield Path(kept) / "calibration" if kept else Path(temporary)


def _features(folder: Path) -> Features:
    try:
        extractor = extractor_of(EXTRACTOR, folder, KEYPOINTS)
    except DataError:
        sift = SiftFeatures(KEYPOINTS, pixel_shift=0.5, photometric=Photometric("clahe"))
        return _of(f"SIFT on CLAHE pictures, {KEYPOINTS} keypoints", sift, MutualMatcher(RATIO))
    assert isinstance(extractor, LocalExtractor)  # of every name but SIFT's
    extractor = LocalExtractor(extractor.session, KEYPOINTS, None, InputRule(SIDE))
    return _of(f"{EXTRACTOR}, {KEYPOINTS} keypoints", ModelFeatures(extractor, 0.5), MutualMatcher())


def _of(name: str, source: SiftFeatures | ModelFeatures, rule: MutualMatcher) -> Features:
    kind = MatchKind(source.gives.name, source.gives.dimension, rule.key, solver_version())
    return Features(name, source, rule, kind)


def _town(folder: Path, seed: int, features: Features) -> tuple[JudgedSearch, JudgedSearch]:
    """The search of a town; and the same without any image that is right or junk."""
    queries, conditions = ROADS[seed]
    config = TownConfig(seed=seed, look=LOOK, queries=queries, conditions=conditions)
    town = write_town(folder / "towns" / str(seed), config, WORKERS, progress=True)
    query, mapping = (
        _described(folder / "stores" / str(seed) / scene.root.name, scene.root) for scene in (town.query, town.mapping)
    )
    found = _verified(folder / "pairs", query, mapping, (town.mapping, town.query), features)
    truth = read_ground_truth(town.ground_truth)
    return judge(found, truth), judge(_without_right(found, truth), truth)


def _described(place: Path, root: Path) -> DescriptorStore:
    embedder = Embedder.load(SHIPPED[LOOK]["trained"])
    place = place / embedder.fingerprint[:12]
    extract(find_images(root), embedder, place, ExtractOptions(dtype="float32", shard_size=64))
    return DescriptorStore.open(place)


def _verified(
    kept: Path,
    queries: DescriptorSource,
    images: DescriptorSource,
    scenes: tuple[Scene, Scene],
    features: Features,
) -> dict[str, list[Found]]:
    """What is found for every query, in the order of its verified matches; the scenes are of map and queries."""
    results: dict[str, list[tuple[str, float]]] = {}
    for pair in retrieve_pairs(queries, images, K):
        results.setdefault(pair.query, []).append((pair.mapping, float(pair.score or 0.0)))
    pairs = [(name, image) for name, found in results.items() for image, _ in found]
    matcher = PairMatcher(features.source, *scenes, kept, features.rule)
    with (
        ThreadPoolExecutor(WORKERS) as pool,
        progress_bar(len(pairs), f"matching, {scenes[1].root}", "pairs") as bar,
    ):
        matcher.match_all(pairs, pool, bar.update)
    return rerank(results, matcher.count_verified)


def _without_right(found: Mapping[str, Sequence[Found]], truth: GroundTruth) -> dict[str, list[Found]]:
    row_of = {name: row for row, name in enumerate(truth.query_names)}
    left = {}
    for query, images in found.items():
        row = row_of[query]
        shown = {truth.map_names[image] for image in (*truth.positives[row], *truth.junk[row])}
        left[query] = [each for each in images if each.image not in shown]
    return left


def _fit(searches: Sequence[JudgedSearch], space: str, features: Features) -> Calibration:
    return fit_calibration(searches, space, K, features.kind)


def _joined(searches: Sequence[JudgedSearch]) -> JudgedSearch:
    """Queries of several towns together; those of a name are told apart by the town's number."""
    names: list[str] = []
    conditions: dict[str, list[str]] = {}
    junk: list[str] = []
    for number, search in enumerate(searches):
        names += [f"{number} {name}" for name in search.names]
        junk += [f"{number} {name}" for name in search.junk]
        for condition, members in search.conditions.items():
            conditions.setdefault(condition, []).extend(f"{number} {name}" for name in members)
    ranked = list(itertools.chain.from_iterable(search.ranked for search in searches))
    right = np.concatenate([search.right for search in searches])
    return JudgedSearch(names, ranked, right, conditions, junk)


def _each_by_the_others(searches: Mapping[int, JudgedSearch], space: str, features: Features) -> dict[str, Any]:
    found = {}
    for seed in DEVELOPED:
        own = _fit([searches[other] for other in DEVELOPED if other != seed], space, features)
        found[str(seed)] = {name: _said(scores) for name, scores in score_search(own, searches[seed]).items()}
    return found


def _unanswerable(calibration: Calibration, searches: Sequence[JudgedSearch]) -> dict[str, Any]:
    said = np.array([calibration.probability(found) for search in searches for found in search.ranked])
    return {
        "queries": len(said),
        "mean probability": float(said.mean()),
        f"share of at least {PRECISION:g}": float((said >= PRECISION).mean()),
        "share of at least 0.5": float((said >= 0.5).mean()),
    }


def _webcams(folder: Path, calibration: Calibration, features: Features) -> dict[str, Any]:
    """Night photographs of webcams against those by day; each camera is a place."""
    try:
        pack = data_pack(PACK)
    except DataError as error:
        return {"not judged": str(error)}
    truth = read_ground_truth(pack / "retrieval_gnd.json", SET)
    store = _described(folder / "stores" / PACK, pack / "images")
    rows = dict(zip((f"images/{name}" for name in store.names), store.load(), strict=True))
    nights = truth.query_names[::STEP]
    query, images = (
        DescriptorArray(list(names), np.stack([rows[name] for name in names]), store.space)
        for names in (nights, truth.map_names)
    )
    scenes = (_webcam_scene(pack, truth.map_names), _webcam_scene(pack, nights))
    found = _verified(folder / "pairs", query, images, scenes, features)
    nowhere = judge(_without_right(found, truth), truth)
    return {
        "night": _said(score_search(calibration, judge(found, truth))["all"]),
        "nothing right to be found": _unanswerable(calibration, [nowhere]),
        "cameras": len({name.split("/")[1] for name in nights}),
    }


def _webcam_scene(pack: Path, names: Sequence[str]) -> Scene:
    """Photographs with a camera that is guessed, as nobody knows it."""
    cameras, records = {}, {}
    for row, name in enumerate(names):
        width, height = stored_size(pack / name)
        which = f"{width}x{height}"
        params = (FOCAL * max(width, height), width / 2, height / 2)
        cameras[which], records[name] = Camera("SIMPLE_PINHOLE", width, height, params), Record(which, row)
    return Scene(pack, cameras, records, images=pack)


def _said(scores: CalibrationScores) -> dict[str, Any]:
    """JSON-ready, with the best single score named."""
    name, coverage = scores.best_single
    return {**scores.to_dict(), "best single score": {name: coverage}}
