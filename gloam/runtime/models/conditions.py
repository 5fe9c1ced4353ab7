"""What a model takes beside its images: a domain's code or a filter, and noise; for a picture the same in any batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.files import sha256_bytes, sha256_json
from gloam.model_card import TensorSpec
from gloam.padding import Anchor, reflect_to

Pixels = npt.NDArray[np.uint8]
LABEL, APPEARANCE = "label", "appearance"
NOISES = ("noise", "alignment")  # numbers of an image, and a map over it


@dataclass(frozen=True)
class Conditions:
    """The inputs of a graph behind its images, and what they are fed.

    Noise is drawn for each image from the seed and from what the image shows, its pixels: not from its name, its place
    in a list, its batch or its neighbours. A map of noise is drawn at the image's own size and continued by reflection
    with it, so that padding draws nothing. The draws are numpy's.

    Attributes:
        specs: the inputs, each with the default that holds.
        seed: of the noise; None feeds the defaults, which are zeros.
    """

    specs: tuple[TensorSpec, ...] = ()
    seed: int | None = None

    @property
    def noisy(self) -> bool:
        """Whether any of the inputs is noise."""
        return any(spec.name in NOISES for spec in self.specs)

    def told(self, name: str, values: tuple[float, ...]) -> Conditions:
        """The same with other values for an input: the code of a domain, or a filter."""
        return replace(
            self, specs=tuple(replace(spec, default=values) if spec.name == name else spec for spec in self.specs)
        )

    def identity(self, fingerprint: str, own: Sequence[TensorSpec]) -> str:
        """Hex sha256 of a model that is fed these.

        Args:
            fingerprint: of the model that is fed its own defaults, which it keeps where these are the same.
            own: its inputs behind the images.
        """
        codes = [spec.default for spec, usual in zip(self.specs, own, strict=True) if spec.default != usual.default]
        told: list[Any] = [*codes, *([] if self.seed is None else [{"noise": self.seed}])]
        return sha256_json([fingerprint, *told]) if told else fingerprint

    def filled(
        self, images: Sequence[Pixels], shape: tuple[int, int], anchor: Anchor = "center"
    ) -> dict[str, npt.NDArray[Any]]:
        """What a batch is fed, by the names of the inputs.

        Args:
            images: uint8 ``[h, w, C]`` each, before their padding.
            shape, anchor: (H, W) that they are padded to by :func:`gloam.padding.reflect_to`, and their place in it.

        Returns:
            arrays whose first axis is the images', of the dtypes and shapes that the card states.

        Raises:
            ModelError: an input has no default.
        """
        if self.seed is None or not self.noisy:
            return {spec.name: spec.filled(len(images), *shape) for spec in self.specs}
        keys = [int(pixels_sha256(image), 16) for image in images]
        return {
            spec.name: np.stack([self._drawn(spec, *each, shape, anchor) for each in zip(images, keys, strict=True)])
            if spec.name in NOISES
            else spec.filled(len(images), *shape)
            for spec in self.specs
        }

    def _drawn(
        self, spec: TensorSpec, image: Pixels, key: int, shape: tuple[int, int], anchor: Anchor
    ) -> npt.NDArray[Any]:
        assert self.seed is not None  # by filled
        random = np.random.default_rng([self.seed, NOISES.index(spec.name), key])
        size = spec.sized(1, image.shape[0], image.shape[1], spec.name)[1:]
        drawn = random.standard_normal(size).astype(spec.dtype)
        if len(size) < 3:
            return drawn
        return reflect_to(drawn.transpose(1, 2, 0), shape, anchor)[0].transpose(2, 0, 1)


def pixels_sha256(image: Pixels) -> str:
    """Hex sha256 of an image's shape and pixels."""
    return sha256_bytes(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes())
