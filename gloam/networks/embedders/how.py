"""HOW: local features for aggregated matching kernels, learned through one global descriptor (Tolias et al. 2020).

A backbone's cells are the features and their length is the attention. Training sees ``sum attention * feature`` alone,
so a network trains as any :class:`EmbedderNetwork`; at test time :meth:`HOW.local_features` gives the strongest cells
of several scales to ASMK. Keys are those of the published weights: ``features.*`` and ``dim_reduction.*``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gloam.errors import ModelError
from gloam.networks.embedders.base import IMAGENET_MEAN, IMAGENET_STD, EmbedderNetwork, l2_normalize
from gloam.networks.embedders.pipeline import resize
from gloam.networks.embedders.resnet import BasicBlock, ResNet, resnet50_minus
from gloam.networks.masks import Masks, zero_beyond

DIMENSION = 128
SCALES = (2.0, 1.414, 1.0, 0.707, 0.5, 0.353, 0.25)  # of the published evaluation
SMOOTHING = 3  # cells a side
EPSILON = 1e-10  # under the root of the attention


class HOW(EmbedderNetwork):
    """Attention before smoothing, 3 x 3 average, 1 x 1 convolution to few dimensions (paper, sections 3.2 and 4.1).

    Args:
        name: ``how_resnet18`` or ``how_resnet50_minus``.
        features: the backbone; ``stride`` is its total stride.
        stride: pixels between two cells.
        dimension: of the local features and so of the training descriptor.
        mean, std: normalisation on [0, 1] RGB, part of the exported graph.
    """

    def __init__(
        self,
        name: str,
        features: ResNet,
        *,
        stride: int,
        dimension: int = DIMENSION,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        if dimension < 1:
            raise ValueError(f"dimension {dimension} must be positive")
        super().__init__(name, {**features.options, "dimension": dimension}, dimension=dimension, mean=mean, std=std)
        self.stride = stride
        self.features = features
        self.dim_reduction = nn.Conv2d(features.dimension, dimension, 1)

    @property
    def padding_exact(self) -> bool:
        """The training descriptor's promise, kept by masked sums; local features of several scales are dynamic."""
        return True

    @property
    def pooling(self) -> dict[str, Any]:
        """Sum of the features, each weighted by its attention."""
        return {"name": "attention_sum"}

    def forward(self, images: Tensor, masks: Masks | None = None) -> Tensor:
        """Normalised float images ``[B, 3, H, W]`` to the unit training descriptor ``[B, D]``."""
        features, attention, masks = self.cells(images, masks)
        weighted = zero_beyond(features * attention, masks)
        return l2_normalize(weighted.sum((2, 3)))

    def cells(self, images: Tensor, masks: Masks | None = None) -> tuple[Tensor, Tensor, Masks | None]:
        """Features and attention of one scale.

        Args:
            images: normalised float ``[B, 3, H, W]``.
            masks: of the images, or None.

        Returns:
            features ``[B, D, h, w]``, attention ``[B, 1, h, w]``, and the masks of the cells.
        """
        x, masks = self.features(images, masks)
        attention = (x.square().sum(1, keepdim=True) + EPSILON).sqrt()
        return self.dim_reduction(smooth(x, masks)), attention, masks

    def local_features(
        self, images: Tensor, scales: tuple[float, ...] = SCALES
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The exported graph: uint8 images to the features of all scales.

        Args:
            images: uint8 ``[B, H, W, 3]``, RGB.
            scales: the image is described at each; sides are ``floor(side * scale)``.

        Returns:
            features ``[B, N, D]``, as they are, not unit vectors;
            attention ``[B, N]``, the largest of each image 1;
            positions ``[N, 2]``, x and y of the cells' centres in pixels of the image;
            scale ``[N]`` of each cell.
        """
        x = self.normalize(images)
        features, attention, positions, levels = [], [], [], []
        for scale in scales:
            cells, weights, _ = self.cells(resize(x, None, scale)[0])
            features.append(cells.flatten(2).transpose(1, 2))
            attention.append(weights.flatten(1))
            ones = torch.ones_like(weights[0, 0])  # counted, not numbered: the exporter knows no size to prove equal
            # reshape, not flatten: of one cell in the exporter's example flatten would make one cell for every image
            places = torch.stack((ones.cumsum(1), ones.cumsum(0)), -1).reshape(-1, 2) - 0.5
            positions.append(places * (self.stride / scale) - 0.5)
            levels.append(ones.flatten() * scale)
        strengths = torch.cat(attention, 1)
        return (
            torch.cat(features, 1),
            strengths / strengths.amax(1, keepdim=True),
            torch.cat(positions),
            torch.cat(levels),
        )

    def parameter_groups(self, factor: float = 10.0) -> list[dict[str, Any]]:
        """The backbone's parameters; ``dim_reduction`` keeps its initial whitening, at a rate of 0."""
        return [
            {"params": list(self.features.parameters()), "factor": 1.0, "weight_decay": True},
            {"params": list(self.dim_reduction.parameters()), "factor": 0.0, "weight_decay": False},
        ]

    @torch.no_grad()
    def set_whitening(self, mean: Tensor, projection: Tensor) -> None:
        """Make ``dim_reduction`` a whitening ``projection (x - mean)`` of the backbone's smoothed cells.

        Args:
            mean: ``[C]``.
            projection: ``[D, C]``.

        Raises:
            ModelError: another shape.
        """
        weight, bias = self.dim_reduction.weight, self.dim_reduction.bias
        assert bias is not None
        if projection.shape != weight.shape[:2] or mean.shape != weight.shape[1:2]:
            raise ModelError(
                f"{self.name}: a whitening of shape {list(projection.shape)} where {list(weight.shape[:2])} is needed; "
                "learn it from this backbone's cells"
            )
        weight.copy_(projection[:, :, None, None])
        bias.copy_(-(projection.double() @ mean.double()))


def how_resnet18(width: int = 64, **options: Any) -> HOW:
    """HOW on ResNet-18."""
    return HOW("how_resnet18", ResNet(BasicBlock, (2, 2, 2, 2), width), stride=32, **options)


def how_resnet50_minus(width: int = 64, **options: Any) -> HOW:
    """HOW on ResNet-50 without its last stage, the paper's ``-R50``."""
    return HOW("how_resnet50_minus", resnet50_minus(width), stride=16, **options)


def smooth(x: Tensor, masks: Masks | None) -> Tensor:
    """Mean over 3 x 3 cells, over those alone that exist."""
    if masks is None:
        return functional.avg_pool2d(x, SMOOTHING, 1, SMOOTHING // 2, count_include_pad=False)
    valid = masks.inside.to(x.dtype)
    sums, counts = (functional.avg_pool2d(item, SMOOTHING, 1, SMOOTHING // 2) for item in (x * valid, valid))
    return sums / counts.clamp(min=1 / SMOOTHING**2)
