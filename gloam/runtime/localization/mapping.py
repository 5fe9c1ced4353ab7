"""Matching pairs of images and building a map from mapping images with known poses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.data.images import stored_size
from gloam.data.npz import read_npz, write_npz
from gloam.data.scene import Camera, Scene, position_error, rotation_error
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
from gloam.runtime.localization.features import FeatureSource, LocalFeatures
from gloam.runtime.localization.matching import match_mutual

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
        ratio: of :func:`match_mutual`.
        seed: of the verification.
    """

    source: FeatureSource
    mapping: Scene
    query: Scene
    cache: Path | None = None
    ratio: float | None = None
    seed: int = 0
    _features: dict[str, LocalFeatures] = field(default_factory=dict, repr=False)
    _keys: dict[str, str] = field(default_factory=dict, repr=False)
    _cameras: dict[str, Camera] = field(default_factory=dict, repr=False)
    _matches: dict[tuple[str, str], Matches] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        shared = set(self.mapping.records) & set(self.query.records)
        if shared and self.mapping.root != self.query.root:
            raise DataError(f"mapping and query share the image name {min(shared)!r}; rename one of them")

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
                expect_size(camera, stored_size_of(path), path)
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
            path = self._path("features", self.key(name))
            stored = _load(path, "keypoints", "descriptors")
            if stored is not None:
                features = LocalFeatures(stored["keypoints"], stored["descriptors"])
            else:
                features = self.source.features(self.scene_of(name), name)
                _save(path, keypoints=features.keypoints, descriptors=features.descriptors)
            expect_inside(features.keypoints, self.camera(name), f"{self.scene_of(name).root}: image {name!r}")
            self._features[name] = features
        return self._features[name]

    def matches(self, first: str, second: str) -> Matches:
        """Verified matches, uint32 ``[m, 2]``, columns in the order asked for."""
        if first > second:
            return self.matches(second, first)[:, ::-1]
        pair = (first, second)
        if pair not in self._matches:
            cameras = [self.camera(name) for name in pair]
            # Two map images have known poses, which verify better than any estimate; a query's is what we look for.
            poses = [self.mapping.poses[name] for name in pair if name in self.mapping.poses]
            key = sha256_json(
                [
                    [self.key(first), self.key(second), self.ratio, self.seed, solver_version()],
                    [list(vars(camera).values()) for camera in cameras],
                    [list(vars(pose).values()) for pose in poses] if len(poses) == 2 else "estimated",
                ]
            )
            path = self._path("matches", key)
            stored = _load(path, "matches")
            if stored is not None:
                verified = stored["matches"]
            else:
                a, b = self.features(first), self.features(second)
                raw = match_mutual(a.descriptors, b.descriptors, ratio=self.ratio)
                if len(poses) == 2:
                    verified = verify_by_pose(cameras[0], poses[0], a.keypoints, cameras[1], poses[1], b.keypoints, raw)
                else:
                    verified = verify_matches(cameras[0], a.keypoints, cameras[1], b.keypoints, raw, self.seed)
                _save(path, matches=verified)
            self._matches[pair] = verified
        return self._matches[pair]

    def match_all(self, pairs: Iterable[tuple[str, str]], pool: ThreadPoolExecutor) -> None:
        """Match many pairs in threads; features first, so that none is computed twice."""
        wanted = sorted({(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]})
        list(pool.map(self.features, sorted({name for pair in wanted for name in pair})))
        list(pool.map(lambda pair: self.matches(*pair), wanted))

    def _path(self, stage: str, key: str) -> Path | None:
        return None if self.cache is None else self.cache / stage / key[:2] / f"{key}.npz"


def stored_size_of(path: Path) -> tuple[int, int]:
    """Width and height of the pixels that an image file stores; a DataError where it cannot be read."""
    try:
        return stored_size(path)
    except ImageError as error:
        raise DataError(f"{path}: {error}; restore the image, or take it out of the dataset") from error


def expect_size(camera: Camera, size: tuple[int, int], path: Path) -> None:
    """Refuse an image whose stored pixels are not those that its camera's intrinsics describe.

    Args:
        camera: from ``sensors.txt``.
        size: width and height as stored, whatever the EXIF orientation.
        path: of the image.
    """
    if size != (camera.width, camera.height):
        raise DataError(
            f"{path}: the image is {size[0]}x{size[1]} but its camera in sensors.txt is "
            f"{camera.width}x{camera.height}; give the image at that size, or its own intrinsics"
        )


def expect_inside(keypoints: npt.NDArray[np.float32], camera: Camera, where: str) -> None:
    """Refuse keypoints beyond their camera's frame: they were found in a turned or enlarged copy of the image.

    Args:
        keypoints: ``[n, 2]``, pixels.
        camera: of the image.
        where: dataset and image, for the message.
    """
    beyond = np.maximum(-keypoints, keypoints - np.array([camera.width, camera.height])).max(axis=1, initial=0.0)
    if len(beyond) and not beyond.max() <= MARGIN:
        x, y = keypoints[np.argmax(beyond)]
        raise DataError(
            f"{where}: a keypoint at ({x:g}, {y:g}) lies outside its camera's {camera.width}x{camera.height} in "
            "sensors.txt; extract the features from the pixels as stored, without turning or resizing"
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


def pairs_by_pose(
    scene: Scene, k: int = 10, max_distance: float = 15.0, max_angle: float = 60.0
) -> list[tuple[str, str]]:
    """Each mapping image with its nearest ones by known pose: a map that does not depend on any retrieval.

    Args:
        scene: mapping images with poses.
        k: neighbours per image.
        max_distance: metres between centres.
        max_angle: degrees between orientations.
    """
    names = [name for name in scene.names if name in scene.poses]
    centers = np.array([scene.poses[name].center for name in names])
    pairs = set()
    for row, name in enumerate(names):
        near = np.argsort(np.linalg.norm(centers - centers[row], axis=1), kind="stable")
        poses = [(names[other], scene.poses[names[other]]) for other in near if other != row]
        close = [
            other
            for other, pose in poses
            if position_error(scene.poses[name], pose) <= max_distance
            and rotation_error(scene.poses[name], pose) <= max_angle
        ]
        pairs |= {(min(name, other), max(name, other)) for other in close[:k]}
    return sorted(pairs)


def _view(matcher: PairMatcher, name: str) -> View:
    scene: Scene = matcher.scene_of(name)
    if name not in scene.poses:
        raise DataError(f"{scene.root}: map image {name!r} has no pose in trajectories.txt")
    return View(matcher.camera(name), scene.poses[name], matcher.features(name).keypoints)


def _load(path: Path | None, *names: str) -> Mapping[str, npt.NDArray[Any]] | None:
    """Arrays that were kept; None where there are none, or they are damaged or another's: computed again."""
    if path is None or not path.is_file():
        return None
    try:
        stored = read_npz(path)
    except (OSError, ValueError):
        return None
    return stored if stored.keys() == {*names, KEY} and str(stored[KEY]) == path.stem else None


def _save(path: Path | None, **arrays: npt.NDArray[Any]) -> None:
    if path is not None:
        write_npz(path, {**arrays, KEY: np.array(path.stem)})
