"""What every matcher of gloam promises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gloam.model_card import FeatureRule


@dataclass(frozen=True)
class Side:
    """Local features of one image of each pair of a batch.

    Attributes:
        keypoints: float32 ``[B, K, 2]``, x and y in pixels, the first pixel's centre at the matcher's pixel origin.
        descriptors: float32 ``[B, K, D]``.
        size: int32 ``[B, 2]``, height and width of the image.
        scales, orientations: float32 ``[B, K]``, where the matcher is for oriented features: diameter in pixels, and
            radians.
    """

    keypoints: Tensor
    descriptors: Tensor
    size: Tensor
    scales: Tensor | None = None
    orientations: Tensor | None = None

    def valid(self, counts: Tensor) -> Tensor:
        """Which rows are keypoints, bool ``[B, K]``, where the first ``counts``, int32 ``[B]``, are."""
        return torch.arange(self.keypoints.shape[1], device=counts.device) < counts[:, None]

    def cleared(self, valid: Tensor) -> Side:
        """Whatever stands in the padding becomes a keypoint in the middle of the image, of zeros."""
        middle = self.size.to(torch.float32).flip(1)[:, None] / 2
        rows = valid[..., None]
        return Side(
            torch.where(rows, self.keypoints, middle),
            torch.where(rows, self.descriptors, 0.0),
            self.size,
            None if self.scales is None else torch.where(valid, self.scales, 0.0),
            None if self.orientations is None else torch.where(valid, self.orientations, 0.0),
        )


class MatcherNetwork(nn.Module):
    """A matcher: the local features of two images to which are of one point.

    Attributes:
        name: its name in ``MATCHERS``.
        options: all options of the constructor, defaults included, JSON-ready.
        takes: the local features that it is for.
        threshold: probability that a match exceeds.
    """

    def __init__(self, name: str, takes: FeatureRule, options: dict[str, Any], threshold: float) -> None:
        super().__init__()
        self.name = name
        self.takes = takes
        self.options = options
        self.threshold = threshold

    def match_batch(self, first: Side, second: Side, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Matches of pairs whose numbers of keypoints differ, each as if it stood alone.

        Args:
            first, second: padded to one number of keypoints each; what the padding holds is no matter.
            counts: int32 ``[B, 2]``, keypoints of either image; of fewer than 2 no match comes.

        Returns:
            matches int32 ``[B, K0]``: of each first keypoint the row of its match in the second image, or -1; and
            scores float32 ``[B, K0]``: the probability of its likeliest partner, match or not. Padding has -1 and 0.
        """
        raise TypeError(f"{type(self).__name__} defines no match_batch")

    def match_pair(self, first: Side, second: Side) -> tuple[Tensor, Tensor]:
        """:meth:`match_batch` of pairs without padding, without a mask: its plain twin."""
        raise TypeError(f"{type(self).__name__} defines no match_pair")

    def forward(
        self,
        keypoints0: Tensor,
        keypoints1: Tensor,
        descriptors0: Tensor,
        descriptors1: Tensor,
        sizes0: Tensor,
        sizes1: Tensor,
        counts: Tensor,
        scales0: Tensor | None = None,
        scales1: Tensor | None = None,
        orientations0: Tensor | None = None,
        orientations1: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The exported graph: :meth:`match_batch` by flat inputs."""
        return self.match_batch(
            Side(keypoints0, descriptors0, sizes0, scales0, orientations0),
            Side(keypoints1, descriptors1, sizes1, scales1, orientations1),
            counts,
        )
