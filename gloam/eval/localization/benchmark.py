"""The three paradigms of kapture's localization benchmark, run over all queries of a dataset.

1: ``top1``, ``ewb``, ``bdi``, ``csi`` interpolate the poses of retrieved images. 2a: a mini-map of the retrieved images
alone. 2b: one global map, the same for every retrieval method. Queries run in threads; a result depends on its inputs
and seed alone, so the number of workers changes nothing. With a workspace every stage is kept by content, and a run
that was killed carries on.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gloam.data.scene import Pose, Scene
from gloam.errors import DataError, UsageError
from gloam.eval.localization.approximation import METHODS as APPROXIMATIONS
from gloam.eval.localization.approximation import approximate
from gloam.eval.localization.fixed_map import fixed_map
from gloam.eval.localization.pairs_of_run import points_of_model
from gloam.files import canonical_json, read_sealed, sealed_json, sha256_json, write_bytes
from gloam.heartbeat import progress_bar
from gloam.runtime.localization.colmap import AbsolutePoseOptions, Triangulation, solver_version
from gloam.runtime.localization.features.sources import FeatureSource
from gloam.runtime.localization.maps.colmap_model import ColmapModel
from gloam.runtime.localization.maps.map_folder import nearest_images
from gloam.runtime.localization.maps.map_pairs import MapPairs, choose_pairs
from gloam.runtime.localization.maps.mapping import PairMatcher
from gloam.runtime.localization.matches.mutual import MutualMatcher
from gloam.runtime.localization.matches.pair_stage import MEMORY
from gloam.runtime.localization.matches.stored import StoredMatches
from gloam.runtime.localization.pose import Localized, localize_locally, localize_on_map
from gloam.runtime.localization.reranking import rerank
from gloam.runtime.models.matcher import FeatureMatcher

METHODS = (*APPROXIMATIONS, "2a", "2b")
ROWS = 4096  # points of a map that are written at once, to be hashed


@dataclass(frozen=True)
class Descriptors:
    """Global descriptors by image name, float32 ``[D]`` of unit length each; needed by bdi and csi."""

    by_name: Mapping[str, npt.NDArray[np.float32]]

    def of(self, name: str) -> npt.NDArray[np.float32]:
        """Descriptor of an image; a DataError where it has none."""
        if name not in self.by_name:
            raise DataError(f"image {name!r} has no global descriptor")
        return self.by_name[name]


@dataclass
class LocalizationResult:
    """Poses per method and query, None where a query was not localized; inliers, correspondences and covariances, see
    :class:`gloam.runtime.localization.pose.Localized`, for 2a and 2b; seconds per stage; what matched, 2b's map and
    where its points are from, in words; and, where retrieved images were verified, those of each query that were kept,
    with their matches."""

    poses: dict[str, dict[str, Pose | None]] = field(default_factory=dict)
    inliers: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    map_points: int = 0
    map_error: float = float("nan")
    correspondences: dict[str, dict[str, int]] = field(default_factory=dict)
    covariances: dict[str, dict[str, npt.NDArray[np.float64] | None]] = field(default_factory=dict)
    map_source: str = ""
    reranked: dict[str, list[tuple[str, int]]] | None = None
    matcher: PairMatcher | None = field(default=None, repr=False)
    world: Triangulation | None = field(default=None, repr=False)


def retrieve(
    query: Descriptors, mapping: Descriptors, names: Sequence[str], map_names: Sequence[str], k: int
) -> dict[str, list[str]]:
    """The k map images nearest by cosine to each query, itself left out; ties go to the earlier name."""
    matrix = np.stack([mapping.of(name) for name in map_names])
    return {name: nearest_images(query.of(name), matrix, map_names, k, but=name) for name in names}


def run_localization(
    mapping: Scene,
    query: Scene,
    retrieved: Mapping[str, Sequence[str]],
    source: FeatureSource,
    methods: Sequence[str] = ("2b",),
    *,
    map_pairs: MapPairs | Sequence[tuple[str, str]] | None = None,
    model: ColmapModel | None = None,
    world: tuple[Triangulation, str] | None = None,
    descriptors: Descriptors | None = None,
    workspace: str | Path | None = None,
    workers: int | None = None,
    rule: FeatureMatcher | StoredMatches = MutualMatcher(),  # noqa: B008  # frozen
    verify_queries: bool = True,
    keep_verified: int | None = None,
    options: AbsolutePoseOptions | None = None,
    seed: int = 0,
    memory: int = MEMORY,
    progress: bool = False,
) -> LocalizationResult:
    """Localize queries by one or several methods.

    Args:
        mapping: images with poses and intrinsics.
        query: images with intrinsics.
        retrieved: map images per query, best first.
        source: local features, for 2a and 2b.
        methods: of :data:`METHODS`.
        map_pairs: pairs that the global map is triangulated from, or how they are chosen; by default neighbours, so
            that the map is the same for every retrieval.
        model: that the mapping scene is of. Its points tell neighbours, and are the map's own where the features are
            the model's and no pairs are asked for.
        world: the map of 2b and where its points are from, made already, in place of one by ``map_pairs`` or ``model``.
        descriptors: of queries and map images, for bdi and csi.
        workspace: folder of kept results; None keeps nothing.
        workers: threads; all cores by default.
        rule: by which two images' features are matched: a model's, or mutual neighbours, with Lowe's test for SIFT;
            or their matches.
        verify_queries: see :class:`gloam.runtime.localization.maps.mapping.PairMatcher`.
        keep_verified: retrieved images are ordered by their verified matches with the query, most first, and this many
            are kept, see :func:`gloam.runtime.localization.reranking.rerank`; None takes them as they are.
        options: of the absolute pose.
        seed: of every random choice.
        memory: bytes of features and matches that are held at once, where there is a workspace to read them from again.
        progress: say how far it is, on stderr.

    Raises:
        UsageError: unknown method, or bdi/csi without descriptors.
        DataError: an image without pose, intrinsics, file or features.
        MissingExtraError: pycolmap is not installed, for 2a and 2b.
    """
    unknown = [method for method in methods if method not in METHODS]
    if unknown:
        raise UsageError(f"unknown method {unknown[0]!r}; choose of {', '.join(METHODS)}")
    if {"bdi", "csi"} & set(methods) and descriptors is None:
        raise UsageError("bdi and csi need global descriptors, not a pair list alone")
    missing = sorted({name for names in retrieved.values() for name in names} - set(mapping.poses))
    if missing:
        raise DataError(f"{mapping.root}: retrieved image {missing[0]!r} has no pose")
    if set(methods) - set(APPROXIMATIONS) or keep_verified is not None:
        solver_version()  # a missing solver is said before any feature is found
    folder = Path(workspace) if workspace is not None else None
    matcher = PairMatcher(source, mapping, query, folder, rule, seed, verify_queries, memory)
    result = LocalizationResult(matcher=matcher)
    names = sorted(retrieved)
    with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0)), thread_name_prefix="localize") as pool:
        if keep_verified is not None:
            clock = time.perf_counter()
            result.reranked = rerank(matcher, retrieved, keep_verified, pool)
            retrieved = {name: [image for image, _ in images] for name, images in result.reranked.items()}
            result.seconds["verify"] = time.perf_counter() - clock
        for method in methods:
            clock = time.perf_counter()
            if method in APPROXIMATIONS:
                result.poses[method] = _approximated(method, mapping, retrieved, descriptors)
            else:
                pairs = {(min(name, other), max(name, other)) for name in names for other in retrieved[name]}
                with progress_bar(len(pairs), "matching queries", "pairs", shown=progress) as bar:
                    matcher.match_all(pairs, pool, bar.update)
                if method == "2b":
                    made, result.map_source = world or _world(matcher, map_pairs, model, pool, progress)
                    result.world = made
                    result.map_points, result.map_error = len(made.points), made.mean_error
                    result.seconds["map"] = time.perf_counter() - clock
                with progress_bar(len(names), f"localizing by {method}", "queries", shown=progress) as bar:
                    found = _localized(
                        method, matcher, names, retrieved, result.world, options, folder, pool, bar.update
                    )
                result.poses[method] = {name: item.pose for name, item in found.items()}
                result.inliers[method] = {name: item.inliers for name, item in found.items()}
                result.correspondences[method] = {name: item.correspondences for name, item in found.items()}
                result.covariances[method] = {name: item.covariance for name, item in found.items()}
            result.seconds[method] = time.perf_counter() - clock
    return result


def _world(
    matcher: PairMatcher,
    map_pairs: MapPairs | Sequence[tuple[str, str]] | None,
    model: ColmapModel | None,
    pool: ThreadPoolExecutor,
    progress: bool,
) -> tuple[Triangulation, str]:
    """The global map and where its points are from."""
    if (own := points_of_model(matcher, map_pairs, model)) is not None:
        return own, "the model's own points"
    pairs, how = choose_pairs(map_pairs, matcher.mapping, model)
    return fixed_map(matcher, pairs, pool, progress=progress), f"triangulated from {len(pairs)} pairs by {how}"


def _approximated(
    method: str, mapping: Scene, retrieved: Mapping[str, Sequence[str]], descriptors: Descriptors | None
) -> dict[str, Pose | None]:
    poses: dict[str, Pose | None] = {}
    for name, images in retrieved.items():
        if not images:
            poses[name] = None
            continue
        known = [mapping.poses[image] for image in images]
        if descriptors is None:
            poses[name] = approximate(method, known, [], [])
        else:
            matrix = np.stack([descriptors.of(image) for image in images])
            poses[name] = approximate(method, known, descriptors.of(name), matrix)
    return poses


def _localized(
    method: str,
    matcher: PairMatcher,
    names: Sequence[str],
    retrieved: Mapping[str, Sequence[str]],
    world: Triangulation | None,
    options: AbsolutePoseOptions | None,
    folder: Path | None,
    pool: ThreadPoolExecutor,
    done: Callable[[], object],
) -> dict[str, Localized]:
    options = options or AbsolutePoseOptions()
    map_key = "" if world is None else key_of_map(world)

    def one(name: str) -> Localized:
        images = list(retrieved[name])
        # Two images are matched in the order of their names, which Lowe's test and the solver see.
        ahead = [row for row, image in enumerate(images) if name < image]
        key = sha256_json(
            [
                [method, solver_version(), *([] if matcher.verify_queries else ["raw"]), *([ahead] if ahead else [])],
                [matcher.key(image) for image in (name, *images)],
                images,
                map_key,
                asdict(options),
                matcher.rule_key,
                matcher.seed,
                asdict(matcher.camera(name)),
                # Matches and a mini-map depend on them; those of a map's other images are in the map's key.
                [[asdict(matcher.camera(image)), asdict(matcher.scene_of(image).poses[image])] for image in images],
            ]
        )
        path = None if folder is None else folder / "poses" / key[:2] / f"{key}.json"
        stored = _read_pose(path)
        if stored is not None:
            return stored
        if method == "2b":
            if world is None:
                raise DataError("2b needs a map")
            found = localize_on_map(matcher, name, images, world, options)
        else:
            found = localize_locally(matcher, name, images, options)
        if path is not None:
            covariance = None if found.covariance is None else found.covariance.tolist()
            write_bytes(path, sealed_json({**asdict(found), "covariance": covariance, "key": key}))
        return found

    found = {}
    for name, item in zip(names, pool.map(one, names), strict=True):
        found[name] = item
        done()
    return found


def key_of_map(world: Triangulation) -> str:
    """:func:`sha256_json` of a map's points and of what its images observe, never written as one text."""
    digest = hashlib.sha256()
    for part in _written(world):
        digest.update(part.encode())
    return digest.hexdigest()


def _written(world: Triangulation) -> Iterator[str]:
    yield "[["
    for row in range(0, len(world.points), ROWS):
        yield "," * (row > 0) + canonical_json(world.points[row : row + ROWS].tolist())[1:-1]
    yield "],["
    for number, image in enumerate(sorted(world.observed)):
        yield "," * (number > 0) + canonical_json([image, world.observed[image].tolist()])
    yield "]]"


def _read_pose(path: Path | None) -> Localized | None:
    if path is None or not path.is_file():
        return None
    try:
        value = read_sealed(path)
        pose, covariance = value["pose"], value["covariance"]
        if value["key"] != path.stem:
            return None  # under another's name
        return Localized(
            None if pose is None else Pose(tuple(pose["quaternion"]), tuple(pose["translation"])),
            value["inliers"],
            value["correspondences"],
            None if covariance is None else np.array(covariance, np.float64).reshape(6, 6),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # damaged, or by a gloam that kept less: computed again and written over
