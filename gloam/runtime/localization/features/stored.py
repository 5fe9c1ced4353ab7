"""Local features that are stored: in hloc's file, in a COLMAP database, or in kapture's folders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from gloam.data.hloc_io import SUFFIXES, HlocFeatureFile
from gloam.data.kapture_io import read_local_features
from gloam.data.scene import Scene
from gloam.errors import DataError, IncompatibleError, UsageError
from gloam.files import sha256_bytes, sha256_json
from gloam.model_card import FeatureRule
from gloam.runtime.localization.features.database import SUFFIX as DATABASE
from gloam.runtime.localization.features.database import DatabaseFeatures
from gloam.runtime.localization.features.sources import KaptureFeatures, OwnFeatures, pixel_origin
from gloam.runtime.models.local_features import LocalFeatures
from gloam.runtime.models.matcher import Matcher


@dataclass(frozen=True)
class HlocFeatures:
    """Keypoints and descriptors of hloc's ``feats-*.h5``; descriptors are L2-normalised on reading.

    Attributes:
        file: where they are; its keypoints count from 0.
        pixel_origin: where the dataset's intrinsics have the centre of the first pixel; keypoints are moved there.
        network: that gave the features; as the file says, and hloc's own does not.
    """

    file: HlocFeatureFile
    pixel_origin: float = 0.0
    network: str = ""

    @property
    def gives(self) -> FeatureRule:
        """What a matcher must be for."""
        return FeatureRule(self.network, self.file.dimension, False, self.pixel_origin)

    def holds(self, scene: Scene, name: str) -> bool:
        """Whether there are features of an image."""
        return name in self.file

    def features(self, scene: Scene, name: str) -> LocalFeatures:
        """Read one image's features; a DataError where they are of an image of another size than its camera's."""
        found = self.file.read(name)
        camera = scene.cameras.get(scene.records[name].camera_id) if name in scene.records else None
        if camera is not None and (camera.width, camera.height) != found.size:
            raise DataError(
                f"{self.file.path}: image {name!r} is {found.size[0]}x{found.size[1]}, but its camera in "
                f"{scene.root}'s {scene.files.cameras} is {camera.width}x{camera.height}; "
                "give the file of this image set"
            )
        norm = np.linalg.norm(found.descriptors, axis=1, keepdims=True)
        return LocalFeatures(
            found.keypoints + np.float32(self.pixel_origin),
            found.scores,
            found.descriptors / np.maximum(norm, 1e-12),
            found.size,
            name=self.network,
            origin=self.pixel_origin,
        )

    def key(self, scene: Scene, name: str) -> str:
        """Hash of the stored values, and of where they are moved to."""
        found = self.file.read(name)
        content = found.keypoints.tobytes() + found.descriptors.tobytes()
        return sha256_json(["hloc", self.network, self.pixel_origin, found.size, sha256_bytes(content)])


Source = TypeVar("Source")
StoredFeatures = HlocFeatures | KaptureFeatures | OwnFeatures | DatabaseFeatures


def open_stored(named: str, scenes: Sequence[Scene], origin: float | None = None) -> StoredFeatures:
    """Open stored features by what names them.

    Args:
        named: hloc's ``.h5`` file, a COLMAP database (``.db``), a folder of kapture local features, or the type of
            those that every dataset holds.
        scenes: the datasets.
        origin: of the intrinsics, for hloc's file; as :func:`pixel_origin` tells by default, and 0 where it cannot.

    Raises:
        DataError: they cannot be read.
        IncompatibleError: descriptors of two lengths.
        UsageError: cameras of two origins, or a type without datasets.
    """
    path = Path(named)
    if path.suffix in SUFFIXES:
        cameras = (camera for scene in scenes for camera in scene.cameras.values())
        file = HlocFeatureFile(path)
        return HlocFeatures(file, (pixel_origin(cameras) or 0.0) if origin is None else origin, file.network)
    if path.suffix == DATABASE:
        return DatabaseFeatures(path)
    if path.is_dir():
        return KaptureFeatures(read_local_features(path))
    roots = dict.fromkeys(scene.root for scene in scenes)
    if not roots:
        raise UsageError(f"{named}: is no folder and no .h5 file; of a type, give the datasets that hold it")
    return OwnFeatures({root: read_local_features(root, keypoints_type=named) for root in roots})


def expect_matched_by(matcher: Matcher, features: FeatureRule, named: Iterable[str]) -> None:
    """Refuse a matcher of other features, before any image is read.

    Args:
        matcher: to be used.
        features: that are there; of hloc's own files it is not known whose, and their length alone decides.
        named: what the matcher and the features are called by, for the message.
    """
    takes = matcher.takes
    if (features.name or takes.name, features.dimension) != (takes.name, takes.dimension):
        file, source = named
        raise IncompatibleError(
            f"{file}: is for {takes.name} features of {takes.dimension} values, but {source} has "
            f"{features.name or 'unnamed'} features of {features.dimension}; give a matcher of those, or 'mutual'"
        )


def named_for(matcher: Matcher, features: Source) -> Source:
    """Features that do not say whose they are, taken for those that the matcher is for."""
    if isinstance(features, HlocFeatures) and not features.network:
        return replace(features, network=matcher.takes.name)
    return features
