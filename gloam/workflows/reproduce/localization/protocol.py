"""How a benchmark is localized: retrieval by any descriptors, one fixed map for all of them, files for its server.

Paradigm 1 is the pose of the first retrieved image. 2a is the mini-map: the retrieved images alone are triangulated,
then the query is posed on them; it is the papers' definition, and not the variant of kapture-localization that
triangulates each query keypoint's track. 2b poses the query on one global map, from its matches with the retrieved
images; the map is triangulated once, from the benchmark's own pairs of map images or from neighbours by pose, and is
the same for every retrieval.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from gloam.data.localization_sets.dataset import LocalizationSet
from gloam.data.scene import Pose, Scene
from gloam.errors import DataError, UsageError
from gloam.eval.localization.benchmark import Descriptors, retrieve, run_localization
from gloam.eval.localization.fixed_map import fixed_map
from gloam.eval.localization.rig_poses import Rig, pose_rigs
from gloam.eval.localization.submission import Unlocalized
from gloam.runtime.localization.colmap import AbsolutePoseOptions, Triangulation
from gloam.runtime.localization.features.sources import FeatureSource
from gloam.runtime.localization.maps.map_pairs import choose_pairs
from gloam.runtime.localization.maps.mapping import PairMatcher
from gloam.runtime.localization.matches.pair_stage import MEMORY
from gloam.runtime.localization.matches.stored import StoredMatches
from gloam.runtime.localization.rigs import rig_frames
from gloam.runtime.models.matcher import FeatureMatcher

Within = Literal["map", "camera", "location", "camera-and-location"]
WITHIN: tuple[Within, ...] = ("map", "camera", "location", "camera-and-location")
METHODS = ("top-1", "2a", "2b")
KS = (1, 10, 20, 50)  # of kapture's benchmark
LEAST = {"top-1": 1, "2a": 2, "2b": 1}  # retrieved images that a method needs

Poses = dict[str, Pose | None]


@dataclass(frozen=True)
class Protocol:
    """What a table leaves open, and what it does not.

    Attributes:
        top_k: retrieved map images of a query in 2a and 2b.
        more_k: other numbers of retrieved images to localize with beside that, for the record.
        within: map images that are retrieved: of the whole ``map``, of the query's own ``camera`` or ``location``, or
            of both.
        unlocalized: what stands in the server's file for a query without a pose.
        rig: queries of cameras on one rig: each by itself (``off``); a camera without a pose through the rig
            (``fill``); or all by one pose of the rig (``joint``), and through the rig where that is not found.
        min_inliers: that a pose needs.
        verify_queries: see :class:`gloam.runtime.localization.maps.mapping.PairMatcher`.
        seed: of every random choice.
        workers: threads; all cores where None. Changes no result.
        memory: bytes of features and matches held at once.

    Raises:
        UsageError: a number of images below 1.
    """

    top_k: int = 20
    more_k: tuple[int, ...] = ()
    within: Within = "map"
    unlocalized: Unlocalized = "absent"
    rig: Rig = "off"
    min_inliers: int = 12
    verify_queries: bool = True
    seed: int = 0
    workers: int | None = None
    memory: int = MEMORY

    def __post_init__(self) -> None:
        if min((self.top_k, *self.more_k)) < 1:
            raise UsageError("a query needs 1 retrieved image or more")

    @property
    def labels(self) -> dict[str, tuple[str, int]]:
        """Method and number of retrieved images by the name that results have: ``top-1``, ``2a top-20``."""
        found: dict[str, tuple[str, int]] = {"top-1": ("top-1", 1)}
        for k in dict.fromkeys((self.top_k, *sorted(self.more_k))):
            found |= {f"{method} top-{k}": (method, k) for method in METHODS[1:] if k >= LEAST[method]}
        return found


def retrieve_within(
    benchmark: LocalizationSet, query: Scene, names: Sequence[str], descriptors: Descriptors, k: int, within: Within
) -> dict[str, list[str]]:
    """The k map images nearest by cosine to each query, best first, of those that it may be compared with.

    Args:
        benchmark: whose map it is.
        query: the scene of the queries.
        names: of queries.
        descriptors: of queries and map images.
        k: images; fewer where no more are allowed.
        within: which map images these are.

    Raises:
        UsageError: by location, where the benchmark has none.
        DataError: an image without descriptor.
    """
    by_camera, by_place = "camera" in within, "location" in within
    if by_place and not benchmark.locations:
        raise UsageError(f"{benchmark.name} at {benchmark.root} is not cut into locations; retrieve within the map")

    def group(scene: Scene, name: str) -> tuple[str, str]:
        camera = scene.records[name].camera_id if by_camera else ""
        return camera, benchmark.locations.get(name, "") if by_place else ""

    members: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in benchmark.mapping.names:
        members[group(benchmark.mapping, name)].append(name)
    asked: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in names:
        asked[group(query, name)].append(name)
    found: dict[str, list[str]] = {name: [] for name in names}
    for key, queries in asked.items():
        if members[key]:
            found |= retrieve(descriptors, descriptors, queries, members[key], k)
    return found


class SetLocalizer:
    """A benchmark with its local features, opened once for all retrievals.

    Args:
        benchmark: the map and its queries.
        source, rule: local features, and by what they are matched.
        protocol: how.
        workspace: folder of what is kept: features, matches, the map, poses.
        query: other images than the benchmark's queries, for a check without its server.
    """

    def __init__(
        self,
        benchmark: LocalizationSet,
        source: FeatureSource,
        rule: FeatureMatcher | StoredMatches,
        protocol: Protocol,
        workspace: Path,
        query: Scene | None = None,
    ) -> None:
        self.benchmark, self.protocol = benchmark, protocol
        self.query = benchmark.query if query is None else query
        self._source, self._rule, self._workspace = source, rule, workspace

    @cached_property
    def world(self) -> tuple[Triangulation, str]:
        """The map of 2b, and from which pairs it is; made or read when it is first asked for.

        Raises:
            DataError: nothing can be triangulated.
        """
        given = self.benchmark.map_pairs
        pairs, how = choose_pairs(given, self.benchmark.mapping)
        if given is not None:
            how = "the benchmark's own list of them"
        with self._pool() as pool:
            made = fixed_map(self._matcher, pairs, pool)
        return made, f"{len(made.points)} points from {len(pairs)} pairs by {how}, {made.mean_error:.2f} px"

    @property
    def names(self) -> list[str]:
        """Queries to localize: those that are scored, and with a rig in use the other cameras' of the same times."""
        cameras = self.benchmark.scored
        scored = [name for name in self.query.names if cameras is None or self.query.records[name].camera_id in cameras]
        if self.protocol.rig == "off":
            return scored
        chosen = set(scored)
        beside = (names for names in rig_frames(self.query, self.benchmark.rig) if chosen.intersection(names))
        return sorted(chosen.union(*beside))

    def poses(self, label: str, retrieved: Mapping[str, Sequence[str]]) -> Poses:
        """Poses of queries by one method, None where a query was not localized.

        Args:
            label: of :attr:`Protocol.labels`.
            retrieved: map images by query, best first; the method takes as many as it is named for.

        Raises:
            DataError: a file or pose that is needed is not there.
        """
        method, k = self.protocol.labels[label]
        chosen = {name: list(images[:k]) for name, images in retrieved.items()}
        if method == "top-1":
            return {name: self._first(images) for name, images in chosen.items()}
        options = self.protocol
        # Of one image no mini-map can be made, and no map image at all gives no pose.
        able = {name: images for name, images in chosen.items() if len(images) >= LEAST[method]}
        world = self.world if method == "2b" else None
        found = run_localization(
            self.benchmark.mapping,
            self.query,
            able,
            self._source,
            (method,),
            world=world,
            workspace=self._workspace,
            workers=options.workers,
            rule=self._rule,
            verify_queries=options.verify_queries,
            options=self._options,
            seed=options.seed,
            memory=options.memory,
        )
        poses = {name: found.poses[method].get(name) for name in chosen}
        made = None if world is None else world[0]
        inliers, mounts = found.inliers[method], self.benchmark.rig
        with self._pool() as pool:
            return pose_rigs(options.rig, self._matcher, mounts, poses, inliers, able, made, self._options, pool)

    @cached_property
    def _matcher(self) -> PairMatcher:
        options = self.protocol
        return PairMatcher(
            self._source,
            self.benchmark.mapping,
            self.query,
            self._workspace,
            self._rule,
            options.seed,
            options.verify_queries,
            options.memory,
        )

    @property
    def _options(self) -> AbsolutePoseOptions:
        return AbsolutePoseOptions(min_inliers=self.protocol.min_inliers)

    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.protocol.workers or len(os.sched_getaffinity(0)), "localize")

    def _first(self, images: Sequence[str]) -> Pose | None:
        if not images:
            return None
        pose = self.benchmark.mapping.poses.get(images[0])
        if pose is None:
            raise DataError(f"{self.benchmark.mapping.root}: retrieved image {images[0]!r} has no pose")
        return pose
