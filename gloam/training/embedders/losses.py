"""Losses of metric learning."""

from __future__ import annotations

import torch
from torch import Tensor

PAIR_EPSILON = 1e-6  # inside the distance, so that equal descriptors have a gradient


def contrastive_loss(
    anchors: Tensor,  # [T, D]
    others: Tensor,  # [T, N, D]
    same: Tensor,  # [T, N], 1 where the place is the anchor's, 0 elsewhere
    margin: float = 0.75,
) -> Tensor:
    """Contrastive loss of tuples (Radenović et al. 2019, equation 4), summed over all pairs.

    With ``d = sqrt(sum (anchor - other + 1e-6)^2)`` a matching pair costs ``d^2 / 2`` and any other pair
    ``max(0, margin - d)^2 / 2``. It is a sum, not a mean: with plain SGD its scale grows with the batch.

    Args:
        anchors: unit descriptors, float ``[T, D]``.
        others: unit descriptors of each tuple's positives and negatives, float ``[T, N, D]``.
        same: ``[T, N]`` of 0 and 1.
        margin: 0.75 is the papers' value for VGG16, 0.85 for ResNet-101.

    Returns:
        Scalar.
    """
    distance = (anchors[:, None] - others + PAIR_EPSILON).pow(2).sum(-1).sqrt()
    label = same.to(distance.dtype)
    pairs = label * distance.pow(2) + (1 - label) * torch.clamp(margin - distance, min=0).pow(2)
    return 0.5 * pairs.sum()
