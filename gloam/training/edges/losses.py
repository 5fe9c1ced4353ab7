"""Losses of edge detectors (Xie & Tu 2015)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as functional
from torch import Tensor

TRUE = 0.5  # truth from here on is an edge; between 0 and this it is left out, as in Liu et al. 2017


def balanced_cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """Class-balanced cross-entropy, equation 2 of the HED paper, per pixel and averaged over the images.

    Edges weigh ``beta``, the share of background in the image, background weighs ``1 - beta``. The paper sums over the
    pixels; the mean makes the learning rate independent of the size.

    Args:
        logits: float ``[B, 1, H, W]`` before the sigmoid.
        truth: float ``[B, 1, H, W]`` in [0, 1].

    Returns:
        scalar.
    """
    edge, background = (truth >= TRUE).to(logits.dtype), (truth <= 0).to(logits.dtype)
    positive, negative = edge.sum((1, 2, 3), keepdim=True), background.sum((1, 2, 3), keepdim=True)
    counted = (positive + negative).clamp(min=1)
    weight = (edge * negative + background * positive) / counted**2
    losses = functional.binary_cross_entropy_with_logits(logits, edge, weight=weight, reduction="none")
    return losses.sum() / logits.shape[0]


def detector_loss(sides: Sequence[Tensor], fused: Tensor, truth: Tensor) -> Tensor:
    """Deep supervision: the sum over all side maps and the fused one, each with weight 1 as in the paper.

    Args:
        sides: float ``[B, 1, H, W]`` each; fused: the same shape; all before the sigmoid.
        truth: float ``[B, 1, H, W]`` in [0, 1].

    Returns:
        scalar.
    """
    total = balanced_cross_entropy(fused, truth)
    for side in sides:
        total = total + balanced_cross_entropy(side, truth)
    return total
