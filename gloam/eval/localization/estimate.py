"""What localization will take, from a few images, pairs and queries that are timed on this machine."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from gloam.data.scene import Scene
from gloam.errors import DataError
from gloam.eval.localization.approximation import METHODS as APPROXIMATIONS
from gloam.eval.localization.pairs_of_run import pairs_of_run
from gloam.runtime.localization.colmap import AbsolutePoseOptions, Triangulation
from gloam.runtime.localization.estimate import BLOCK, Estimate, Item, blocks, peak, reads, timed_in
from gloam.runtime.localization.features.sources import FeatureSource, to_arrays
from gloam.runtime.localization.large_maps import LARGE
from gloam.runtime.localization.maps.colmap_model import ColmapModel
from gloam.runtime.localization.maps.map_pairs import MapPairs
from gloam.runtime.localization.maps.mapping import PairMatcher, build_map
from gloam.runtime.localization.matches.pair_stage import MEMORY, Pair, nbytes
from gloam.runtime.localization.matches.stored import StoredMatches
from gloam.runtime.localization.pose import localize_locally, localize_on_map
from gloam.runtime.models.matcher import FeatureMatcher

IMAGES = 36  # at most, that are timed
SECONDS = 20.0  # after which no further images are begun
PART = 6.0  # seconds of any other part
KEYPOINT, OBSERVED = 140, 40  # bytes of a map's keypoint, and of a match, in COLMAP's own memory, roughly
AT_ONCE = 600  # more of a keypoint, where all points are refined as one problem
IN_BLOCKS = 150e6  # more of a map, where they are not
STEEPER = 0.1  # power of the map's size, over one of a few images, that it takes beyond its share of time


@dataclass(frozen=True)
class Cost:
    """Of one image, pair or query: seconds, and those of all processors."""

    seconds: float = 0.0
    cpu: float = 0.0

    def __mul__(self, count: float) -> Cost:
        return Cost(self.seconds * count, self.cpu * count)

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.seconds + other.seconds, self.cpu + other.cpu)


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
    cpu, threads = time.process_time(), workers or len(os.sched_getaffinity(0))
    with (
        TemporaryDirectory(prefix="gloam-estimate-") as temporary,
        ThreadPoolExecutor(threads, "estimate") as pool,
    ):
        folder = Path(temporary)
        matcher = PairMatcher(source, mapping, query, folder, rule, seed, verify_queries, MEMORY)
        pairs = pairs_of_run(matcher, retrieved, methods, map_pairs, model)
        of_query, of_map, every, images = pairs.of_query, pairs.of_map, pairs.every, pairs.images
        opened = Cost(time.perf_counter() - since, time.process_time() - cpu)
        solved = [method for method in methods if method not in APPROXIMATIONS]
        if not solved or not images:
            told = {"opening": opened.seconds}
            return Estimate(len(images), len(every), opened.seconds, 0, peak(), 0, told, opened.cpu)
        few = list(itertools.islice(_telling(retrieved, of_map), IMAGES))
        matcher.find(few[0])  # what is done once: a session's first run
        find, count = _timed(lambda part: list(pool.map(matcher.find, part)), few[1:], 4 * threads, SECONDS)
        few = few[: count + 1]
        matcher.forget()
        read, _ = _timed(lambda part: list(pool.map(matcher.features, part)), few, len(few), PART)
        known = set(few)
        own = [pair for pair in of_map if known.issuperset(pair)]
        own = own or list(itertools.combinations(sorted(known & mapping.records.keys()), 2))
        asked = [pair for pair in of_query if known.issuperset(pair)]
        matcher.match_all(asked[:1], pool)
        pair_of_query, _ = _timed(lambda part: matcher.match_all(part, pool), asked[1:] or asked, 99 * threads, PART)
        pair_of_map, timed = _timed(lambda part: matcher.match_all(part, pool), own, 99 * threads, PART)
        kept = {stage: list((folder / stage).rglob("*.npz")) for stage in ("features", "matches")}
        size = _mean(matcher, few)
        parts = {
            "opening": opened,
            "features": find * len(images) + read * (reads(every, memory, size, 0) - len(images)),  # found, then held
            "matching": pair_of_query * len(of_query) + pair_of_map * len(of_map),
        }
        points = sum(len(matcher.features(name)) for name in few) / len(few)
        world, building = _world(matcher, own[:timed])
        if "2b" in methods:
            whole = len({name for pair in pairs.of_world for name in pair})
            here = len({name for pair in own[:timed] for name in pair}) or 1
            parts["map"] = building * (len(pairs.of_world) * max(whole / here, 1) ** STEEPER)
        queries = [name for name in few if name in query.records and retrieved.get(name)]
        for method in solved:
            each = [name for name in queries if method == "2a" or world is not None]
            share = _share(method, retrieved, each, known)

            def pose(name: str, method: str = method) -> None:
                images = [other for other in retrieved[name] if other in known]
                if method == "2b" and world is not None:
                    localize_on_map(matcher, name, images, world, options)
                else:
                    localize_locally(matcher, name, images, options)

            one, _ = _timed(lambda part: list(pool.map(pose, part)), each, len(each), PART)
            parts[f"poses by {method}"] = one * (len(retrieved) * share)
        disk = (len(retrieved) + min(256, len(retrieved))) * BLOCK * len(solved)  # the poses, and their folders
        for stage, wholes in (("features", len(images)), ("matches", len(every))):
            if kept[stage]:
                disk += blocks(kept[stage]) * wholes // len(kept[stage]) + min(256, wholes) * BLOCK
        disk += round(8 * points * len({name for pair in pairs.of_world for name in pair}))  # the map
        held = min(memory, size * len(images) + sum(nbytes(matcher.pair(pair)) for pair in own[:1]) * len(every))
        needed = max(held, _of_map(matcher, pairs.of_world, own[:timed], points)) - matcher.bytes
        total = sum(parts.values(), Cost())
        return Estimate(
            len(images),
            len(every),
            total.seconds,
            disk,
            round(peak() + needed),
            len(asked) + timed,
            {what: cost.seconds for what, cost in parts.items()},
            total.cpu,
        )


def _timed(
    work: Callable[[Sequence[Item]], object], items: Sequence[Item], at_once: int, seconds: float
) -> tuple[Cost, int]:
    """What :func:`gloam.runtime.localization.estimate.timed_in` says, and the processors' time; nothing of nothing."""
    if not items:
        return Cost(), 0
    before = time.process_time()
    each, count = timed_in(work, items, at_once, seconds)
    return Cost(each, (time.process_time() - before) / max(count, 1)), count


def _world(matcher: PairMatcher, pairs: Sequence[Pair]) -> tuple[Triangulation | None, Cost]:
    """A map of a few pairs, None where nothing can be triangulated, and what each pair costs beside what a map costs
    whatever its size."""
    world, costs = None, [Cost()]
    for some in (pairs[:1], pairs[:1], pairs):  # once for what is done at the first time
        clock, cpu = time.perf_counter(), time.process_time()
        try:
            with matcher.holding_nothing():
                world = build_map(matcher, some)
        except DataError:  # too few matches
            world = None
        costs.append(Cost(time.perf_counter() - clock, time.process_time() - cpu))
    *_, one, every = costs
    if world is None or len(pairs) < 2 or every.seconds <= one.seconds:
        return world, every * (world is not None) * (1 / max(len(pairs), 1))
    return world, (every + one * -1) * (1 / (len(pairs) - 1))


def _of_map(matcher: PairMatcher, pairs: Sequence[Pair], few: Sequence[Pair], points: float) -> float:
    """Bytes of COLMAP's memory for a map of pairs, from the matches of a few of them."""
    keypoints = points * len({name for pair in pairs for name in pair})
    matches = sum(len(matcher.matches(*pair)) for pair in few) / max(len(few), 1)
    refined = keypoints * AT_ONCE if keypoints < LARGE else IN_BLOCKS
    return keypoints * KEYPOINT + OBSERVED * matches * len(pairs) + refined


def _share(method: str, retrieved: Mapping[str, Sequence[str]], queries: Sequence[str], known: set[str]) -> float:
    """How many times more images, or pairs of them, a query has than those of it that are known."""

    def size(count: int) -> float:
        return count * (count - 1) / 2 if method == "2a" else count

    part = sum(size(len(known.intersection(retrieved[name]))) for name in queries)
    whole = [size(len(others)) for others in retrieved.values() if others]
    return sum(whole) / len(whole) * len(queries) / part if part else 1.0


def _telling(retrieved: Mapping[str, Sequence[str]], of_map: Sequence[Pair]) -> Iterator[str]:
    """Images, each once: queries from all over the list, each with map images of every rank behind it, then
    neighbours in the map."""
    names = sorted(name for name, others in retrieved.items() if others)
    spread = [names[row * len(names) // 4] for row in range(min(4, len(names)))]
    ranked = (
        image
        for name in spread
        for others in [retrieved[name]]
        for image in (name, *(others[row * len(others) // 5] for row in range(min(5, len(others)))))
    )
    first = [of_map[row * len(of_map) // 3][0] for row in range(min(3, len(of_map)))]
    beside = (image for name in first for pair in [p for p in of_map if p[0] == name][:4] for image in pair)
    yield from dict.fromkeys(itertools.chain(ranked, beside))


def _mean(matcher: PairMatcher, names: Sequence[str]) -> float:
    return sum(nbytes(to_arrays(matcher.features(name))) for name in names) / len(names)
