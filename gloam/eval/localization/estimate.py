"""What localization will take, from a few images, pairs and queries that are timed on this machine."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from gloam.data.scene import Scene
from gloam.errors import DataError
from gloam.eval.localization.approximation import METHODS as APPROXIMATIONS
from gloam.runtime.localization.colmap import AbsolutePoseOptions, Triangulation
from gloam.runtime.localization.estimate import BLOCK, Estimate, blocks, peak, reads, timed_in
from gloam.runtime.localization.features.sources import FeatureSource, to_arrays
from gloam.runtime.localization.maps.colmap_model import ColmapModel
from gloam.runtime.localization.maps.map_pairs import MapPairs, choose_pairs
from gloam.runtime.localization.maps.mapping import PairMatcher, build_map, own_points
from gloam.runtime.localization.matches.pair_stage import MEMORY, Pair, nbytes
from gloam.runtime.localization.matches.stored import StoredMatches
from gloam.runtime.localization.pose import localize_locally, localize_on_map
from gloam.runtime.models.matcher import FeatureMatcher

IMAGES = 24  # at most, that are timed
SECONDS = 20.0  # after which no further images are begun
PART = 6.0  # seconds of any other part
KEYPOINT = 60  # bytes of a map's keypoint in COLMAP's own memory, roughly
MATCH = 16  # of a match


def estimate_localization(
    mapping: Scene,
    query: Scene,
    retrieved: Mapping[str, Sequence[str]],
    source: FeatureSource,
    methods: Sequence[str],
    *,
    map_pairs: MapPairs | Sequence[Pair] | None,
    model: ColmapModel | None,
    workers: int | None,
    rule: FeatureMatcher | StoredMatches,
    verify_queries: bool,
    options: AbsolutePoseOptions,
    seed: int,
    memory: int,
    since: float,
) -> Estimate:
    """What :func:`gloam.eval.localization.benchmark.run_localization` will take; nothing is left of the trial.

    Args:
        since: when all this was begun to be opened, as :func:`time.perf_counter` has it.

    Raises:
        as :func:`gloam.eval.localization.benchmark.run_localization`, whose other arguments these are.
    """
    wanted = sorted({_ordered(name, other) for name, others in retrieved.items() for other in others})
    solved = [method for method in methods if method not in APPROXIMATIONS]
    of_map: list[Pair] = []
    if "2b" in methods and not (
        model is not None
        and map_pairs in (None, MapPairs())
        and own_points(PairMatcher(source, mapping, query), model) is not None
    ):
        of_map = sorted({_ordered(*pair) for pair in choose_pairs(map_pairs, mapping, model)[0] if pair[0] != pair[1]})
    opened = time.perf_counter() - since
    every = sorted({*wanted, *of_map})
    images = sorted({name for pair in every for name in pair})
    if not solved or not images:
        return Estimate(len(images), len(every), opened, 0, peak(), 0, {"opening": opened})
    with (
        TemporaryDirectory(prefix="gloam-estimate-") as temporary,
        ThreadPoolExecutor(workers or len(os.sched_getaffinity(0)), "estimate") as pool,
    ):
        folder = Path(temporary)
        matcher = PairMatcher(source, mapping, query, folder, rule, seed, verify_queries, MEMORY)
        few = list(itertools.islice(_telling(retrieved), IMAGES))
        matcher.find(few[0])  # what is done once: a session's first run
        find, count = timed_in(lambda part: list(pool.map(matcher.find, part)), few[1:], 2, SECONDS)
        few = few[: count + 1]
        matcher.forget()
        read, _ = timed_in(lambda part: list(pool.map(matcher.features, part)), few, len(few), PART)
        known = set(few)
        own = [pair for pair in of_map if known.issuperset(pair)]
        own = own or [_ordered(*pair) for pair in itertools.combinations(sorted(known & mapping.records.keys()), 2)]
        asked = [pair for pair in wanted if known.issuperset(pair)]
        matcher.match_all(asked[:1], pool)
        of_query, _ = timed_in(lambda part: matcher.match_all(part, pool), asked[1:] or asked, 4 * matcher.batch, PART)
        of_pair, timed = (
            timed_in(lambda part: matcher.match_all(part, pool), own, 4 * matcher.batch, PART) if own else (0, 0)
        )
        world, building = _world(matcher, own[:timed])
        queries = [name for name in few if name in query.records and retrieved.get(name)]
        parts = {
            "opening": opened,
            "features": find * len(images) + read * reads(every, memory, _mean(matcher, few), 0),
            "matching": of_query * len(wanted) + of_pair * len(of_map),
        }
        if "2b" in methods:
            parts["map"] = building * len(of_map)
        for method in solved:
            each = [name for name in queries if method == "2a" or world is not None]

            def pose(name: str, method: str = method) -> None:
                images = [other for other in retrieved[name] if other in known]
                if method == "2b" and world is not None:
                    localize_on_map(matcher, name, images, world, options)
                else:
                    localize_locally(matcher, name, images, options)

            seconds, _ = timed_in(lambda part: list(pool.map(pose, part)), each, len(each), PART) if each else (0.0, 0)
            parts[f"poses by {method}"] = seconds * len(retrieved)
        kept = {stage: list((folder / stage).rglob("*.npz")) for stage in ("features", "matches")}
        disk = (len(retrieved) + min(256, len(retrieved))) * BLOCK * len(solved)  # the poses, and their folders
        for stage, wholes in (("features", len(images)), ("matches", len(every))):
            if kept[stage]:
                disk += blocks(kept[stage]) * wholes // len(kept[stage]) + min(256, wholes) * BLOCK
        held = min(memory, _mean(matcher, few) * len(images)) - matcher.bytes
        points = sum(len(matcher.features(name)) for name in few) / len(few)
        in_map = KEYPOINT * points * len({name for pair in of_map for name in pair}) + MATCH * points / 4 * len(of_map)
        total = sum(parts.values())
        return Estimate(len(images), len(every), total, disk, round(peak() + held + in_map), len(asked) + timed, parts)


def _world(matcher: PairMatcher, pairs: Sequence[Pair]) -> tuple[Triangulation | None, float]:
    """A map of a few pairs, None where nothing can be triangulated, and the seconds of each pair."""
    clock = time.perf_counter()
    try:
        world = build_map(matcher, pairs)
    except DataError:  # too few of them
        return None, 0.0
    return world, (time.perf_counter() - clock) / len(pairs)


def _telling(retrieved: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Images, each once: queries from all over the list, each with its map images behind it."""
    names = sorted(name for name, others in retrieved.items() if others)
    spread = [names[row * len(names) // 4] for row in range(min(4, len(names)))]
    yield from dict.fromkeys(image for name in spread for image in (name, *retrieved[name][:5]))


def _mean(matcher: PairMatcher, names: Sequence[str]) -> float:
    return sum(nbytes(to_arrays(matcher.features(name))) for name in names) / len(names)


def _ordered(first: str, second: str) -> Pair:
    return min(first, second), max(first, second)
