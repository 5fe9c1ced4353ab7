"""Local features of an image: SIFT, or read from kapture.

Keypoints must follow the convention of the dataset's intrinsics. OpenCV's SIFT puts a pixel's centre at integer
coordinates, as most kapture datasets do; COLMAP's intrinsics, and the town's, put it at .5, for which
``pixel_shift=0.5`` is there. Stored features are never shifted. Like the intrinsics, keypoints are measured in the
pixels as the file stores them: an EXIF orientation turns neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from gloam.data.images import decode_image
from gloam.data.kapture_io import LocalFeatureReader
from gloam.data.plain_opencv import plain_opencv
from gloam.data.scene import Scene
from gloam.errors import DataError, ImageError
from gloam.files import sha256_bytes, sha256_file, sha256_json

# RootSIFT's values are rounded to this step, finer than SIFT's own bytes. Products of two descriptors are then whole
# multiples of its square and sum exactly in float32, so that every processor finds the same nearest neighbours.
STEP = 2.0**-11


@dataclass(frozen=True)
class LocalFeatures:
    """Features of one image.

    Attributes:
        keypoints: float32 ``[n, 2]``, x and y in pixels of the image as stored.
        descriptors: float32 ``[n, D]``, unit length.
    """

    keypoints: npt.NDArray[np.float32]
    descriptors: npt.NDArray[np.float32]


class FeatureSource(Protocol):
    """Gives an image's features, and a key that changes with everything they depend on."""

    def features(self, scene: Scene, name: str) -> LocalFeatures:
        """Features of an image; a DataError where there are none to be had."""
        ...

    def key(self, scene: Scene, name: str) -> str:
        """Hex sha256 for caching."""
        ...


@dataclass(frozen=True)
class SiftFeatures:
    """RootSIFT by OpenCV (Lowe 2004; Arandjelović & Zisserman 2012).

    Attributes:
        max_keypoints: strongest kept.
        max_side: longer side that SIFT runs at, pixels; keypoints are scaled back. None keeps native size.
        contrast_threshold: lower finds more in the dark; OpenCV's own default is 0.04.
        pixel_shift: added to both coordinates.
    """

    max_keypoints: int = 4096
    max_side: int | None = 1600
    contrast_threshold: float = 0.02
    pixel_shift: float = 0.0

    @plain_opencv()
    def features(self, scene: Scene, name: str) -> LocalFeatures:
        """Detect and describe, alike on every processor of a platform; the image keeps its stored orientation, to which
        the intrinsics belong."""
        try:
            pixels = decode_image(scene.image_path(name), upright=False)
        except ImageError as error:
            raise DataError(f"{scene.image_path(name)}: {error}") from error
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        if self.max_side is not None and max(grey.shape) > self.max_side:
            scale = self.max_side / max(grey.shape)
            size = (round(grey.shape[1] * scale), round(grey.shape[0] * scale))
            ratio = np.array([grey.shape[1] / size[0], grey.shape[0] / size[1]], np.float32)
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        else:
            ratio = np.ones(2, np.float32)
        # By default OpenCV doubles the image about its corner: keypoints a quarter of a pixel to the lower right.
        sift = cv2.SIFT.create(
            nfeatures=self.max_keypoints, contrastThreshold=self.contrast_threshold, enable_precise_upscale=True
        )
        keypoints, descriptors = sift.detectAndCompute(grey, None)
        if descriptors is None:
            return LocalFeatures(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32))
        # OpenCV returns ties beyond the limit; order by strength so that the cut is the same everywhere.
        order = np.argsort([-point.response for point in keypoints], kind="stable")[: self.max_keypoints]
        points = np.array([point.pt for point in keypoints], np.float32).reshape(-1, 2)[order]
        points = (points + 0.5) * ratio - 0.5 + np.float32(self.pixel_shift)  # centres, not corners, scale about .5
        rooted = descriptors[order] / np.maximum(descriptors[order].sum(1, keepdims=True), 1e-12)
        return LocalFeatures(points, np.round(np.sqrt(rooted) / STEP).astype(np.float32) * np.float32(STEP))

    def key(self, scene: Scene, name: str) -> str:
        """Hash of the file's content and the parameters."""
        path = scene.image_path(name)
        if not path.is_file():
            raise DataError(f"{path}: the image is missing")
        return sha256_json(
            ["sift, stored frame, plain, unbiased", STEP, vars(self), cv2.__version__, sha256_file(path)]
        )


@dataclass(frozen=True)
class KaptureFeatures:
    """Keypoints and descriptors stored beside a kapture dataset; descriptors are L2-normalised on reading."""

    reader: LocalFeatureReader

    def features(self, scene: Scene, name: str) -> LocalFeatures:
        """Read one image's features."""
        keypoints = self.reader.keypoints(name)[:, :2]
        descriptors = self.reader.descriptors(name)
        if len(keypoints) != len(descriptors):
            raise DataError(f"image {name!r}: {len(keypoints)} keypoints but {len(descriptors)} descriptors")
        norm = np.linalg.norm(descriptors, axis=1, keepdims=True)
        return LocalFeatures(np.ascontiguousarray(keypoints), descriptors / np.maximum(norm, 1e-12))

    def key(self, scene: Scene, name: str) -> str:
        """Hash of the stored values."""
        content = self.reader.keypoints(name).tobytes() + self.reader.descriptors(name).tobytes()
        return sha256_json(["kapture", self.reader.feature_type, sha256_bytes(content)])
