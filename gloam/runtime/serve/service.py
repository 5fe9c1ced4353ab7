"""What a service answers, without HTTP: models, index and map are opened once, and asked from many threads."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from gloam.data.images import decode_image, image_size, open_image
from gloam.data.kapture_text import read_camera
from gloam.data.scene import Camera, Pose
from gloam.errors import GloamError, ImageError, UsageError
from gloam.files import inside
from gloam.model_card import expect_same_space
from gloam.runtime.backends.session import run_together
from gloam.runtime.localization.localizer import LocalizedImage, Localizer, MapMatches
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.search.index import DescriptorIndex
from gloam.runtime.serve.options import Limits, ServeRequest

FILM = 36.0  # mm, longer side of the film that EXIF's focal length is given for
SHOWN_POINTS = 4000  # of a map, evenly chosen
SHOWN_SIDE = 1024  # longer side of a map image that is shown, pixels

Pixels = npt.NDArray[np.uint8]
Row = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Describer:
    """An embedder, and how images are read for it."""

    embedder: Embedder
    fast: bool = False

    def read(self, content: bytes) -> Pixels:
        """An image as `gloam extract` reads it: upright, at the size of the input rule.

        Raises:
            ImageError: the reason.
        """
        return decode_image(content, rule=self.embedder.input_rule, fast=self.fast)

    def describe(self, images: Sequence[Pixels]) -> list[Row | Exception]:
        """The descriptor of each image, or why it has none.

        On a CPU every image is a run of its own, so that the descriptor is the same to the bit whatever is asked beside
        it; a GPU is given as many as the model takes.
        """
        backend = self.embedder.session.backend
        if backend.on_cpu:
            return run_together(self._alone, images, backend)
        try:
            return [_finite(row) for row in self.embedder(images)]
        except GloamError:  # of one of them
            return [self._alone(image) for image in images]

    @property
    def at_once(self) -> int:
        """Images worth giving at once."""
        backend = self.embedder.session.backend
        return backend.runs_at_once if backend.on_cpu else self.embedder.batch_size

    def _alone(self, image: Pixels) -> Row | Exception:
        try:
            return _finite(self.embedder([image])[0])
        except GloamError as error:
            return error


def _finite(row: Row) -> Row | Exception:
    if np.isfinite(row).all():
        return row
    return ImageError("the embedder gives no finite descriptor of the image; `gloam check` says more of the model")


@dataclass(frozen=True, eq=False)
class Service:
    """All that is asked.

    Attributes:
        describer: of ``/v1/embed``.
        searcher: of queries of the index; the same object where they are read alike.
        index: None where none is served.
        localizer: None where no map is served.
        images: folder of the map's images, or None.
        limits: of requests.
    """

    describer: Describer
    searcher: Describer | None
    index: DescriptorIndex | None
    localizer: Localizer | None
    images: Path | None
    limits: Limits

    @classmethod
    def open(cls, request: ServeRequest) -> Self:
        """Open what is served.

        Raises:
            ModelError: a model that cannot be read, or of another kind.
            StoreError: no index or map, or a damaged one.
            IncompatibleError: an index or map of another space than the model's.
            MissingExtraError: FAISS or pycolmap is not installed.
        """
        embedder = Embedder.load(request.model, request.placement)
        describer, searcher, index, localizer = Describer(embedder), None, None, None
        if request.index is not None:
            index = DescriptorIndex.open(request.index, trust=request.trust)
            own, fast = embedder.reading_as(index.card.options), bool(index.card.options.get("fast_decode"))
            expect_same_space(index.card.space, own.untranslated_space, str(request.model))
            searcher = describer if own is embedder and not fast else Describer(own, fast)
        if request.map is not None:
            localizer = Localizer.open(
                request.map,
                embedder=embedder,
                extractor=request.extractor,
                matcher=request.matcher,
                placement=request.placement,
                trust=request.trust,
            )
        return cls(describer, searcher, index, localizer, request.images, request.limits)

    def check(self, content: bytes) -> tuple[int, int]:
        """Width and height of an image as its file stores it, from the header.

        Raises:
            ImageError: no image, or one of more pixels than are let in.
        """
        if not content:
            raise ImageError("the body is empty; send an image's bytes")
        try:
            width, height = image_size(content)
        except Image.DecompressionBombError as error:
            raise ImageError(f"more than {self.limits.pixels} pixels; send a smaller image") from error
        except Exception as error:  # headers are parsed by decoders, which raise OSError, SyntaxError and more
            raise ImageError("the body is not an image that can be decoded; send a JPEG's or PNG's bytes") from error
        if width * height > self.limits.pixels:
            raise ImageError(f"{width}x{height} is more than {self.limits.pixels} pixels; send a smaller image")
        return width, height

    def search(self, row: Row, k: int) -> list[tuple[str, float]]:
        """The ``k`` most similar images of the index, best first. Not from two threads at once."""
        assert self.index is not None
        assert self.searcher is not None
        names, scores = self.index.search(row[None], k, space=self.searcher.embedder.untranslated_space)
        return [(name, float(score)) for name, score in zip(names[0], scores[0], strict=True) if name]

    def camera(self, content: bytes, given: str | None) -> tuple[Camera, str]:
        """Intrinsics of an image, and where they are from: ``request``, ``map``, the only camera there of that size, or
        ``exif``, its focal length.

        Args:
            content: of the file.
            given: ``MODEL,width,height,parameters`` with commas or spaces; None for none.

        Raises:
            DataError: what was given are no intrinsics.
            UsageError: none were given, and none are known.
        """
        if given is not None:
            return read_camera(given.replace(",", " ").split(), "camera", "the image", needed=True), "request"
        assert self.localizer is not None
        size = self.check(content)
        alike = {camera for camera in self.localizer.world.card.cameras if (camera.width, camera.height) == size}
        if len(alike) == 1:
            return alike.pop(), "map"
        if focal := exif_focal(content):
            pixels = focal / FILM * max(size)
            return Camera("SIMPLE_PINHOLE", *size, (pixels, size[0] / 2, size[1] / 2)), "exif"
        raise UsageError(
            f"the image's intrinsics are not known: the map has {len(alike)} cameras of {size[0]}x{size[1]} and the "
            "file no EXIF focal length; give camera=MODEL,width,height,parameters"
        )

    def localize(self, content: bytes, camera: Camera, name: str) -> tuple[LocalizedImage, list[MapMatches]]:
        """Pose of an image, and what it was matched with; from many threads at once."""
        assert self.localizer is not None
        return self.localizer.with_matches(content, camera, name)

    @cached_property
    def shown_map(self) -> dict[str, Any]:
        """Cameras and points of the map, JSON-ready."""
        assert self.localizer is not None
        world = self.localizer.world
        points = np.asarray(world.arrays["points"], np.float64).reshape(-1, 3)
        rows = np.linspace(0, max(len(points) - 1, 0), min(SHOWN_POINTS, len(points))).round().astype(int)
        posed = [(image.name, image.pose.center, image.pose.rotation[2]) for image in world.card.images]
        return {
            "images": [
                {"name": name, "position": center.round(4).tolist(), "direction": axis.round(4).tolist()}
                for name, center, axis in posed
            ],
            "points": points[rows].round(3).tolist(),
            **_from_above([image.pose for image in world.card.images]),
            "pictures": self.images is not None,
        }

    def picture(self, name: str) -> bytes:
        """An image of the map as a JPEG, its pixels as stored, reduced to :data:`SHOWN_SIDE`.

        Raises:
            UsageError: no such image, or the images are not served.
            ImageError: it cannot be read.
        """
        if self.images is None or self.localizer is None or name not in self._known:
            raise UsageError(f"no image of the map is called {name!r}, or its images are not served (--images)")
        pixels = Image.fromarray(decode_image(inside(self.images, name), upright=False))
        pixels.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
        out = io.BytesIO()
        pixels.save(out, "JPEG", quality=85)
        return out.getvalue()

    @cached_property
    def _known(self) -> frozenset[str]:
        assert self.localizer is not None
        return frozenset(self.localizer.world.names)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What is served, JSON-ready."""
        own = self.describer.embedder
        found: dict[str, Any] = {
            "model": own.card.name,
            "dimension": own.dimension,
            "space": own.space,
            "fingerprint": own.fingerprint,
            "index": None if self.index is None else len(self.index.names),
            "map": None,
        }
        if self.localizer is not None:
            card = self.localizer.world.card
            sizes = Counter(f"{camera.width}x{camera.height}" for camera in card.cameras)
            found["map"] = {"images": len(card.images), "camera_sizes": dict(sizes)}
        return found


def _from_above(poses: Sequence[Pose]) -> dict[str, list[float]]:
    """Axes of a view from above: level as the cameras are on average, along the longer side of where they stand."""
    up = -np.mean([pose.rotation[1] for pose in poses], axis=0)
    up = up / np.linalg.norm(up) if np.linalg.norm(up) > 1e-6 else np.array([0.0, 0.0, 1.0])
    centers = np.stack([pose.center for pose in poses])
    level = (centers - centers.mean(axis=0)) @ (np.eye(3) - np.outer(up, up))
    right = np.linalg.svd(level, full_matrices=True)[2][0]
    right = right - up * (right @ up)
    if np.linalg.norm(right) < 1e-6:  # all stand at one place
        right = np.cross(up, np.eye(3)[np.abs(up).argmin()])
    right = right / np.linalg.norm(right)
    return {"right": right.tolist(), "ahead": np.cross(up, right).tolist()}


def exif_focal(content: bytes) -> float:
    """The focal length of a photograph in mm, as of 36 mm film; 0 where the file does not say it."""
    try:
        with open_image(io.BytesIO(content)) as image:
            found = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.FocalLengthIn35mmFilm, 0)
            focal = float(found)
    except Exception:  # a damaged header says nothing
        return 0.0
    return focal if 1 <= focal <= 10_000 else 0.0
