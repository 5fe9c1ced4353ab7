"""Losses of metric learning."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

PAIR_EPSILON = 1e-6  # inside the distance, so that equal descriptors have a gradient
POSITIVE_SHARPNESS, NEGATIVE_SHARPNESS = 1.0, 50.0  # alpha and beta of the multi-similarity loss


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


def multi_similarity_loss(
    anchors: Tensor,  # [T, D]
    others: Tensor,  # [T, N, D]
    same: Tensor,  # [T, N], 1 where the place is the anchor's, 0 elsewhere
    margin: float = 0.1,
) -> Tensor:
    """Multi-similarity loss (Wang et al. 2019) of tuples, summed over the anchors; see :func:`similarity_loss`.

    Args:
        anchors, others, same: as of :func:`contrastive_loss`.
        margin: epsilon of the mining; 0.1 is SALAD's and BoQ's.

    Returns:
        Scalar.
    """
    similarity = (anchors[:, None] * others).sum(-1)
    return similarity_loss(similarity, same > 0, same <= 0, margin)


def similarity_loss(similarity: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """Multi-similarity loss of a table of similarities s, summed over its rows.

    Of each row, positives count that are less similar than its most similar negative and ``margin``, and negatives
    that are more similar than its least similar positive less ``margin``. The row costs
    ``log(1 + sum_positives exp(-s)) + log(1 + sum_negatives exp(50 s)) / 50``, as SALAD and BoQ are trained (alpha 1,
    beta 50, base 0). A row without a positive, or without a negative, costs nothing.

    Args:
        similarity: dot products of unit descriptors, float ``[T, N]``.
        positive, negative: which pairs are of one place and which of two, bool ``[T, N]``; a pair of neither is left
            out.
        margin: positive.

    Returns:
        Scalar.
    """
    seen = similarity.detach()
    nearest = seen.masked_fill(~negative, -torch.inf).amax(1, keepdim=True)
    farthest = seen.masked_fill(~positive, torch.inf).amin(1, keepdim=True)
    drawn = _log_one_and(-POSITIVE_SHARPNESS * similarity, positive & (seen < nearest + margin))
    pushed = _log_one_and(NEGATIVE_SHARPNESS * similarity, negative & (seen > farthest - margin))
    return (drawn / POSITIVE_SHARPNESS + pushed / NEGATIVE_SHARPNESS).sum()


def _log_one_and(x: Tensor, counted: Tensor) -> Tensor:
    """``log(1 + sum exp(x))`` over what counts in each row."""
    return functional.pad(x.masked_fill(~counted, -torch.inf), (1, 0)).logsumexp(1)


Loss = Callable[[Tensor, Tensor, Tensor, float], Tensor]
LOSSES: dict[str, Loss] = {
    "contrastive": contrastive_loss,
    "triplet": triplet_loss,
    "multi_similarity": multi_similarity_loss,
}
