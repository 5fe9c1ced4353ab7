"""What is asked of localization, and its datasets, features and matcher opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gloam.data.hloc_io import SUFFIXES as HDF5
from gloam.data.kapture_io import read_global_features, read_rig
from gloam.data.localization_sets.dataset import NameStyle
from gloam.data.pairs import read_pairs
from gloam.data.scene import Pose, Scene
from gloam.errors import DataError, UsageError
from gloam.eval.localization.benchmark import Descriptors, retrieve
from gloam.eval.localization.rerun_file import expect_recording
from gloam.eval.localization.rig_poses import Rig
from gloam.model_card import Photometric
from gloam.runtime.backends.placement import Placement
from gloam.runtime.backends.tensorrt.engine_card import is_engine
from gloam.runtime.localization.colmap import AbsolutePoseOptions
from gloam.runtime.localization.features.database import SUFFIX as DATABASE
from gloam.runtime.localization.features.database import DatabaseFeatures
from gloam.runtime.localization.features.sources import ModelFeatures, SiftFeatures, pixel_origin
from gloam.runtime.localization.features.stored import StoredFeatures, expect_matched_by, named_for, open_stored
from gloam.runtime.localization.maps.colmap_model import ColmapModel
from gloam.runtime.localization.maps.datasets import expect_images, read_map, read_queries
from gloam.runtime.localization.maps.map_pairs import RULES, MapPairs
from gloam.runtime.localization.matches.mutual import MutualMatcher
from gloam.runtime.localization.matches.pair_stage import MEMORY
from gloam.runtime.localization.matches.stored import StoredMatches
from gloam.runtime.models.matcher import FeatureMatcher, Matcher

SIFT_RATIO = 0.85  # Lowe's test
MIN_INLIERS = AbsolutePoseOptions().min_inliers

Features = SiftFeatures | ModelFeatures | StoredFeatures


@dataclass(frozen=True)
class LocalizeRequest:
    """What to localize, and how.

    Attributes:
        mapping: kapture dataset with images, intrinsics and poses, or folder of a COLMAP model, text or binary.
        query: kapture dataset with images and intrinsics, hloc's list of queries with intrinsics, or a COLMAP model.
        output: folder for poses.
        pairs: pair list query-map, hloc's or kapture's text.
        global_features: kapture global features of queries and map images.
        stores: descriptor stores of queries and map. One of these three is given.
        top_k: map images per query.
        verify: of so many retrieved map images per query, the ``top_k`` with most verified matches are taken, in that
            order; None takes the first ``top_k``.
        methods: ``top1``, ``ewb``, ``bdi``, ``csi``, ``2a``, ``2b``.
        features: ``sift``, an exported model of local features, hloc's ``.h5`` file, a COLMAP database (``.db``), a
            folder of kapture local features, or the type of those that both datasets hold.
        matcher: ``mutual`` nearest neighbours, with Lowe's test for SIFT alone; or an exported matcher of the features.
        matches: hloc's ``.h5`` file or a folder of kapture's matches of the stored features, in the place of a matcher;
            of all pairs of queries and map, and of ``map_pairs``.
        max_keypoints: SIFT and models: strongest kept per image.
        pixel_shift: SIFT: added to keypoints, pixels; 0.5 where intrinsics follow COLMAP. None for 0.5 with a COLMAP
            model or a list of queries, and 0 else.
        pixel_origin: models and hloc's file: where the intrinsics have the centre of the first pixel, 0 or 0.5. None
            for 0.5 with a COLMAP model or a list, and else as
            :func:`gloam.runtime.localization.features.sources.pixel_origin` tells, and 0, kapture's, where it cannot.
        photometric: SIFT and models: normalisation of the light, instead of the model's own.
        min_inliers: correspondences that agree with a pose, at least. It is no confidence: matches of learned features
            agree with wrong poses too.
        query_matches: ``verified`` by a two-view geometry with each map image, or ``raw``, left to the pose's own
            RANSAC over all of them; None for raw with a model's features, as hloc does, and verified with others.
        placement: where and how models run.
        images: folder of the images of a COLMAP model and of a list; ``images`` beside each where None.
        map_pairs: pairs of map images for 2b: a list, or ``exhaustive``, ``covisibility`` or ``pose``; see
            :class:`gloam.runtime.localization.maps.map_pairs.MapPairs`, also for the next three. Where none of the four
            is given, a COLMAP model's own points are used if the features are those it was made of.
        map_neighbours: of a map image.
        map_distance: of neighbours by pose, in the map's unit.
        map_angle: of neighbours by pose, degrees.
        workers: threads; all cores where None. Changes no result.
        seed: of every random choice.
        memory: bytes of features and matches that are held at once.
        ltvl_style: names in ``ltvl.txt``.
        trust: see :meth:`gloam.runtime.descriptors.store.DescriptorStore.open`.
        save_map: folder for the map of 2b with all that :class:`gloam.Localizer` needs of it; SIFT's or a model's
            features, and retrieval by ``stores``.
        match_pictures: queries to draw beside their best map image, into ``matches/`` of 2a and 2b; a number, evenly
            chosen, or ``all``.
        rerun: ``.rrd`` file for Rerun's viewer: map, poses and matches of 2b, or of 2a where that is asked for alone.
        rig: cameras of one rig, which the query dataset states: each by itself (``off``), those without a pose through
            the rig (``fill``), or all together (``joint``); see :func:`gloam.eval.localization.rig_poses.pose_rigs`.

    Raises:
        UsageError: what does not go together.
    """

    mapping: Path
    query: Path
    output: Path
    pairs: Path | None = None
    global_features: Path | None = None
    stores: Sequence[Path] | None = None
    top_k: int = 10
    verify: int | None = None
    methods: Sequence[str] = ("2b",)
    features: str = "sift"
    matcher: str = "mutual"
    matches: Path | None = None
    max_keypoints: int = 4096
    pixel_shift: float | None = None
    pixel_origin: float | None = None
    photometric: Literal["none", "clahe"] | None = None
    min_inliers: int = MIN_INLIERS
    query_matches: Literal["verified", "raw"] | None = None
    placement: Placement = field(default_factory=Placement)
    images: Path | None = None
    map_pairs: Path | str | None = None
    map_neighbours: int | None = None
    map_distance: float | None = None
    map_angle: float | None = None
    workers: int | None = None
    seed: int = 0
    memory: int = MEMORY
    ltvl_style: NameStyle = "full"
    trust: bool = False
    save_map: Path | None = None
    match_pictures: int | Literal["all"] = 0
    rerun: Path | None = None
    rig: Rig = "off"

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise UsageError("--top-k must be 1 or more")
        if self.verify is not None and self.verify < self.top_k:
            raise UsageError(f"--verify {self.verify}: the best --top-k {self.top_k} are taken of so many; give more")
        if self.workers is not None and self.workers < 0:
            raise UsageError(f"--workers {self.workers}: must be 1 or more, or 0 for all cores")
        for output in (self.output, *(other for other in (self.save_map, self.rerun) if other is not None)):
            for part in (self.mapping, self.query):
                if output.resolve().is_relative_to(part.resolve()):
                    raise UsageError(f"{output}: lies inside {part}; choose an output folder elsewhere")
        if sum(source is not None for source in (self.pairs, self.global_features, self.stores)) != 1:
            raise UsageError("give one of --pairs, --global-features and --stores: where map images come from")
        if self.pairs is not None and {"bdi", "csi"} & set(self.methods):
            raise UsageError("bdi and csi weigh by descriptors: give --global-features or --stores instead of --pairs")
        if self.rig != "off" and not {"2a", "2b"} & set(self.methods):
            raise UsageError(f"--rig {self.rig} is for methods 2a and 2b")
        if self.save_map is not None and (self.stores is None or "2b" not in self.methods):
            raise UsageError("--save-map saves the map of method 2b, and retrieves by --stores")
        if self.save_map is not None and self.verify is not None:
            raise UsageError(
                "--save-map and --verify: a localizer does not rank again what it retrieves; leave one out"
            )
        if self.save_map is not None and self.matches is not None:
            raise UsageError("--save-map and --matches: a new image has no stored matches; give --matcher")
        if self.save_map is not None and self.save_map.resolve() == self.output.resolve():
            raise UsageError(f"{self.save_map}: is the output folder; give the map a folder of its own")
        if self.rerun is not None and self.posed_by_matches is None:
            raise UsageError("--rerun shows the matches of methods 2a and 2b")
        if self.match_pictures and not {"2a", "2b"} & set(self.methods):
            raise UsageError("--match-pictures draws the matches of methods 2a and 2b")
        if self.match_pictures != "all" and self.match_pictures < 0:
            raise UsageError("--match-pictures must be 0 or more, or 'all'")
        if self.max_keypoints < 1:
            raise UsageError("--max-keypoints must be 1 or more")
        if self.matches is not None and self.matcher != "mutual":
            raise UsageError("--matches are there already; leave --matcher out")
        if self.memory < 1:
            raise UsageError("--memory must be 1 byte or more")
        if self.min_inliers < 4:
            raise UsageError("--min-inliers must be 4 or more; three points agree with some pose whatever they are")
        if self.pixel_shift and self.features != "sift":
            raise UsageError("--pixel-shift is SIFT's; a model's card states its origin, stored features are not moved")
        if self.pixel_origin is not None and self.features == "sift":
            raise UsageError("--pixel-origin is for models of local features; SIFT has --pixel-shift")
        _ = self.pairs_of_map

    @property
    def posed_by_matches(self) -> str | None:
        """The method whose matches are shown: 2b, else 2a; None without either."""
        return next((method for method in ("2b", "2a") if method in self.methods), None)

    @property
    def workspace(self) -> Path:
        """Folder of features and matches, each by what it depends on."""
        return self.output / "workspace"

    @property
    def pairs_of_map(self) -> Path | MapPairs:
        """The list of the map's pairs, or how they are chosen."""
        limits = (self.map_neighbours, self.map_distance, self.map_angle)
        for rule in RULES:
            if self.map_pairs == rule:
                return MapPairs(rule, *limits)
        if self.map_pairs is None:
            return MapPairs(None, *limits)
        if limits != (None, None, None):
            raise UsageError(
                "--map-neighbours, --map-distance and --map-angle choose pairs, and do nothing to a list of them"
            )
        return Path(self.map_pairs)


@dataclass(frozen=True)
class Work:
    """What a request asks for, opened.

    Attributes:
        mapping, query: the two datasets.
        retrieved: map images per query, best first.
        descriptors: of both, where they are known and needed after the retrieval.
        features, rule: local features, and by what they are matched.
        methods: each once.
        map_pairs: of the map: a list, or how they are chosen.
        model: that the map is of, where it is COLMAP's.
        verify_queries: see :class:`gloam.runtime.localization.maps.mapping.PairMatcher`.
        options: of the absolute pose.
        mounts: from the queries' rig to its cameras, by sensor id, where it is asked for.
    """

    mapping: Scene
    query: Scene
    retrieved: Mapping[str, Sequence[str]]
    descriptors: Descriptors | None
    features: Features
    rule: FeatureMatcher | StoredMatches
    methods: tuple[str, ...]
    map_pairs: list[tuple[str, str]] | MapPairs
    model: ColmapModel | None
    verify_queries: bool
    options: AbsolutePoseOptions
    mounts: Mapping[str, Pose] = field(default_factory=dict)


def opened(request: LocalizeRequest) -> Work:
    """Read the datasets, what is retrieved, and open features and matcher; nothing is computed yet.

    Raises:
        as :func:`gloam.eval.localization.localize.localize`.
    """
    if request.rerun is not None:
        expect_recording(request.rerun)
    mapping, model = read_map(request.mapping, request.images)
    query = read_queries(request.query, request.images)
    if request.images is not None and mapping.images is None and query.images is None:
        raise UsageError("--images is for COLMAP models and lists of queries; a kapture dataset holds its own")
    retrieved, descriptors = _retrieved(request, query, mapping)
    if request.save_map is None and not {"bdi", "csi"} & set(request.methods):
        descriptors = None  # eight kilobytes an image that nobody asks for again
    features, rule = open_matched(request, mapping, query)
    if request.save_map is not None and not isinstance(features, SiftFeatures | ModelFeatures):
        raise UsageError("--save-map needs --features sift or an exported model; a new image has no stored features")
    query_matches = request.query_matches or ("raw" if isinstance(features, ModelFeatures) else "verified")
    chosen = request.pairs_of_map
    map_pairs = chosen if isinstance(chosen, MapPairs) else [(p.query, p.mapping) for p in read_pairs(chosen)]
    return Work(
        mapping,
        query,
        retrieved,
        descriptors,
        features,
        rule,
        tuple(dict.fromkeys(request.methods)),
        map_pairs,
        model,
        query_matches == "verified",
        AbsolutePoseOptions(min_inliers=request.min_inliers),
        _mounts(request),
    )


def _mounts(request: LocalizeRequest) -> Mapping[str, Pose]:
    """The rig of the queries' cameras, where it is asked for.

    Raises:
        DataError: none is stated, or several.
    """
    if request.rig == "off":
        return {}
    mounts = read_rig(request.query)
    if not mounts:
        raise DataError(
            f"{request.query}: states no rig, or several, in sensors/rigs.txt, and --rig {request.rig} needs one; "
            "leave it out"
        )
    return mounts


def _features(request: LocalizeRequest, mapping: Scene, query: Scene) -> Features:
    """Where local features come from, by what was named."""
    light = Photometric(request.photometric) if request.photometric else None
    named = Path(request.features)
    origin = _origin(request, mapping, query)
    if request.features == "sift":
        for scene in (mapping, query):
            expect_images(scene)
        plain = SiftFeatures(request.max_keypoints, pixel_shift=origin or 0.0)
        return plain if light is None else replace(plain, photometric=light)
    stored = named.suffix in (*HDF5, DATABASE)
    if not stored and (named.is_file() or is_engine(named) or named.suffix == ".onnx"):
        for scene in (mapping, query):
            expect_images(scene)
        return ModelFeatures.load(
            named,
            [*mapping.cameras.values(), *query.cameras.values()],
            request.placement,
            max_keypoints=request.max_keypoints,
            photometric=light,
            origin=origin,
        )
    if light is not None:
        raise UsageError("--photometric is for SIFT and models; stored features are as they are")
    if request.max_keypoints != LocalizeRequest.max_keypoints:
        raise UsageError("--max-keypoints is for SIFT and models; stored features are as they are")
    if request.pixel_origin is not None and named.suffix not in HDF5:
        raise UsageError("--pixel-origin is for models and hloc's file; other features have the origin of their format")
    return open_stored(request.features, (mapping, query), origin)


def _origin(request: LocalizeRequest, mapping: Scene, query: Scene) -> float | None:
    """Where the intrinsics count from, as was asked for or the datasets' formats say.

    Raises:
        UsageError: these contradict one another.
    """
    asked = request.pixel_shift if request.features == "sift" else request.pixel_origin
    for scene in (mapping, query):
        if scene.origin is None:
            continue
        if asked not in (None, scene.origin):
            option = "--pixel-shift" if request.features == "sift" else "--pixel-origin"
            raise UsageError(
                f"{option} {asked:g}: the intrinsics of {scene.root} are COLMAP's, with the first pixel's centre at "
                f"{scene.origin:g}, which keypoints follow by themselves; leave the option out"
            )
        for other in (mapping, query):
            if other.origin is None and pixel_origin(other.cameras.values()) not in (None, scene.origin):
                raise UsageError(
                    f"the intrinsics of {scene.root} have the first pixel's centre at {scene.origin:g}, those of "
                    f"{other.root} at 0, by principal points half a pixel before the middle; give both alike"
                )
        return scene.origin
    return asked


def open_matched(
    request: LocalizeRequest, mapping: Scene, query: Scene
) -> tuple[Features, FeatureMatcher | StoredMatches]:
    """Local features of both datasets, and by what they are matched; a matcher that is not theirs is refused before any
    image is read.

    Args:
        request: its features and matcher.
        mapping, query: opened already, from wherever.
    """
    features = _features(request, mapping, query)
    if request.matches is not None:
        if isinstance(features, SiftFeatures | ModelFeatures):
            raise UsageError("--matches are of stored features; give these as --features")
        return features, StoredMatches(request.matches)
    if request.matcher == "mutual":
        oriented = isinstance(features, SiftFeatures | DatabaseFeatures)
        return features, MutualMatcher(SIFT_RATIO if oriented else None)
    matcher = Matcher.load(request.matcher, request.placement)
    expect_matched_by(matcher, features.gives, (request.matcher, request.features))
    return named_for(matcher, features), matcher


def _retrieved(
    request: LocalizeRequest, query: Scene, mapping: Scene
) -> tuple[Mapping[str, Sequence[str]], Descriptors | None]:
    """Map images per query, best first, from whichever source was given."""

    def known(names: set[str], scene: Scene, what: str) -> None:
        unknown = sorted(names - set(scene.records))
        if unknown:
            raise DataError(f"{what}: image {unknown[0]!r} is not in {scene.root}")

    count = request.verify or request.top_k
    if request.pairs is not None:
        pairs = read_pairs(request.pairs)
        known({pair.query for pair in pairs}, query, str(request.pairs))
        known({pair.mapping for pair in pairs}, mapping, str(request.pairs))
        order: Callable[[Any], float] = lambda pair: -(pair.score or 0.0)  # noqa: E731  # a stable sort keeps files
        listed: dict[str, list[str]] = {name: [] for name in query.names}
        for pair in sorted(pairs, key=order):
            listed[pair.query].append(pair.mapping)
        return {name: names[:count] for name, names in listed.items()}, None
    if request.global_features is not None:
        names, matrix, _ = read_global_features(request.global_features)
        matrix /= np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)
        descriptors = Descriptors(dict(zip(names, matrix, strict=True)))
    else:
        from gloam.runtime.descriptors.source import expect_searchable
        from gloam.runtime.descriptors.store import DescriptorStore

        assert request.stores is not None  # one of the three is given
        stores = [DescriptorStore.open(folder, trust=request.trust) for folder in request.stores]
        expect_searchable(stores[1].space, stores[0], str(request.stores[0]), stores[1].input_rule)
        descriptors = Descriptors(
            {name: row for store in stores for name, row in zip(store.names, store.load(), strict=True)}
        )
    return retrieve(descriptors, descriptors, query.names, mapping.names, count), descriptors
