"""Matching pairs of images and building a map from mapping images with known poses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gloam.data.scene import Pose, Scene
from gloam.errors import DataError
from gloam.files import sha256_json
from gloam.runtime.localization.colmap import (
    Triangulation,
    View,
    solver_version,
    triangulate,
    verify_by_pose,
    verify_matches,
)
from gloam.runtime.localization.features.sources import FeatureSource
from gloam.runtime.localization.maps.colmap_model import ColmapModel
from gloam.runtime.localization.matches.mutual import MutualMatcher
from gloam.runtime.localization.matches.pair_stage import MEMORY, Arrays, PairStage
from gloam.runtime.localization.matches.stored import StoredMatches
from gloam.runtime.models.local_features import LocalFeatures
from gloam.runtime.models.matcher import FeatureMatcher, Matched

Matches = npt.NDArray[np.uint32]


@dataclass
class PairMatcher(PairStage):
    """Features and verified matches of a map and its queries, each computed once and kept by content.

    Attributes:
        source: where features come from.
        mapping, query: the two datasets; an image name belongs to one of them.
        cache: folder for results; None keeps them in memory alone, all of them.
        rule: by which two images' features are matched, or their matches.
        seed: of the verification.
        verify_queries: whether a query's matches are verified by an estimated two-view geometry, one map image at a
            time. Without it they are left to the pose's own RANSAC over all map images, which stands more outliers.
        memory: bytes of features and matches that are held at once, where there is a cache.
    """

    source: FeatureSource
    mapping: Scene
    query: Scene
    cache: Path | None = None
    rule: FeatureMatcher | StoredMatches = field(default_factory=MutualMatcher)
    seed: int = 0
    verify_queries: bool = True
    memory: int = MEMORY

    def __post_init__(self) -> None:
        shared = set(self.mapping.records) & set(self.query.records)
        if shared and self.mapping.root != self.query.root:
            raise DataError(f"mapping and query share the image name {min(shared)!r}; rename one of them")
        self._begin()

    def scene_of(self, name: str) -> Scene:
        """The dataset that an image belongs to."""
        if name in self.query.records:
            return self.query
        if name in self.mapping.records:
            return self.mapping
        raise DataError(f"image {name!r} of the pair list is in neither dataset")

    @property
    def rule_key(self) -> float | str | None:
        """Identity of the matching. Mutual neighbours are known by their ratio, as what an earlier gloam kept."""
        return self.rule.ratio if isinstance(self.rule, MutualMatcher) else self.rule.key

    def matches(self, first: str, second: str) -> Matches:
        """Matches, verified but for :attr:`verify_queries`, uint32 ``[m, 2]``, columns in the order asked for."""
        if first > second:
            return self.matches(second, first)[:, ::-1]
        found: Matches = self.pair((first, second))["matches"]
        return found

    def count_verified(self, first: str, second: str) -> int:
        """Number of matches that agree with one two-view geometry, whatever :attr:`verify_queries` leaves of them."""
        pair = (min(first, second), max(first, second))
        found = self.matches(*pair)
        if self.verify_queries or self._poses(pair):
            return len(found)
        (a, one), (b, other) = ((self.camera(name), self.features(name).keypoints) for name in pair)
        return len(verify_matches(a, one, b, other, found, self.seed))

    def _poses(self, pair: tuple[str, str]) -> list[Pose]:
        """Two map images have known poses, which verify better than any estimate; a query's is what we look for."""
        poses = [self.mapping.poses[name] for name in pair if name in self.mapping.poses]
        return poses if len(poses) == 2 else []

    def pair_key(self, pair: tuple[str, str]) -> str:
        """See :class:`PairStage`."""
        return sha256_json(
            [
                [*(self.key(name) for name in pair), self.rule_key, self.seed, solver_version()],
                [list(vars(self.camera(name)).values()) for name in pair],
                [list(vars(pose).values()) for pose in self._poses(pair)] or self._unposed,
            ]
        )

    def _result(self, pair: tuple[str, str], both: tuple[LocalFeatures, LocalFeatures], found: Matched) -> Arrays:
        (first, second), (a, b) = (self.camera(name) for name in pair), (each.keypoints for each in both)
        raw, _ = found
        if poses := self._poses(pair):
            return {"matches": verify_by_pose(first, poses[0], a, second, poses[1], b, raw)}
        return {"matches": verify_matches(first, a, second, b, raw, self.seed) if self.verify_queries else raw}

    @property
    def _unposed(self) -> str:
        """How the matches of a pair without two known poses are verified."""
        return "estimated" if self.verify_queries else "raw"


class MatchesOf(Mapping[tuple[str, str], Matches]):
    """Matches by pair, each read when it is asked for.

    Args:
        matcher: of the datasets.
        pairs: the names of each in order.
    """

    def __init__(self, matcher: PairMatcher, pairs: Sequence[tuple[str, str]]) -> None:
        self._matcher, self._pairs = matcher, pairs

    def __getitem__(self, pair: tuple[str, str]) -> Matches:
        return self._matcher.matches(*pair)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)


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
    return triangulate(views, MatchesOf(matcher, wanted), matcher.seed)


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
