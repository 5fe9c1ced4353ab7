"""Matching pairs of images and building a map from mapping images with known poses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.data.images import stored_size
from gloam.data.npz import read_npz, write_npz
from gloam.data.scene import Camera, Pose, Scene
from gloam.errors import DataError, ImageError
from gloam.files import sha256_json
from gloam.runtime.localization.colmap import (
    Triangulation,
    View,
    solver_version,
    triangulate,
    verify_by_pose,
    verify_matches,
)
from gloam.runtime.localization.colmap_model import ColmapModel
from gloam.runtime.localization.features import FeatureSource, from_arrays, to_arrays
from gloam.runtime.localization.matching import MutualMatcher
from gloam.runtime.models.local_features import LocalFeatures
from gloam.runtime.models.matcher import FeatureMatcher, Matcher

KEY = "key"  # of what is kept, inside its file, so that a file under another's name is not taken for it
MARGIN = 1.0  # pixels that a refined keypoint may lie beyond the frame

Matches = npt.NDArray[np.uint32]


@dataclass
class PairMatcher:
    """Features and verified matches of a map and its queries, each computed once and kept by content.

    Attributes:
        source: where features come from.
        mapping, query: the two datasets; an image name belongs to one of them.
        cache: folder for results; None keeps them in memory alone.
        rule: by which two images' features are matched.
        seed: of the verification.
        verify_queries: whether a query's matches are verified by an estimated two-view geometry, one map image at a
            time. Without it they are left to the pose's own RANSAC over all map images, which stands more outliers.
    """

    source: FeatureSource
    mapping: Scene
    query: Scene
    cache: Path | None = None
    rule: FeatureMatcher = field(default_factory=MutualMatcher)
    seed: int = 0
    verify_queries: bool = True
    _features: dict[str, LocalFeatures] = field(default_factory=dict, repr=False)
    _keys: dict[str, str] = field(default_factory=dict, repr=False)
    _cameras: dict[str, Camera] = field(default_factory=dict, repr=False)
    _matches: dict[tuple[str, str], Matches] = field(default_factory=dict, repr=False)
    _turn: AbstractContextManager[object] = field(default_factory=nullcontext, init=False, repr=False)
    _batch: int = field(default=1, init=False, repr=False)

    def __post_init__(self) -> None:
        shared = set(self.mapping.records) & set(self.query.records)
        if shared and self.mapping.root != self.query.root:
            raise DataError(f"mapping and query share the image name {min(shared)!r}; rename one of them")
        if isinstance(self.rule, Matcher):
            # A network's session spreads a batch over its own threads: one batch at a time, others verify meanwhile.
            self._turn = Lock()
            self._batch = self.rule.batch_size * self.rule.backend.runs_at_once

    def scene_of(self, name: str) -> Scene:
        """The dataset that an image belongs to."""
        if name in self.query.records:
            return self.query
        if name in self.mapping.records:
            return self.mapping
        raise DataError(f"image {name!r} of the pair list is in neither dataset")

    def camera(self, name: str) -> Camera:
        """Intrinsics of an image, whose pixels are as many as they state.

        Features may be stored without their image; then there is no size to compare.

        Raises:
            DataError: no intrinsics, or those of an image of another size.
        """
        if name not in self._cameras:
            scene = self.scene_of(name)
            camera, path = scene.camera(name), scene.image_path(name)
            if path.is_file():
                expect_size(camera, stored_size_of(path), path, scene.files.cameras)
            self._cameras[name] = camera
        return self._cameras[name]

    def key(self, name: str) -> str:
        """Content key of an image's features."""
        if name not in self._keys:
            self._keys[name] = self.source.key(self.scene_of(name), name)
        return self._keys[name]

    def features(self, name: str) -> LocalFeatures:
        """Features of an image; a DataError where they lie beyond its camera's frame."""
        if name not in self._features:
            camera = self.camera(name)
            path = self._path("features", self.key(name))
            try:
                features = from_arrays(_load(path) or {})
            except KeyError:  # never kept, damaged, or by a gloam that kept less
                features = self.source.features(self.scene_of(name), name)
                _save(path, **to_arrays(features))
            scene = self.scene_of(name)
            expect_inside(features.keypoints, camera, f"{scene.root}: image {name!r}", scene.files.cameras)
            self._features[name] = features
        return self._features[name]

    @property
    def rule_key(self) -> float | str | None:
        """Identity of the matching. Mutual neighbours are known by their ratio, as what an earlier gloam kept."""
        return self.rule.ratio if isinstance(self.rule, MutualMatcher) else self.rule.key

    def matches(self, first: str, second: str) -> Matches:
        """Matches, verified but for :attr:`verify_queries`, uint32 ``[m, 2]``, columns in the order asked for."""
        if first > second:
            return self.matches(second, first)[:, ::-1]
        self._match([(first, second)])
        return self._matches[first, second]

    def count_verified(self, first: str, second: str) -> int:
        """Number of matches that agree with one two-view geometry, whatever :attr:`verify_queries` leaves of them."""
        pair = (min(first, second), max(first, second))
        found = self.matches(*pair)
        if self.verify_queries or self._poses(pair):
            return len(found)
        (a, one), (b, other) = ((self.camera(name), self.features(name).keypoints) for name in pair)
        return len(verify_matches(a, one, b, other, found, self.seed))

    def match_all(self, pairs: Iterable[tuple[str, str]], pool: ThreadPoolExecutor) -> None:
        """Match many pairs in threads; features first, so that none is computed twice."""
        wanted = sorted({(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]})
        list(pool.map(self.features, sorted({name for pair in wanted for name in pair})))
        list(pool.map(self._match, [wanted[row : row + self._batch] for row in range(0, len(wanted), self._batch)]))

    def _match(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Match pairs that are not yet matched, the names of each in order."""
        paths = {pair: self._path("matches", self._match_key(pair)) for pair in pairs if pair not in self._matches}
        fresh = []
        for pair, path in paths.items():
            stored = _load(path, "matches")
            if stored is None:
                fresh.append(pair)
            else:
                self._matches[pair] = stored["matches"]
        features = [(self.features(first), self.features(second)) for first, second in fresh]
        with self._turn:
            found = self.rule.match_pairs(features) if fresh else []
        for pair, both, (raw, _) in zip(fresh, features, found, strict=True):
            verified = self._verified(pair, both, raw)
            _save(paths[pair], matches=verified)
            self._matches[pair] = verified

    def _poses(self, pair: tuple[str, str]) -> list[Pose]:
        """Two map images have known poses, which verify better than any estimate; a query's is what we look for."""
        poses = [self.mapping.poses[name] for name in pair if name in self.mapping.poses]
        return poses if len(poses) == 2 else []

    def _match_key(self, pair: tuple[str, str]) -> str:
        return sha256_json(
            [
                [*(self.key(name) for name in pair), self.rule_key, self.seed, solver_version()],
                [list(vars(self.camera(name)).values()) for name in pair],
                [list(vars(pose).values()) for pose in self._poses(pair)] or self._unposed,
            ]
        )

    def _verified(self, pair: tuple[str, str], both: tuple[LocalFeatures, LocalFeatures], raw: Matches) -> Matches:
        (first, second), (a, b) = (self.camera(name) for name in pair), (each.keypoints for each in both)
        if poses := self._poses(pair):
            return verify_by_pose(first, poses[0], a, second, poses[1], b, raw)
        return verify_matches(first, a, second, b, raw, self.seed) if self.verify_queries else raw

    @property
    def _unposed(self) -> str:
        """How the matches of a pair without two known poses are verified."""
        return "estimated" if self.verify_queries else "raw"

    def _path(self, stage: str, key: str) -> Path | None:
        return None if self.cache is None else self.cache / stage / key[:2] / f"{key}.npz"


def stored_size_of(path: Path) -> tuple[int, int]:
    """Width and height of the pixels that an image file stores; a DataError where it cannot be read."""
    try:
        return stored_size(path)
    except ImageError as error:
        raise DataError(f"{path}: {error}; restore the image, or take it out of the dataset") from error


def expect_size(camera: Camera, size: tuple[int, int], path: Path, stated: str = "sensors.txt") -> None:
    """Refuse an image whose stored pixels are not those that its camera's intrinsics describe.

    Args:
        camera: of the image.
        size: width and height as stored, whatever the EXIF orientation.
        path: of the image.
        stated: file that states the camera, for the message.
    """
    if size != (camera.width, camera.height):
        raise DataError(
            f"{path}: the image is {size[0]}x{size[1]} but its camera in {stated} is "
            f"{camera.width}x{camera.height}; give the image at that size, or its own intrinsics"
        )


def expect_inside(keypoints: npt.NDArray[np.float32], camera: Camera, where: str, stated: str = "sensors.txt") -> None:
    """Refuse keypoints beyond their camera's frame: they were found in a turned or enlarged copy of the image.

    Args:
        keypoints: ``[n, 2]``, pixels.
        camera: of the image.
        where: dataset and image, for the message.
        stated: file that states the camera, for the message.
    """
    beyond = np.maximum(-keypoints, keypoints - np.array([camera.width, camera.height])).max(axis=1, initial=0.0)
    if len(beyond) and not beyond.max() <= MARGIN:
        x, y = keypoints[np.argmax(beyond)]
        raise DataError(
            f"{where}: a keypoint at ({x:g}, {y:g}) lies outside its camera's {camera.width}x{camera.height} in "
            f"{stated}; extract the features from the pixels as stored, without turning or resizing"
        )


def build_map(
    matcher: PairMatcher, pairs: Sequence[tuple[str, str]], names: Iterable[str] | None = None
) -> Triangulation:
    """Triangulate a map from pairs of mapping images.

    Args:
        matcher: of the datasets.
        pairs: pairs of mapping images; order and repeats do not matter.
        names: images of the map; those of the pairs by default.

    Raises:
        DataError: fewer than two images, no matches, or an image without pose or intrinsics.
    """
    wanted = sorted({(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]})
    members = sorted(set(names) if names is not None else {name for pair in wanted for name in pair})
    views = {name: _view(matcher, name) for name in members}
    return triangulate(views, {pair: matcher.matches(*pair) for pair in wanted}, matcher.seed)


def own_points(matcher: PairMatcher, model: ColmapModel) -> Triangulation | None:
    """A COLMAP model's own points, where the features are those that it was made of; None where they are others.

    Args:
        matcher: of the datasets.
        model: the map.

    Raises:
        DataError: features of the model's first images, and none of a later one.
    """
    own = all(model.has_keypoints(name, matcher.features(name).keypoints) for name in model.scene.names)
    return model.points if own and len(model.points.points) else None


def _view(matcher: PairMatcher, name: str) -> View:
    scene: Scene = matcher.scene_of(name)
    if name not in scene.poses:
        raise DataError(f"{scene.root}: map image {name!r} has no pose in {scene.files.poses}")
    return View(matcher.camera(name), scene.poses[name], matcher.features(name).keypoints)


def _load(path: Path | None, *names: str) -> dict[str, npt.NDArray[Any]] | None:
    """Arrays that were kept, those named or whichever; None where there are none, or they are damaged or another's:
    computed again."""
    if path is None or not path.is_file():
        return None
    try:
        stored = read_npz(path)
    except (OSError, ValueError):
        return None
    own = KEY in stored and str(stored.pop(KEY)) == path.stem
    return stored if own and (not names or stored.keys() == set(names)) else None


def _save(path: Path | None, **arrays: npt.NDArray[Any]) -> None:
    if path is not None:
        write_npz(path, {**arrays, KEY: np.array(path.stem)})
