"""Appearance: an example image in, the filter of its appearance out, which a translator takes beside other images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gloam.errors import ImageError, ModelError
from gloam.runtime.backends.session import Session, run_together
from gloam.runtime.models.image_model import LoadedModel, Pixels, run_images

Filters = npt.NDArray[np.float32]


class Appearance(LoadedModel):
    """An exported appearance encoder: uint8 ``[h, w, 3]`` RGB images in, a filter of each out.

    A filter belongs to the translator that was exported from the same weights: ``Translator.with_appearance`` takes
    one, ``Translator.like`` an encoder and examples. The mean of several images' filters is a filter too.

    Args:
        session: a loaded model of kind ``appearance``.

    Attributes:
        card, fingerprint: of the file.
        size: numbers of a filter.
    """

    kind = "appearance"

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        size = self.card.outputs[0].shape[-1]
        if not isinstance(size, int):
            raise ModelError(f"{self.card.name}: the model card does not state the size of a filter; export it again")
        self.size = size

    def filter(self, image: Pixels) -> Filters:
        """The filter of one image, float32 ``[size]``; see :meth:`__call__`."""
        found: Filters = self([image])[0]
        return found

    def __call__(self, images: Sequence[Pixels]) -> Filters:
        """Filters of images, each at its own size and alone.

        Args:
            images: uint8 ``[h, w, 3]`` RGB each; ``[h, w, 1]`` is grey.

        Returns:
            float32 ``[n, size]``, in the order given.

        Raises:
            ImageError: not such an array, too small, or too large for the memory.
            ModelError: the model gives values that are not finite, or of another size than its card says.
        """
        channels = int(self.card.inputs[0].shape[3])
        for image in images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, channels):
                raise ImageError(f"an image must be uint8 [H, W, {channels}], not {image.dtype} {list(image.shape)}")
            self.card.profile.shape_for(image.shape[0], image.shape[1])

        def run(image: Pixels) -> Filters:
            batch = np.repeat(image, channels, axis=2) if image.shape[2] != channels else image
            output = run_images(self.session, {self.card.inputs[0].name: batch[None]})[self.card.outputs[0].name]
            return output.astype(np.float32, copy=False)

        found = run_together(run, list(images), self.session.backend)
        filters = np.concatenate([np.zeros((0, self.size), np.float32), *found])
        if filters.shape != (len(images), self.size) or not np.isfinite(filters).all():
            raise ModelError(
                f"{self.card.name}: gave no finite filters of {self.size} numbers; run `gloam check` on it"
            )
        return filters
