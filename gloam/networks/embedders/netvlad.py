"""NetVLAD on VGG16 (Arandjelović et al. 2016): residuals to 64 centres, softly assigned.

Keys: ``features.*``, ``pool.conv.*``, ``pool.centroids`` and, with whitening, ``whiten.*``. A descriptor lies K-major
(index ``k * D + d``), as the public PyTorch weights have it; a whitening learned on D-major vectors needs its columns
permuted on import.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gloam.errors import ModelError
from gloam.networks.embedders.base import IMAGENET_MEAN, IMAGENET_STD, EmbedderNetwork
from gloam.networks.embedders.vgg import STAGES, VGG16
from gloam.networks.masks import Masks


class NetVLAD(nn.Module):
    """Aggregation of local features to ``clusters * dimension`` values.

    Computed as ``A X^T - diag(A 1) C``, which equals the sum of residuals ``a_k(x) (x - c_k)`` over all cells without
    ever storing a residual.

    Args:
        clusters: K, 64 in the paper.
        dimension: D of a local feature.
        bias: whether the assignment has one (``vladv2`` weights).
    """

    def __init__(self, clusters: int, dimension: int, bias: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dimension, clusters, 1, bias=bias)
        self.centroids = nn.Parameter(torch.rand(clusters, dimension))

    def forward(self, x: Tensor, masks: Masks | None = None) -> Tensor:
        """Float ``[B, D, H, W]`` to unit ``[B, K * D]``; cells beyond the masks are assigned to no cluster."""
        x = functional.normalize(x, dim=1)
        assigned = self.conv(x).softmax(1)
        if masks is not None:
            assigned = assigned * masks.inside
        assigned = assigned.flatten(2)
        residuals = assigned @ x.flatten(2).mT - assigned.sum(2, keepdim=True) * self.centroids
        return functional.normalize(functional.normalize(residuals, dim=2).flatten(1), dim=1)

    @torch.no_grad()
    def initialize(self, centroids: Tensor, features: Tensor) -> float:
        """Start from k-means centres, the assignment as sharp as the features ask for.

        Args:
            centroids: ``[K, D]`` k-means centres of unit features.
            features: unit local features ``[n, D]``; for the mean gap between the best and the second-best centre.

        Returns:
            alpha, with which a feature's best centre gets 100 times the weight of the second on average.

        Raises:
            ModelError: of another number or dimension than the layer's.
        """
        if centroids.shape != self.centroids.shape or features.ndim != 2 or features.shape[1] != centroids.shape[1]:
            raise ModelError(
                f"NetVLAD has {self.centroids.shape[0]} centres of {self.centroids.shape[1]} values; got centres "
                f"{tuple(centroids.shape)} and features {tuple(features.shape)}"
            )
        directions = functional.normalize(centroids, dim=1)
        best = (features @ directions.T).topk(2, dim=1).values
        alpha = -math.log(0.01) / float((best[:, 0] - best[:, 1]).mean())
        self.centroids.copy_(centroids)
        self.conv.weight.copy_((alpha * directions)[:, :, None, None])
        if self.conv.bias is not None:
            self.conv.bias.zero_()
        return alpha


class NetVLADVGG16(EmbedderNetwork):
    """VGG16 up to its last convolution, without the ReLU behind it, then NetVLAD and an optional PCA whitening.

    14.71 M parameters in the convolutions; a whitening to 4096 adds 134.2 M.

    Args:
        clusters: K of NetVLAD.
        whitening: dimension of the whitened descriptor; None leaves ``clusters * D`` values.
        bias: whether the assignment has one.
        stages: of VGG16.
        mean, std: of the weights; the authors' own subtract a mean on 0..255 alone, so ``std`` is 1 / 255 for them.
    """

    def __init__(
        self,
        clusters: int = 64,
        whitening: int | None = None,
        bias: bool = False,
        stages: Sequence[Sequence[int]] = STAGES,
        *,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        features = VGG16(stages)
        channels = features.dimension
        options: dict[str, Any] = {"clusters": clusters, "whitening": whitening, "bias": bias, **features.options}
        super().__init__("netvlad_vgg16", options, dimension=whitening or clusters * channels, mean=mean, std=std)
        del features[len(features) - 1]
        self.features = features
        self.pool = NetVLAD(clusters, channels, bias)
        self.whiten = None if whitening is None else nn.Linear(clusters * channels, whitening)

    @property
    def padding_exact(self) -> bool:
        """Cells beyond the valid size are assigned to no cluster."""
        return True

    @property
    def pooling(self) -> dict[str, Any]:
        """NetVLAD and its number of clusters."""
        return {"name": "netvlad", "clusters": int(self.pool.centroids.shape[0])}

    def forward(self, images: Tensor, masks: Masks | None = None) -> Tensor:
        """Normalised float images ``[B, 3, H, W]`` to unit descriptors ``[B, D]``."""
        pooled: Tensor = self.pool(*self.features(images, masks))
        return pooled if self.whiten is None else functional.normalize(self.whiten(pooled), dim=1)
