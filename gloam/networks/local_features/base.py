"""What every network of local features promises: images in, the strongest keypoints with their descriptors out."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from gloam.networks.local_features.detect import only_found


class LocalFeatureNetwork(nn.Module):
    """A network of keypoints and descriptors. Its keys are those of the weights that its authors published.

    Args:
        options: of the constructor, JSON-ready.
        dimension: D of a descriptor.

    Attributes:
        name: its name in ``EXTRACTORS``.
        licence: of the weights that the authors published.
        threshold: of a keypoint's score, as the authors use it; 0 for none.
        minimum: smallest image side, pixels.
        traced_from: smallest side that the exporter may assume; at a smaller one it would meet a map of one cell and
            take that for a case of its own.
        not_fixed: why padding would change its keypoints.
        largest: longer side of the images that it is for, pixels; None for any.
        mean, std: of the normalisation on [0, 1], for the card.
        options, dimension: see above.
    """

    name: ClassVar[str] = ""
    licence: ClassVar[str] = "unknown"
    threshold: ClassVar[float] = 0.0
    minimum: ClassVar[int] = 32
    traced_from: ClassVar[int] = 32
    mean: ClassVar[tuple[float, ...]] = (0.0, 0.0, 0.0)
    std: ClassVar[tuple[float, ...]] = (1.0, 1.0, 1.0)
    not_fixed: ClassVar[str] = "padding would change its keypoints"
    largest: int | None = None

    def __init__(self, options: dict[str, Any], dimension: int) -> None:
        super().__init__()
        self.options = options
        self.dimension = dimension

    def forward(self, images: Tensor, count: int, threshold: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Keypoints and what describes them.

        Args:
            images: float ``[B, 3, H, W]``, RGB in [0, 1].
            count: of keypoints to give.
            threshold: of their scores; 0 for the ``count`` strongest.

        Returns:
            keypoints ``[B, count, 2]``, x and y in pixels, the centre of the first pixel at 0;
            scores ``[B, count]``; descriptors ``[B, count, D]``, not yet of unit length;
            whether each is one, bool ``[B, count]``.
        """
        raise TypeError(f"{type(self).__name__} defines no forward")

    def extract_uint8(self, images: Tensor, count: int, threshold: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The exported graph.

        Args:
            images: uint8 ``[B, H, W, 3]``, RGB.
            count, threshold: see :meth:`forward`.

        Returns:
            keypoints float32 ``[B, count, 2]``, scores ``[B, count]``, unit descriptors ``[B, count, D]``, all zero
            behind those that there are, and how many there are, int64 ``[B]``.
        """
        x = images.to(torch.float32).permute(0, 3, 1, 2) / 255
        points, scores, descriptors, found = self(x, count, threshold)
        points, scores, descriptors = only_found(found, points, scores, functional.normalize(descriptors, dim=2))
        return points, scores, descriptors, found.sum(1)
