"""LocalExtractor: images in, the strongest local features of several scales out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from gloam.data.images import MIN_SIDE, resize_image
from gloam.data.photometric import apply_photometric
from gloam.errors import ImageError, UsageError
from gloam.model_card import InputRule, ModelCard, Photometric
from gloam.runtime.backends.placement import Placement
from gloam.runtime.backends.selftest import open_tested
from gloam.runtime.backends.session import Session

STRONGEST = 1000  # features of an image, as HOW is evaluated


@dataclass(frozen=True, eq=False)
class AttendedFeatures:
    """Features of one image, the strongest first.

    Attributes:
        descriptors: float32 ``[n, D]``, not unit vectors.
        attention: float32 ``[n]``, falling; the image's strongest cell has 1.
        positions: float32 ``[n, 2]``, x and y in pixels, inside the image as it was given.
        scales: float32 ``[n]``, of the image at which each was found, in the size that the model's input rule gives it.
    """

    descriptors: npt.NDArray[np.float32]
    attention: npt.NDArray[np.float32]
    positions: npt.NDArray[np.float32]
    scales: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.attention)


class LocalExtractor:
    """An exported model of local features.

    Args:
        session: a loaded model of kind ``local_features``.
        strongest: features to keep of each image.
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
        strongest: int = STRONGEST,
        photometric: Photometric | None = None,
        input_rule: InputRule | None = None,
    ) -> None:
        _expect_local(session.card, session.card.name)
        if strongest < 1:
            raise UsageError(f"local features: {strongest} of each image are asked for; ask for 1 or more")
        self.session = session
        self.strongest = strongest
        self.card: ModelCard = session.card if photometric is None else session.card.with_photometric(photometric)
        if input_rule is not None:
            self.card = self.card.with_input_rule(input_rule)
        self.input_rule = self.card.reads
        self.dimension = int(self.card.dimension or 0)
        self.space = self.card.space()

    @classmethod
    def load(
        cls,
        path: str | Path,
        placement: Placement | None = None,
        *,
        strongest: int = STRONGEST,
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

    def __call__(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[AttendedFeatures]:
        """Extract from images that are brought to the sizes of the model's input rule, as decoding would.

        Args:
            images: uint8 ``[H, W, 3]`` RGB each, upright, of any sizes; each is run alone.

        Returns:
            features of each image, in the order given.

        Raises:
            ImageError: not such an array, or a side under 32 px, once it is reduced.
        """
        for image in images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ImageError(f"an image must be uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
            if min(image.shape[:2]) < MIN_SIDE:
                raise ImageError(f"{image.shape[1]}x{image.shape[0]} is too small; {MIN_SIDE} px a side at least")
        return [self._extract(image) for image in images]

    def _extract(self, image: npt.NDArray[np.uint8]) -> AttendedFeatures:
        resized = resize_image(image, self.input_rule)
        prepared = apply_photometric(resized, self.card.photometric)
        outputs = self.session.run({self.card.inputs[0].name: prepared[None]})
        features, attention, positions, scales = (outputs[spec.name] for spec in self.card.outputs)
        rows = strongest_first(attention[0], self.strongest)
        size = np.array((image.shape[1], image.shape[0]), np.float32)
        ratio = size / np.array((resized.shape[1], resized.shape[0]), np.float32)
        places = positions[rows] if resized is image else (positions[rows] + 0.5) * ratio - 0.5  # centres, not corners
        return AttendedFeatures(
            features[0][rows].astype(np.float32, copy=False),
            attention[0][rows].astype(np.float32, copy=False),
            places.clip(0, size - 1),  # the last cell of a row may be centred beyond the border
            scales[rows],
        )


def _expect_local(card: ModelCard, where: str) -> None:
    card.expect_kind("local_features", where)


def strongest_first(attention: npt.NDArray[np.floating], count: int) -> npt.NDArray[np.int64]:
    """Rows of the ``count`` largest values, falling; of equal ones the first."""
    order: npt.NDArray[np.int64] = np.argsort(-attention, kind="stable")[:count]
    return order
