"""SIFT that COLMAP found: keypoints and descriptors of a COLMAP database.

Read by SQLite itself and for reading alone, because pycolmap brings a database of an older COLMAP to its own schema
when it opens it.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.data.query_list import COLMAP_ORIGIN
from gloam.data.scene import Scene
from gloam.errors import DataError
from gloam.files import sha256_bytes, sha256_json
from gloam.model_card import FeatureRule
from gloam.runtime.models.local_features import LocalFeatures, OrientedFeatures

SUFFIX = ".db"
LENGTH = 128  # of SIFT
SHAPES = (2, 4, 6)  # x and y; with scale and orientation; with an affine shape


@dataclass(frozen=True)
class DatabaseFeatures:
    """Features of a COLMAP database, as they are: at COLMAP's pixel origin, descriptors brought to unit length.

    Scores are not stored, and stand as NaN.

    Attributes:
        path: of the database.
    """

    path: Path

    @property
    def gives(self) -> FeatureRule:
        """What a matcher must be for."""
        return FeatureRule("sift", LENGTH, True, COLMAP_ORIGIN)

    def holds(self, scene: Scene, name: str) -> bool:
        """Whether there are features of an image."""
        return None not in self._rows(name)

    def features(self, scene: Scene, name: str) -> LocalFeatures:
        """Read one image's features.

        Raises:
            DataError: no database, none of the image, or what is no SIFT.
        """
        points, descriptors = self._read(name)
        length = np.linalg.norm(descriptors, axis=1, keepdims=True)
        camera = scene.camera(name)
        if points.shape[1] == 6:  # the columns of the matrix that a circle becomes
            first, second = points[:, [2, 4]], points[:, [3, 5]]
            scales = (np.linalg.norm(first, axis=1) + np.linalg.norm(second, axis=1)) / 2
            turned = np.arctan2(first[:, 1], first[:, 0])
        else:
            scales, turned = points[:, 2:4].T if points.shape[1] == 4 else np.zeros((2, len(points)))
        return OrientedFeatures(
            np.ascontiguousarray(points[:, :2]),
            np.full(len(points), np.nan, np.float32),
            (descriptors / np.maximum(length, 1e-12)).astype(np.float32),
            (camera.width, camera.height),
            scales=np.ascontiguousarray(scales, np.float32),
            orientations=np.ascontiguousarray(turned, np.float32),
            name="sift",
            origin=COLMAP_ORIGIN,
        )

    def key(self, scene: Scene, name: str) -> str:
        """Hash of the stored values."""
        return sha256_json(["colmap database", sha256_bytes(b"".join(values.tobytes() for values in self._read(name)))])

    def _rows(self, name: str) -> list[Any]:
        """Rows, columns and bytes of an image's keypoints and of its descriptors; None where there are none."""
        find = "SELECT rows, cols, data FROM {} WHERE image_id = (SELECT image_id FROM images WHERE name = ?)"
        found = []
        try:
            with closing(sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=ro", uri=True)) as database:
                for table in ("keypoints", "descriptors"):
                    found.append(database.execute(find.format(table), (name,)).fetchone())
        except sqlite3.Error as error:
            raise DataError(f"{self.path}: is no COLMAP database that can be read ({error})") from error
        return found

    def _read(self, name: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        found = self._rows(name)
        if None in found:
            raise DataError(f"{self.path}: image {name!r} has no keypoints and descriptors; extract its features first")
        (count, columns, points), (rows, length, descriptors) = found
        points, descriptors = points or b"", descriptors or b""  # no keypoint at all is stored as nothing
        if columns not in SHAPES or len(points) != 4 * count * columns:
            raise DataError(f"{self.path}: keypoints of image {name!r} are damaged; extract its features again")
        if rows != count or (rows and length != LENGTH) or len(descriptors) != rows * length:
            raise DataError(
                f"{self.path}: descriptors of image {name!r} are not {LENGTH} bytes for each of {count} keypoints; "
                "extract SIFT with COLMAP again"
            )
        keypoints = np.frombuffer(points, "<f4").reshape(-1, columns).astype(np.float32)
        return keypoints, np.frombuffer(descriptors, np.uint8).reshape(-1, LENGTH)
