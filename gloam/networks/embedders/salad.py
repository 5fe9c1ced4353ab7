"""SALAD (Izquierdo & Civera 2024): local features of DINOv2 moved to clusters by optimal transport; and MegaLoc (Berton
& Masone 2025), which is a wider SALAD and a linear layer.

Written from the papers' rules; SALAD's own program is under the GPL and no part of this. Keys of ``pool`` and
``linear`` are those of the published weights' aggregators.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gloam.errors import ModelError
from gloam.model_card import LITERATURE, InputRule
from gloam.networks.embedders.base import IMAGENET_MEAN, IMAGENET_STD, EmbedderNetwork
from gloam.networks.embedders.dinov2 import PATCH, DinoV2, backbone_options
from gloam.networks.embedders.fitting import Fitting
from gloam.networks.masks import Masks, sides

ITERATIONS = 3  # of Sinkhorn's
NOWHERE = -1e4  # score of a cell of the padding


def _log_sum(x: Tensor, axis: int) -> Tensor:
    """``log(sum(exp(x)))`` along an axis, which stays; from operators that every runtime has."""
    largest = x.amax(axis, keepdim=True)
    return (x - largest).exp().sum(axis, keepdim=True).log() + largest


def assignment(scores: Tensor, dustbin: Tensor, count: Tensor, inside: Tensor | None) -> Tensor:
    """Optimal transport of cells to clusters and a dustbin, which takes as many cells as there are more than clusters.

    Args:
        scores: float ``[B, m, n]``.
        dustbin: its score of every cell, of one element.
        count: valid cells of each image, more than m, float ``[B or 1]``.
        inside: 1.0 at valid cells, float ``[B, 1, n]``; None where all are.

    Returns:
        float ``[B, m + 1, n]``, the dustbin last: a valid cell's column sums to 1, others are 0.
    """
    batch, clusters, cells = scores.shape
    count = count.reshape(-1, 1, 1)
    whole = torch.cat((scores, dustbin.reshape(1, 1, 1).expand(batch, 1, cells)), 1)
    if inside is not None:
        whole = torch.where(inside > 0, whole, NOWHERE)
    share = -(count + clusters).log()
    rows = torch.cat((share.expand(-1, clusters, -1), share + (count - clusters).log()), 1)
    v = torch.zeros_like(whole[:, :1])
    u = v
    for _ in range(ITERATIONS):
        u = rows - _log_sum(whole + v, 2)
        v = share - _log_sum(whole + u, 1)
        if inside is not None:  # else it would take back what the score has put away
            v = v * inside
    moved = (whole + u + v - share).exp()
    return moved if inside is None else moved * inside


class Salad(nn.Module):
    """Class and patch tokens to ``token + dimension * clusters`` values of unit length, the token's first.

    Args:
        channels: of the tokens.
        clusters, dimension, token: of the descriptor.
        hidden: width of the three perceptrons.
    """

    def __init__(self, channels: int, clusters: int, dimension: int, token: int, hidden: int) -> None:
        super().__init__()
        if min(clusters, dimension, token, hidden) < 1:
            raise ValueError(f"clusters {clusters}, cluster_dimension {dimension}, token {token}, hidden {hidden}")
        self.clusters = clusters
        self.dimension = token + dimension * clusters
        self.token_features = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, token))
        self.cluster_features = _perceptron(channels, hidden, dimension)
        self.score = _perceptron(channels, hidden, clusters)
        self.dust_bin = nn.Parameter(torch.tensor(1.0))

    def forward(self, token: Tensor, patches: Tensor, masks: Masks | None = None) -> Tensor:
        """Describe.

        Args:
            token: ``[B, C]``.
            patches: ``[B, C, h, w]``, more valid ones than clusters.
            masks: of the patches, or None.

        Returns:
            float ``[B, dimension]``.
        """
        heights, widths = sides(patches, masks)
        inside = None if masks is None else masks.inside.flatten(2)
        scores, values = self.score(patches).flatten(2), self.cluster_features(patches).flatten(2)
        moved = assignment(scores, self.dust_bin, (heights * widths).to(scores.dtype), inside)[:, :-1]
        clustered = functional.normalize(values @ moved.mT, dim=1).flatten(1)
        first = functional.normalize(self.token_features(token), dim=1)
        return functional.normalize(torch.cat((first, clustered), 1), dim=1)


def _perceptron(channels: int, hidden: int, out: int) -> nn.Sequential:
    """Of each cell by itself; the dropout of training is a layer of its own, and keys count it."""
    return nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.Dropout(0.3), nn.ReLU(), nn.Conv2d(hidden, out, 1))


class SaladEmbedder(EmbedderNetwork):
    """DINOv2 with its last norm, SALAD, and for MegaLoc a linear layer.

    Args:
        name: in ``EMBEDDERS``.
        clusters, cluster_dimension, token, hidden: of :class:`Salad`.
        linear: dimension behind the linear layer; None without one.
        resize: what the graph does first, ``multiple-14`` or ``WxH`` (bilinear); None leaves sizes to callers.
        mean, std: normalisation on [0, 1] RGB, part of the exported graph.
        options: of :class:`DinoV2`.
    """

    def __init__(
        self,
        name: str,
        *,
        clusters: int = 64,
        cluster_dimension: int = 128,
        token: int = 256,
        hidden: int = 512,
        linear: int | None = None,
        resize: str | None = None,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        **options: Any,
    ) -> None:
        features = DinoV2(**options)
        pool = Salad(features.dimension, clusters, cluster_dimension, token, hidden)
        own = {"clusters": clusters, "cluster_dimension": cluster_dimension, "token": token, "hidden": hidden}
        own |= {"linear": linear, "resize": resize}  # type: ignore[dict-item]  # JSON-ready all the same
        super().__init__(name, {**features.options, **own}, dimension=linear or pool.dimension, mean=mean, std=std)
        self.fitting = None if resize is None else Fitting.named(resize, "bilinear")
        if self.fitting is not None and not self.fitting.into(PATCH):
            raise ValueError(f"resize {resize!r} leaves sides that are no multiples of {PATCH} px")
        self.features, self.pool = features, pool
        self.linear = None if linear is None else nn.Linear(pool.dimension, linear)

    @property
    def cell(self) -> int:
        """A patch, unless the graph resizes."""
        return PATCH if self.fitting is None else 1

    @property
    def input_rule(self) -> InputRule:
        """The authors' of SALAD: 322 x 322 px by Pillow's bilinear, whatever the aspect; sizes as they are, but for the
        literature's limit, where the graph resizes."""
        return InputRule(None, SALAD_SIZE, "bilinear", True) if self.fitting is None else LITERATURE

    @property
    def smallest_side(self) -> int:
        """Such that a square has more patches than there are clusters."""
        return PATCH * (math.isqrt(self.pool.clusters) + 1)

    @property
    def padding_exact(self) -> bool:
        """Cells of the padding go nowhere."""
        return True

    @property
    def pooling(self) -> dict[str, Any]:
        """SALAD and its number of clusters."""
        return {"name": "salad", "clusters": self.pool.clusters}

    def forward(self, images: Tensor, masks: Masks | None = None) -> Tensor:
        """Normalised float images ``[B, 3, H, W]`` to unit descriptors ``[B, D]``.

        Raises:
            ModelError: a side is under :attr:`smallest_side`.
        """
        if not torch.compiler.is_exporting():
            self._expect_cells(images, masks)
        if self.fitting is not None:
            images, masks = self.fitting(images, masks)
        pooled: Tensor = self.pool(*self.features(images, masks))
        return pooled if self.linear is None else functional.normalize(self.linear(pooled), dim=1)

    def _expect_cells(self, images: Tensor, masks: Masks | None) -> None:
        heights, widths = sides(images, masks)
        least = int(min(heights.min(), widths.min()))
        if least < self.smallest_side:
            raise ModelError(
                f"{self.name}: a side of {least} px; {self.smallest_side} px at least, so that there are more patches "
                f"than its {self.pool.clusters} clusters"
            )


SALAD_SIZE = (322, 322)
_BASE = backbone_options("dinov2_vitb14")
NETWORKS = {
    "salad_dinov2": partial(SaladEmbedder, "salad_dinov2", **_BASE),
    "megaloc": partial(SaladEmbedder, "megaloc", **_BASE, cluster_dimension=256, linear=8448, resize="multiple-14"),
}
