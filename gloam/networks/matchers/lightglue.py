"""LightGlue (Lindenberger et al. 2023), and LighterGlue, its small sister for XFeat: two sets of features to matches.

Every layer attends within each image, with rotary positions, and then across; an assignment of all to all follows, and
a match is a mutual best of it. All layers always run and no keypoint is dropped on the way: the paper's early exit and
pruning change results with the device and the batch. Their weights (``token_confidence``), and the assignments of the
earlier layers, which training uses, are kept as the public files have them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from gloam.model_card import FeatureRule
from gloam.networks.matchers.base import MatcherNetwork, Side

MASKED = -1e9  # added to what a padded keypoint would say: its softmax is 0, and no row becomes NaN
LEAST = 2  # keypoints of an image; one has no other to be told from


class Positions(nn.Module):
    """Points to angles of the rotary encoding, section 3.1: cosines and sines, each twice for neighbouring values."""

    def __init__(self, values: int, head: int) -> None:
        super().__init__()
        self.Wr = nn.Linear(values, head // 2, bias=False)

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        angles = self.Wr(points)[:, None]  # [B, 1, K, head / 2]
        return _twice(angles.cos()), _twice(angles.sin())


class SelfAttention(nn.Module):
    """Attention within an image."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.Wqkv = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        self.ffn = _feed_forward(width)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor], bias: Tensor | None) -> Tensor:
        parts = self.Wqkv(x).unflatten(-1, (self.heads, -1, 3)).transpose(1, 2)  # q, k and v are the innermost axis
        q, k, v = parts[..., 0], parts[..., 1], parts[..., 2]
        message = _softmax(_scaled(_rotated(q, rotation), _rotated(k, rotation)), bias) @ v
        return _updated(x, self.out_proj(_joined(message)), self.ffn)


class CrossAttention(nn.Module):
    """Attention between two images, both ways by one matrix of similarities."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qk = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = nn.Linear(width, width)
        self.ffn = _feed_forward(width)

    def forward(self, x0: Tensor, x1: Tensor, bias0: Tensor | None, bias1: Tensor | None) -> tuple[Tensor, Tensor]:
        qk0, qk1, v0, v1 = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, x in ((self.to_qk, x0), (self.to_qk, x1), (self.to_v, x0), (self.to_v, x1))
        )
        similarity = _scaled(qk0, qk1)
        to0 = _softmax(similarity, bias1) @ v1
        to1 = _softmax(similarity.transpose(2, 3), bias0) @ v0
        return (
            _updated(x0, self.to_out(_joined(to0)), self.ffn),
            _updated(x1, self.to_out(_joined(to1)), self.ffn),
        )


class Layer(nn.Module):
    """Self-attention of both images, then cross-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_attn = SelfAttention(width, heads)
        self.cross_attn = CrossAttention(width, heads)

    def forward(
        self,
        x0: Tensor,
        x1: Tensor,
        rotation0: tuple[Tensor, Tensor],
        rotation1: tuple[Tensor, Tensor],
        bias0: Tensor | None,
        bias1: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        x0, x1 = self.self_attn(x0, rotation0, bias0), self.self_attn(x1, rotation1, bias1)
        both: tuple[Tensor, Tensor] = self.cross_attn(x0, x1, bias0, bias1)
        return both


class Assignment(nn.Module):
    """The soft assignment of section 3.2, without its dustbins."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.matchability = nn.Linear(width, 1)
        self.final_proj = nn.Linear(width, width)

    def forward(self, x0: Tensor, x1: Tensor, bias0: Tensor | None, bias1: Tensor | None) -> Tensor:
        """Logarithms of probabilities, float32 ``[B, K0, K1]``."""
        projected0, projected1 = (self.final_proj(x) / x.shape[-1] ** 0.25 for x in (x0, x1))
        similarity = projected0 @ projected1.transpose(1, 2)
        padding = 0.0 if bias0 is None or bias1 is None else bias0[:, 0].transpose(1, 2) + bias1[:, 0]
        similarity = similarity + padding
        certain = logsigmoid(self.matchability(x0)) + logsigmoid(self.matchability(x1)).transpose(1, 2)
        both: Tensor = similarity.log_softmax(2) + similarity.log_softmax(1) + certain + padding
        return both


class Confidence(nn.Module):
    """Whether a keypoint's state is final already: of the paper's early exit, which the graph here has not."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token = nn.Sequential(nn.Linear(width, 1), nn.Sigmoid())


class LightGlue(MatcherNetwork):
    """LightGlue of any size.

    Args:
        name: in ``MATCHERS``.
        takes: the features that it is for.
        width: values of a keypoint's state.
        heads: of attention.
        layers: of self- and cross-attention.
        threshold: probability that a match exceeds.
    """

    def __init__(
        self, name: str, takes: FeatureRule, width: int = 256, heads: int = 4, layers: int = 9, threshold: float = 0.1
    ) -> None:
        if layers < 1 or heads < 1 or width < 1 or width % (2 * heads):
            raise ValueError(f"{layers} layers of {width} values in {heads} heads; a head has an even number of values")
        if not 0 <= threshold < 1:
            raise ValueError(f"a threshold of {threshold}, which is no probability below 1")
        options = {"width": width, "heads": heads, "layers": layers, "threshold": threshold}
        super().__init__(name, takes, options, threshold)
        self.input_proj = nn.Identity() if takes.dimension == width else nn.Linear(takes.dimension, width)
        self.posenc = Positions(4 if takes.oriented else 2, width // heads)
        self.transformers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.log_assignment = nn.ModuleList(Assignment(width) for _ in range(layers))
        self.token_confidence = nn.ModuleList(Confidence(width) for _ in range(layers - 1))

    def log_assignments(self, first: Side, second: Side, counts: Tensor | None = None) -> Tensor:
        """Logarithm of the soft assignment of all keypoints to all, without the dustbins.

        Args:
            first, second: padded to one number of keypoints each.
            counts: int32 ``[B, 2]``, how many of them are keypoints; all where left out, and then nothing is masked.

        Returns:
            float32 ``[B, K0, K1]``, about :data:`MASKED` or lower in the padding.
        """
        bias0 = bias1 = None
        if counts is not None:
            valid0, valid1 = first.valid(counts[:, 0]), second.valid(counts[:, 1])
            first, second = first.cleared(valid0), second.cleared(valid1)
            # [B, 1, 1, K]: one that broadcasts over the heads alone would do for a batch of 1
            bias0, bias1 = (torch.where(valid, 0.0, MASKED)[:, None, None] for valid in (valid0, valid1))
        x0, x1 = self.input_proj(first.descriptors), self.input_proj(second.descriptors)
        rotation0, rotation1 = self.posenc(_points(first)), self.posenc(_points(second))
        for layer in self.transformers:
            x0, x1 = layer(x0, x1, rotation0, rotation1, bias0, bias1)
        found: Tensor = self.log_assignment[-1](x0, x1, bias0, bias1)
        return found

    def match_batch(self, first: Side, second: Side, counts: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`MatcherNetwork`."""
        matches, scores = self._mutual(self.log_assignments(first, second, counts))
        valid = first.valid(counts[:, 0]) & (counts >= LEAST).all(1, keepdim=True)
        return torch.where(valid, matches, -1).to(torch.int32), torch.where(valid, scores, 0.0)

    def match_pair(self, first: Side, second: Side) -> tuple[Tensor, Tensor]:
        """See :class:`MatcherNetwork`."""
        shape = first.keypoints.shape[:2]
        if min(shape[1], second.keypoints.shape[1]) < LEAST:
            return torch.full(shape, -1, dtype=torch.int32), torch.zeros(shape)
        matches, scores = self._mutual(self.log_assignments(first, second))
        return matches.to(torch.int32), scores

    def _mutual(self, log: Tensor) -> tuple[Tensor, Tensor]:
        best, forward = log.max(2)
        backward = log.argmax(1)
        scores = best.exp()
        mutual = backward.gather(1, forward) == torch.arange(log.shape[1], device=log.device)
        return torch.where(mutual & (scores > self.threshold), forward, -1), scores


def _feed_forward(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(2 * width, 2 * width), nn.LayerNorm(2 * width), nn.GELU(), nn.Linear(2 * width, width)
    )


def _updated(x: Tensor, message: Tensor, feed_forward: nn.Module) -> Tensor:
    moved: Tensor = x + feed_forward(torch.cat((x, message), -1))
    return moved


def _scaled(q: Tensor, k: Tensor) -> Tensor:
    scaled: Tensor = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5
    return scaled


def _softmax(similarity: Tensor, bias: Tensor | None) -> Tensor:
    masked = similarity if bias is None else similarity + bias
    return masked.softmax(-1)


def _joined(heads: Tensor) -> Tensor:
    return heads.transpose(1, 2).flatten(2)


def _twice(values: Tensor) -> Tensor:
    return torch.stack((values, values), -1).flatten(-2)


def _rotated(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    cosine, sine = rotation
    turned = torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
    return x * cosine + turned * sine


def _points(side: Side) -> Tensor:
    """x and y from the middle of the image in halves of its longer side, float32 ``[B, K, 2]``; with scale and
    orientation behind them, where there are, ``[B, K, 4]``."""
    size = side.size.to(torch.float32).flip(1)[:, None]
    points = (side.keypoints - size / 2) / (size.amax(2, keepdim=True) / 2)
    if side.scales is None or side.orientations is None:
        return points
    return torch.cat((points, side.scales[..., None], side.orientations[..., None]), 2)
