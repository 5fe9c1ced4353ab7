"""Local features of an image: SIFT, an exported model's, or read from kapture.

Keypoints must follow the convention of the dataset's intrinsics. OpenCV's SIFT puts a pixel's centre at integer
coordinates, as most kapture datasets do; COLMAP's intrinsics, and the town's, put it at .5, for which
``pixel_shift=0.5`` is there. A model's card states where its keypoints count from, so they are brought to the
intrinsics' own origin, see :func:`pixel_origin`. Stored features are never shifted. Like the intrinsics, keypoints are
measured in the pixels as the file stores them: an EXIF orientation turns neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from gloam.data.images import decode_image
from gloam.data.kapture_io import LocalFeatureReader
from gloam.data.photometric import apply_photometric
from gloam.data.plain_opencv import plain_opencv
from gloam.data.scene import Camera, Scene
from gloam.errors import DataError, ImageError, IncompatibleError, ModelError, UsageError
from gloam.files import sha256_bytes, sha256_file, sha256_json
from gloam.model_card import FeatureRule, Photometric
from gloam.runtime.backends.placement import Placement
from gloam.runtime.models.local_features import LocalExtractor, LocalFeatures, OrientedFeatures

# RootSIFT's values are rounded to this step, finer than SIFT's own bytes. Products of two descriptors are then whole
# multiples of its square and sum exactly in float32, so that every processor finds the same nearest neighbours.
STEP = 2.0**-11


# The first of a principal point's two numbers among a camera model's parameters.
CENTRE_AT = {"SIMPLE_PINHOLE": 1, "SIMPLE_RADIAL": 1, "RADIAL": 1, "SIMPLE_RADIAL_FISHEYE": 1, "RADIAL_FISHEYE": 1}


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
        photometric: normalisation of the picture's light first.
    """

    max_keypoints: int = 4096
    max_side: int | None = 1600
    contrast_threshold: float = 0.02
    pixel_shift: float = 0.0
    photometric: Photometric = field(default_factory=Photometric)

    @property
    def gives(self) -> FeatureRule:
        """What a matcher must be for."""
        return FeatureRule("sift", 128, True, self.pixel_shift)

    def features(self, scene: Scene, name: str) -> LocalFeatures:
        """Detect and describe; the image keeps its stored orientation, to which the intrinsics belong."""
        return self.extract(_stored_pixels(scene, name))

    @plain_opencv()
    def extract(self, pixels: npt.NDArray[np.uint8]) -> LocalFeatures:
        """Detect and describe, alike on every processor of a platform.

        Args:
            pixels: uint8 ``[H, W, 3]`` RGB, as the file stores them.
        """
        pixels = apply_photometric(pixels, self.photometric)
        stored = (pixels.shape[1], pixels.shape[0])
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
            keypoints, descriptors = (), np.zeros((0, 128), np.float32)
        # OpenCV returns ties beyond the limit; order by strength so that the cut is the same everywhere.
        order = np.argsort([-point.response for point in keypoints], kind="stable")[: self.max_keypoints]
        kept = [keypoints[row] for row in order]
        points = np.array([point.pt for point in kept], np.float32).reshape(-1, 2)
        points = (points + 0.5) * ratio - 0.5 + np.float32(self.pixel_shift)  # centres, not corners, scale about .5
        rooted = descriptors[order] / np.maximum(descriptors[order].sum(1, keepdims=True), 1e-12)
        return OrientedFeatures(
            points,
            np.array([point.response for point in kept], np.float32),
            np.round(np.sqrt(rooted) / STEP).astype(np.float32) * np.float32(STEP),
            stored,
            scales=np.array([point.size for point in kept], np.float32) * ratio.mean(dtype=np.float32),
            orientations=np.radians(np.array([point.angle for point in kept], np.float32)),
            name="sift",
            origin=self.pixel_shift,
        )

    def key(self, scene: Scene, name: str) -> str:
        """Hash of the file's content and the parameters."""
        # A picture as it is stays out of the key, as of a gloam that knew nothing else.
        options = {what: value for what, value in vars(self).items() if what != "photometric"}
        light = [] if self.photometric.name == "none" else [vars(self.photometric)]
        content = _content(scene, name)
        return sha256_json(["sift, stored frame, plain, unbiased", STEP, options, cv2.__version__, content, *light])


@dataclass(frozen=True)
class ModelFeatures:
    """Keypoints and descriptors by an exported model, in the pixels as stored and the intrinsics' own origin.

    Attributes:
        extractor: of keypoints; as many images are in it at once as its session takes.
        pixel_origin: where the dataset's intrinsics have the centre of the first pixel, see :func:`pixel_origin`.

    Raises:
        ModelError: a model without keypoints.
    """

    extractor: LocalExtractor
    pixel_origin: float = 0.0
    _slots: BoundedSemaphore = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.extractor.card.keypoints is None:
            raise ModelError(
                f"{self.extractor.card.name}: its local features are for ASMK and have no keypoints to pose by; give a "
                "model of keypoints, such as ALIKED"
            )
        object.__setattr__(self, "_slots", BoundedSemaphore(self.extractor.session.backend.runs_at_once))

    @classmethod
    def load(
        cls,
        path: str | Path,
        cameras: Iterable[Camera],
        placement: Placement | None = None,
        *,
        max_keypoints: int | None = None,
        photometric: Photometric | None = None,
        origin: float | None = None,
    ) -> ModelFeatures:
        """Load a model for a dataset.

        Args:
            path: ``.onnx`` file or engine.
            cameras: of the dataset.
            placement: where and how it runs.
            max_keypoints: strongest kept per image; as many as the file gives by default.
            photometric: normalisation of the light instead of the model's own.
            origin: of the intrinsics; as :func:`pixel_origin` tells by default, and 0, kapture's, where it cannot.

        Raises:
            ModelError: unreadable, of another kind, or without keypoints.
            UsageError: cameras of two origins.
        """
        extractor = LocalExtractor.load(path, placement, photometric=photometric)
        if extractor.card.keypoints is not None and max_keypoints is not None:
            extractor.strongest = min(max_keypoints, extractor.card.keypoints.count)
        return cls(extractor, (pixel_origin(cameras) or 0.0) if origin is None else origin)

    @property
    def gives(self) -> FeatureRule:
        """What a matcher must be for."""
        return FeatureRule(self.extractor.card.name, self.extractor.dimension, False, self.pixel_origin)

    def features(self, scene: Scene, name: str) -> LocalFeatures:
        """Extract from the stored pixels, to which the intrinsics belong, whatever the EXIF orientation."""
        try:
            return self.extract(_stored_pixels(scene, name))
        except ImageError as error:
            raise DataError(f"{scene.image_path(name)}: {error}") from error

    def extract(self, pixels: npt.NDArray[np.uint8]) -> LocalFeatures:
        """Extract from an image.

        Args:
            pixels: uint8 ``[H, W, 3]`` RGB, as the file stores them.

        Raises:
            ImageError: too small, or it does not fit into memory.
        """
        with self._slots:
            (found,) = self.extractor([pixels])
        moved = found.keypoints + np.float32(self.pixel_origin - found.origin)
        return replace(found, keypoints=moved, origin=self.pixel_origin)

    def key(self, scene: Scene, name: str) -> str:
        """Hash of the file's content and :attr:`identity`."""
        return sha256_json(["model", self.identity, _content(scene, name)])

    @property
    def identity(self) -> list[Any]:
        """The model, what runs it, and the options: all that features depend on beside the image."""
        own, backend = self.extractor, self.extractor.session.backend
        model = [own.session.fingerprint, own.space, backend.backend, backend.version, backend.device]
        return [*model, own.strongest, self.pixel_origin]


@dataclass(frozen=True)
class KaptureFeatures:
    """Keypoints and descriptors stored beside a kapture dataset; descriptors are L2-normalised on reading.

    Scores are not stored, and stand as NaN.
    """

    reader: LocalFeatureReader

    @property
    def gives(self) -> FeatureRule:
        """What a matcher must be for: the features' type is their network's name."""
        return FeatureRule(self.reader.feature_type, self.reader.dimension)

    def holds(self, scene: Scene, name: str) -> bool:
        """Whether there are features of an image."""
        return name in self.reader

    def features(self, scene: Scene, name: str) -> LocalFeatures:
        """Read one image's features."""
        keypoints = self.reader.keypoints(name)[:, :2]
        descriptors = self.reader.descriptors(name)
        if len(keypoints) != len(descriptors):
            raise DataError(f"image {name!r}: {len(keypoints)} keypoints but {len(descriptors)} descriptors")
        norm = np.linalg.norm(descriptors, axis=1, keepdims=True)
        camera = scene.cameras.get(scene.records[name].camera_id) if name in scene.records else None
        return LocalFeatures(
            np.ascontiguousarray(keypoints),
            np.full(len(keypoints), np.nan, np.float32),
            descriptors / np.maximum(norm, 1e-12),
            (0, 0) if camera is None else (camera.width, camera.height),
            name=self.reader.feature_type,
        )

    def key(self, scene: Scene, name: str) -> str:
        """Hash of the stored values."""
        content = self.reader.keypoints(name).tobytes() + self.reader.descriptors(name).tobytes()
        return sha256_json(["kapture", self.reader.feature_type, sha256_bytes(content)])


@dataclass(frozen=True)
class OwnFeatures:
    """Features of one kapture type that each dataset holds itself.

    Attributes:
        readers: by the dataset's root, the map's first.

    Raises:
        IncompatibleError: descriptors of two lengths.
    """

    readers: Mapping[Path, LocalFeatureReader]

    def __post_init__(self) -> None:
        (root, first), *others = self.readers.items()
        for other_root, other in others:
            if other.dimension != first.dimension:
                raise IncompatibleError(
                    f"{other_root}: descriptors {other.feature_type!r} of {other.dimension} values, those of the map "
                    f"{root} have {first.dimension}; extract both alike"
                )

    @property
    def gives(self) -> FeatureRule:
        """What a matcher must be for."""
        return KaptureFeatures(next(iter(self.readers.values()))).gives

    def holds(self, scene: Scene, name: str) -> bool:
        """Whether there are features of an image."""
        return name in self.readers[scene.root]

    def features(self, scene: Scene, name: str) -> LocalFeatures:
        """Read one image's features."""
        return KaptureFeatures(self.readers[scene.root]).features(scene, name)

    def key(self, scene: Scene, name: str) -> str:
        """Hash of the stored values."""
        return KaptureFeatures(self.readers[scene.root]).key(scene, name)


def pixel_origin(cameras: Iterable[Camera]) -> float | None:
    """Where intrinsics have the centre of the first pixel, as principal points in the very middle of an image tell.

    Returns:
        0.5 where they are at half of width and height, as COLMAP's are; 0 where half a pixel before it; None where no
        principal point is in the middle.

    Raises:
        UsageError: some tell the one and some the other.
    """
    found = set()
    for camera in cameras:
        at = CENTRE_AT.get(camera.model, 2)
        offsets = {round(camera.width / 2 - x, 6) for x in camera.params[at : at + 1]}
        offsets |= {round(camera.height / 2 - y, 6) for y in camera.params[at + 1 : at + 2]}
        found |= {0.5 - offset for offset in offsets if len(offsets) == 1 and offset in (0.0, 0.5)}
    if len(found) > 1:
        raise UsageError(
            "some cameras have their principal point at half of the image's width and height, as COLMAP counts, and "
            "some half a pixel before it; say by --pixel-origin where the intrinsics count from"
        )
    return found.pop() if found else None


def to_arrays(features: LocalFeatures) -> dict[str, npt.NDArray[Any]]:
    """Every field as an array, to be kept."""
    return {what: np.asarray(value) for what, value in vars(features).items()}


def from_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> LocalFeatures:
    """What :func:`to_arrays` gave.

    Raises:
        KeyError: a field is missing.
    """
    kind = OrientedFeatures if "scales" in arrays else LocalFeatures
    width, height = map(int, arrays["size"])
    values: dict[str, Any] = {what: arrays[what] for what in kind.__dataclass_fields__}
    stated = {"size": (width, height), "name": str(arrays["name"]), "origin": float(arrays["origin"])}
    return kind(**values | stated)


def _stored_pixels(scene: Scene, name: str) -> npt.NDArray[np.uint8]:
    path = scene.image_path(name)
    try:
        return decode_image(path, upright=False)
    except ImageError as error:
        raise DataError(f"{path}: {error}") from error


def _content(scene: Scene, name: str) -> str:
    path = scene.image_path(name)
    if not path.is_file():
        raise DataError(f"{path}: the image is missing")
    return sha256_file(path)
