"""LocalExtractor: images in, the strongest local features out: keypoints with descriptors, or HOW's cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from gloam.data.images import MIN_SIDE, resize_image
from gloam.data.photometric import apply_photometric
from gloam.errors import ImageError, UsageError
from gloam.model_card import InputRule, ModelCard, Photometric
from gloam.runtime.backends.placement import Placement
from gloam.runtime.backends.selftest import open_tested
from gloam.runtime.backends.session import Session
from gloam.runtime.models.image_model import run_images

STRONGEST = 1000  # HOW's features of an image, as it is evaluated


@dataclass(frozen=True, eq=False)
class LocalFeatures:
    """Keypoints of one image and what describes them, in the order in which the network prefers them.

    Attributes:
        keypoints: float32 ``[n, 2]``, x and y in pixels of the image as it was given, the centre of the first pixel
            at the card's ``keypoints.origin``, which is 0: COLMAP counts from 0.5.
        scores: float32 ``[n]``; ALIKED's and ALIKE's are of the place that a keypoint was moved to, and the order is by
            the pixel that it was found at.
        descriptors: float32 ``[n, D]``, of unit length.
        size: (width, height) of the image as it was given, pixels.
        name: of the network that gave them, or ``sift``; what a matcher is for.
        origin: see ``keypoints``.
    """

    keypoints: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    descriptors: npt.NDArray[np.float32]
    size: tuple[int, int]
    name: str = field(default="", kw_only=True)
    origin: float = field(default=0.0, kw_only=True)

    def __len__(self) -> int:
        return len(self.keypoints)


@dataclass(frozen=True, eq=False)
class OrientedFeatures(LocalFeatures):
    """SIFT's, and others' that have a size and a direction.

    Attributes:
        scales: float32 ``[n]``, diameters in pixels, as OpenCV gives them.
        orientations: float32 ``[n]``, radians.
    """

    scales: npt.NDArray[np.float32]
    orientations: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class AttendedFeatures(LocalFeatures):
    """HOW's features: the cells of several scales, whose descriptors are no unit vectors.

    Attributes:
        scales: float32 ``[n]``, of the image at which each was found, in the size that the model's input rule gives it.
    """

    scales: npt.NDArray[np.float32]

    @property
    def attention(self) -> npt.NDArray[np.float32]:
        """The scores; the image's strongest cell has 1."""
        return self.scores

    @property
    def positions(self) -> npt.NDArray[np.float32]:
        """The keypoints: centres of the cells, inside the image."""
        return self.keypoints


class LocalExtractor:
    """An exported model of local features.

    Args:
        session: a loaded model of kind ``local_features``.
        strongest: features to keep of each image; by default as many keypoints as the file gives, and 1000 of HOW's.
        photometric: normalisation to apply instead of the card's; the features are then of another space.
        input_rule: sizes that images are brought to first instead of the card's; again another space.

    Attributes:
        card: the model's card, with the input rule and the normalisation that are really applied.
        input_rule: the sizes that images are brought to first.
        dimension, space: of the features.
    """

    def __init__(
        self,
        session: Session,
        strongest: int | None = None,
        photometric: Photometric | None = None,
        input_rule: InputRule | None = None,
    ) -> None:
        _expect_local(session.card, session.card.name)
        if strongest is not None and strongest < 1:
            raise UsageError(f"local features: {strongest} of each image are asked for; ask for 1 or more")
        self.session = session
        self.card: ModelCard = session.card if photometric is None else session.card.with_photometric(photometric)
        if input_rule is not None:
            self.card = self.card.with_input_rule(input_rule)
        given = STRONGEST if self.card.keypoints is None else self.card.keypoints.count
        self.strongest = given if strongest is None else strongest
        self.input_rule = self.card.reads
        self.dimension = int(self.card.dimension or 0)
        self.space = self.card.space()

    @classmethod
    def load(
        cls,
        path: str | Path,
        placement: Placement | None = None,
        *,
        strongest: int | None = None,
        photometric: Photometric | None = None,
        input_rule: InputRule | None = None,
    ) -> Self:
        """Load an ``.onnx`` file.

        Args:
            path: the model.
            placement: where and how it runs; on the CPU by default.
            strongest, photometric, input_rule: see :class:`LocalExtractor`.

        Raises:
            ModelError: unreadable, of another kind, or its self-test fails here.
        """
        return cls(open_tested(path, placement, _expect_local), strongest, photometric, input_rule)

    def __call__(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[LocalFeatures]:
        """Extract from images that are brought to the sizes of the model's input rule, as decoding would.

        Args:
            images: uint8 ``[H, W, 3]`` RGB each, of any sizes; each is run alone. Keypoints for poses need the pixels
                as the file stores them, which no EXIF orientation has turned; HOW needs them upright.

        Returns:
            features of each image, in the order given; :class:`AttendedFeatures` of a HOW model.

        Raises:
            ImageError: not such an array, a side under 32 px, once it is reduced, a size that an engine was not built
                for, or it does not fit into memory.
        """
        for image in images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ImageError(f"an image must be uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
            if min(image.shape[:2]) < MIN_SIDE:
                raise ImageError(f"{image.shape[1]}x{image.shape[0]} is too small; {MIN_SIDE} px a side at least")
        return [self._extract(image) for image in images]

    def _extract(self, image: npt.NDArray[np.uint8]) -> LocalFeatures:
        resized = resize_image(image, self.input_rule)
        self.session.card.profile.shape_for(*resized.shape[:2])
        prepared = apply_photometric(resized, self.card.photometric)
        found = run_images(self.session, {self.card.inputs[0].name: prepared[None]})
        outputs = [found[spec.name] for spec in self.card.outputs]
        size = (image.shape[1], image.shape[0])

        def given(points: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
            whole = np.array(size, np.float32)
            ratio = whole / np.array((resized.shape[1], resized.shape[0]), np.float32)
            places = points if resized is image else (points + 0.5) * ratio - 0.5  # centres, not corners
            inside: npt.NDArray[np.float32] = places.clip(0, whole - 1)  # a row's last cell may be centred beyond it
            return inside

        def floats(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
            return values.astype(np.float32, copy=False)

        if self.card.keypoints is None:
            features, attention, positions, scales = outputs
            rows = strongest_first(attention[0], self.strongest)
            return AttendedFeatures(
                given(positions[rows]),
                floats(attention[0][rows]),
                floats(features[0][rows]),
                size,
                scales[rows],
                name=self.card.name,
            )
        keypoints, scores, descriptors, count = outputs
        first = slice(min(int(count[0]), self.strongest))  # in the file's order, so as if it gave no more than these
        return LocalFeatures(
            given(keypoints[0][first]),
            floats(scores[0][first]),
            floats(descriptors[0][first]),
            size,
            name=self.card.name,
            origin=self.card.keypoints.origin,
        )


def _expect_local(card: ModelCard, where: str) -> None:
    card.expect_kind("local_features", where)


def strongest_first(attention: npt.NDArray[np.floating], count: int) -> npt.NDArray[np.int64]:
    """Rows of the ``count`` largest values, falling; of equal ones the first."""
    order: npt.NDArray[np.int64] = np.argsort(-attention, kind="stable")[:count]
    return order
