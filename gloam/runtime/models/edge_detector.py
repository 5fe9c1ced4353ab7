"""EdgeDetector: images in, edge probabilities of the same sizes out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gloam.runtime.models.image_model import ModelOperation, Pixels, to_uint8


class EdgeDetector(ModelOperation):
    """An exported edge detector: uint8 ``[h, w, 3]`` RGB images in, edge probabilities or pictures of them out.

    Attributes:
        card: what the file says of itself.
        fingerprint: of the file, hex sha256.

    Raises:
        ModelError: the file is of another kind, or refuses an image's size.
    """

    kind = "edges"

    def probabilities(self, images: Sequence[Pixels]) -> list[npt.NDArray[np.float32]]:
        """Edge probabilities.

        Args:
            images: uint8 ``[h, w, 3]`` RGB each, of any sizes.

        Returns:
            float32 ``[h, w]`` in [0, 1] each, in the order given.
        """
        return self._model.maps(images)

    def __call__(self, images: Sequence[Pixels]) -> list[Pixels]:
        """Edge maps as grey pictures.

        Args:
            images: uint8 ``[h, w, 3]`` RGB each, of any sizes.

        Returns:
            uint8 ``[h, w]`` each, 255 where an edge is certain.
        """
        return [to_uint8(values * np.float32(255)) for values in self.probabilities(images)]
