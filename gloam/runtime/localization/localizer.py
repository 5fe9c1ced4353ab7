"""Localizer: an image and its intrinsics in, a pose with its covariance out, on a map that is opened once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import Self

import numpy as np
import numpy.typing as npt

from gloam.data.images import decode_image, read_bytes
from gloam.data.kapture_text import transform_problem
from gloam.data.scene import Camera, Pose
from gloam.errors import DataError, ImageError, IncompatibleError, ModelError, UsageError
from gloam.runtime.backends.placement import Placement
from gloam.runtime.localization.colmap import expect_camera, project, verify_matches
from gloam.runtime.localization.features.sources import ModelFeatures, SiftFeatures
from gloam.runtime.localization.maps.map_folder import LocalizationMap, nearest_images, read_map
from gloam.runtime.localization.maps.mapping import Matches
from gloam.runtime.localization.matches.mutual import MutualMatcher
from gloam.runtime.localization.pose import Localized, pose_by_matches, why_not
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.models.local_features import LocalExtractor, LocalFeatures
from gloam.runtime.models.matcher import FeatureMatcher, Matcher

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class LocalizedImage(Localized):
    """What became of an image.

    Attributes:
        reason: why there is no pose; empty where there is one.
        retrieved: the map images that it was matched with, best first.
    """

    reason: str = ""
    retrieved: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class MapMatches:
    """What of an image was matched with one map image.

    Attributes:
        image: of the map.
        query, other: float32 ``[m, 2]``, pixels of the keypoints in the image and in that of the map, as stored.
        seen: bool ``[m]``, those whose keypoint in the map image has a point of the map.
        agree: bool ``[m]``, those of them whose point the pose puts where the image's keypoint is.
    """

    image: str
    query: npt.NDArray[np.float32]
    other: npt.NDArray[np.float32]
    seen: npt.NDArray[np.bool_]
    agree: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Localizer:
    """Poses of single images on a map of ``gloam localize --save-map``; may be called from many threads at once.

    The same poses as ``gloam localize`` finds, bit for bit, where models run as they did there. The map is only read.

    Attributes:
        world: the map.
        embedder: by which map images are retrieved.
        source: of local features.
        rule: by which features are matched.
    """

    world: LocalizationMap
    embedder: Embedder
    source: SiftFeatures | ModelFeatures
    rule: FeatureMatcher
    _described: BoundedSemaphore = field(init=False, repr=False)
    _matching: Lock = field(default_factory=Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        alone = self.embedder.translator is not None  # whose session may take fewer at once
        at_once = 1 if alone else self.embedder.session.backend.runs_at_once
        object.__setattr__(self, "_described", BoundedSemaphore(at_once))

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        embedder: str | Path | Embedder,
        extractor: str | Path | LocalExtractor | None = None,
        matcher: str | Path | Matcher | None = None,
        placement: Placement | None = None,
        trust: bool = False,
    ) -> Self:
        """Open a map with the models that it was made with.

        Args:
            folder: of the map.
            embedder: that described the map's images, a file or loaded; one with a translator in front may describe
                queries of a map of untranslated images.
            extractor: the map's model of local features; None where it has SIFT.
            matcher: the map's matcher; None where it has mutual neighbours.
            placement: where and how the models run that are given as files; on the CPU by default.
            trust: compare no checksums of the map, see :func:`gloam.runtime.localization.maps.map_folder.read_map`.

        Raises:
            StoreError: no map, of another schema, or damaged.
            IncompatibleError: a model that is not the map's.
            UsageError: a model is missing, or one is given that the map has no use for.
            ModelError: a model that cannot be read, or of another kind.
            MissingExtraError: pycolmap is not installed.
        """
        world = read_map(folder, trust=trust)
        return cls(
            world,
            _embedder(world, embedder, placement),
            _source(world, extractor, placement),
            _rule(world, matcher, placement),
        )

    def __call__(self, image: str | Path | bytes | Pixels, camera: Camera, name: str = "") -> LocalizedImage:
        """Localize an image.

        Args:
            image: a file or its bytes, or uint8 ``[H, W, 3]`` RGB. A file's pixels are taken as they are stored, which
                its EXIF orientation turns for the retrieval alone; an array is taken as it is for both.
            camera: intrinsics of the stored pixels.
            name: that ``gloam localize`` knows the image by, for the same pose in every bit: two images are matched in
                the order of their names, which Lowe's test and the solver see. By default the query comes first.

        Returns:
            pose (world to camera, metres), covariance float64 ``[6, 6]`` and inliers; or the reason why there is no
            pose, as in ``queries.csv``.

        Raises:
            ImageError: an image that cannot be read, or of another size than its camera's.
            DataError: intrinsics of an unknown camera model, or that none can have.
        """
        return self.with_matches(image, camera, name)[0]

    def with_matches(
        self, image: str | Path | bytes | Pixels, camera: Camera, name: str = ""
    ) -> tuple[LocalizedImage, list[MapMatches]]:
        """Localize an image, and say what it was matched with.

        Args:
            image, camera, name: as of a call.

        Returns:
            what a call returns, and the matches with every map image of it that has keypoints, ``[m, 2]`` pixels on
            either side; those with most matches that agree first.

        Raises:
            ImageError, DataError: as a call does.
        """
        expect_camera(camera)
        stored, upright = self._read(image)
        size = stored.shape[1], stored.shape[0]
        if size != (camera.width, camera.height):
            raise ImageError(
                f"{_called(image)}: the image is {size[0]}x{size[1]} but its camera is {camera.width}x{camera.height}; "
                "give the image at that size, or its own intrinsics"
            )
        card = self.world.card
        retrieved = nearest_images(
            self._describe(upright), self.world.arrays["retrieval"], self.world.names, card.top_k, name
        )
        members = [each for each in retrieved if each in self.world.mapped]
        features = self.source.extract(stored)
        matches = self._match(features, camera, members, name)
        matched = ((pairs, self.world.observed(each)) for each, pairs in zip(members, matches, strict=True))
        found = pose_by_matches(features.keypoints, matched, self.world.arrays["points"], camera, card.pose, card.seed)
        pose, reason = found.pose, ""
        if pose is not None and transform_problem(pose.quaternion, pose.translation):
            pose = None
        if pose is None:
            reason = why_not(found.correspondences, retrieved, card.pose.min_inliers)
        covariance = found.covariance if pose is not None else None
        localized = LocalizedImage(pose, found.inliers, found.correspondences, covariance, reason, tuple(retrieved))
        told = (self._told(features, camera, pose, *each) for each in zip(members, matches, strict=True))
        return localized, sorted(told, key=lambda each: (-each.agree.sum(), -len(each.agree)))

    def _told(
        self, features: LocalFeatures, camera: Camera, pose: Pose | None, member: str, matches: Matches
    ) -> MapMatches:
        points = self.world.observed(member)[matches[:, 1]]
        ends = features.keypoints[matches[:, 0]]
        seen = points >= 0
        agree = np.zeros(len(matches), bool)
        if pose is not None:
            pixels = project(camera, pose.transform(self.world.arrays["points"][points[seen]]))
            agree[seen] = np.linalg.norm(pixels - ends[seen], axis=1) <= self.world.card.pose.max_error
        return MapMatches(member, ends, self.world.features(member).keypoints[matches[:, 1]], seen, agree)

    def _read(self, image: str | Path | bytes | Pixels) -> tuple[Pixels, Pixels]:
        """The pixels as stored, for the pose, and upright, as the embedder's images were read."""
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ImageError(f"an image must be uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
            return image, image
        try:
            content = image if isinstance(image, bytes) else read_bytes(Path(image))
            rule, fast = self.embedder.input_rule, bool(self.world.card.embedder.options.get("fast_decode"))
            upright = decode_image(content, rule=rule, fast=fast)
            return decode_image(content, upright=False), upright
        except ImageError as error:
            raise ImageError(f"{_called(image)}: {error}") from error

    def _describe(self, upright: Pixels) -> npt.NDArray[np.float32]:
        """The descriptor, with as many digits as a store of the map's kind would keep."""
        with self._described:
            (row,) = self.embedder([upright])
        if not np.isfinite(row).all():
            raise ImageError(
                "the embedder gives no finite descriptor of the image; `gloam check` says more of the model"
            )
        kept: npt.NDArray[np.float32] = row.astype(self.world.card.embedder.options.get("dtype", "float32")).astype(
            np.float32
        )
        return kept

    def _match(self, features: LocalFeatures, camera: Camera, members: list[str], name: str) -> list[Matches]:
        """Matches of the query with map images, uint32 ``[m, 2]`` each, the query's keypoints first."""
        first = [name <= each for each in members]
        known = [self.world.features(each) for each in members]
        pairs = [(features, other) if ahead else (other, features) for ahead, other in zip(first, known, strict=True)]
        if isinstance(self.rule, Matcher):  # a network's session spreads its pairs over its own threads
            with self._matching:
                found = self.rule.match_pairs(pairs)
        else:
            found = self.rule.match_pairs(pairs)
        matches = []
        for ahead, each, pair, (raw, _) in zip(first, members, pairs, found, strict=True):
            if self.world.card.verify_queries:
                cameras = [camera, self.world.mapped[each][0]][:: 1 if ahead else -1]
                (a, b), seed = (side.keypoints for side in pair), self.world.card.seed
                raw = verify_matches(cameras[0], a, cameras[1], b, raw, seed)
            matches.append(raw if ahead else raw[:, ::-1])
        return matches


def _called(image: str | Path | bytes | Pixels) -> str:
    return str(image) if isinstance(image, str | Path) else "the image"


def _embedder(world: LocalizationMap, given: str | Path | Embedder, placement: Placement | None) -> Embedder:
    wanted = world.card.embedder
    loaded = given if isinstance(given, Embedder) else Embedder.load(given, placement)
    another = _another(world, "embedder", (loaded.card.name, loaded.space), ("an embedder", wanted.space))
    try:
        own = loaded.reading_as(wanted.options)
    except ModelError as error:
        raise another from error
    if wanted.space not in (own.space, own.untranslated_space):
        raise another
    return own


def _source(
    world: LocalizationMap, given: str | Path | LocalExtractor | None, placement: Placement | None
) -> SiftFeatures | ModelFeatures:
    wanted = world.card.extractor
    if wanted is None:
        if world.card.sift is None:
            raise DataError(f"{world.folder}: states neither SIFT nor a model of local features")
        if given is not None:
            raise IncompatibleError(f"{world.folder}: the map's features are SIFT's; leave out extractor")
        return world.card.sift
    if given is None:
        raise UsageError(f"{world.folder}: the map's features are by {wanted.name}; give that model as extractor")
    loaded = given if isinstance(given, LocalExtractor) else LocalExtractor.load(given, placement)
    another = _another(world, "extractor", (loaded.card.name, loaded.space), (wanted.name, wanted.space))
    light = None if loaded.session.card.photometric == wanted.photometric else wanted.photometric
    try:
        own = LocalExtractor(loaded.session, wanted.strongest, light)
    except ModelError as error:
        raise another from error
    if own.space != wanted.space:
        raise another
    return ModelFeatures(own, wanted.pixel_origin)


def _rule(world: LocalizationMap, given: str | Path | Matcher | None, placement: Placement | None) -> FeatureMatcher:
    wanted = world.card.matcher
    if wanted is None:
        if given is not None:
            raise IncompatibleError(f"{world.folder}: the map matches by mutual neighbours; leave out matcher")
        return MutualMatcher(world.card.ratio)
    if given is None:
        raise UsageError(f"{world.folder}: the map matches by {wanted.name}; give that model as matcher")
    loaded = given if isinstance(given, Matcher) else Matcher.load(given, placement)
    if loaded.card.space() != wanted.space:
        found = loaded.card.name, loaded.card.space()
        raise _another(world, "matcher", found, (wanted.name, wanted.space))
    return Matcher(loaded.session, loaded.batch_size, wanted.min_score)


def _another(world: LocalizationMap, what: str, found: tuple[str, str], wanted: tuple[str, str]) -> IncompatibleError:
    """Names and spaces of both."""
    return IncompatibleError(
        f"{world.folder}: {what} {found[0]} of space {found[1][:12]} is not the map's, {wanted[0]} of space "
        f"{wanted[1][:12]}; give the model that the map was made with"
    )
