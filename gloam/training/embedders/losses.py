"""Losses of metric learning."""

from __future__ import annotations

from collections.abc import Callable

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


def triplet_loss(
    anchors: Tensor,  # [T, D]
    others: Tensor,  # [T, N, D]
    same: Tensor,  # [T, N], 1 where the place is the anchor's, 0 elsewhere
    margin: float = 0.1,
) -> Tensor:
    """Triplet loss on squared distances (Arandjelović et al. 2016), summed over all pairs of a positive and a negative.

    ``max(0, |a - p|^2 - |a - n|^2 + margin)``. It is a sum, as :func:`contrastive_loss` is.

    Args:
        anchors, others, same: as there.
        margin: 0.1 is cirtorch's and NetVLAD's.

    Returns:
        Scalar.
    """
    distance = (anchors[:, None] - others).pow(2).sum(-1)
    label = same.to(distance.dtype)
    hinge = torch.clamp(distance[:, :, None] - distance[:, None, :] + margin, min=0)
    return (label[:, :, None] * (1 - label[:, None, :]) * hinge).sum()


Loss = Callable[[Tensor, Tensor, Tensor, float], Tensor]
LOSSES: dict[str, Loss] = {"contrastive": contrastive_loss, "triplet": triplet_loss}
