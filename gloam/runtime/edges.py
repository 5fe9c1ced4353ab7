"""EdgeDetector: images in, edge probabilities of the same sizes out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gloam.runtime.image_model import ImageModel, Pixels, to_uint8
from gloam.runtime.session import Session


class EdgeDetector:
    """An exported edge detector.

    Args:
        session: a loaded model of kind ``edges``.

    Attributes:
        card, name, fingerprint: of the model.
        batch_size, backend: see :class:`gloam.runtime.image_model.ImageOperation`.
    """

    def __init__(self, session: Session) -> None:
        session.card.expect_kind("edges", session.card.name)
        self._model = ImageModel(session)
        self.session = session
        self.card = session.card
        self.name = session.card.name
        self.fingerprint = session.fingerprint
        self.batch_size = self._model.batch_size
        self.backend = session.backend

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu", threads: int | None = None) -> EdgeDetector:
        """Load an ``.onnx`` file.

        Args:
            path: the model.
            device: ``cpu`` or ``cuda``; refused where it is not active.
            threads: of the backend; all cores by default.

        Raises:
            ModelError: unreadable, or of another kind.
        """
        return cls(ImageModel.load(path, "edges", device, threads).session)

    def check(self, image: Pixels) -> None:
        """Raise ImageError where an array is no image."""
        self._model.check(image)

    def probabilities(self, images: Sequence[Pixels]) -> list[npt.NDArray[np.float32]]:
        """Edge probabilities.

        Args:
            images: uint8 ``[h, w, 3]`` RGB each, of any sizes.

        Returns:
            float32 ``[h, w]`` in [0, 1] each, in the order given.
        """
        return self._model.maps(images)

    def __call__(self, images: Sequence[Pixels]) -> list[Pixels]:
        """Edge maps as grey pictures: uint8 ``[h, w]`` each, 255 where an edge is certain."""
        return [to_uint8(values * np.float32(255)) for values in self.probabilities(images)]
