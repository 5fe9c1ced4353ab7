"""BoQ (Ali-bey et al. 2024): learned queries that look at the cells of a map, behind each of two encoder layers.

Attention is written out: torch's fused path does not export everywhere. Keys of ``pool`` are those of the published
weights' aggregator.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gloam.model_card import NATIVE, InputRule
from gloam.networks.embedders.base import IMAGENET_MEAN, IMAGENET_STD, EmbedderNetwork
from gloam.networks.embedders.dinov2 import FORBIDDEN, PATCH, DinoV2, backbone_options
from gloam.networks.embedders.fitting import Fitting
from gloam.networks.embedders.resnet import ResNet, resnet50_minus
from gloam.networks.masks import Masks, zero_beyond

HEAD = 64  # channels of a head


class CrossAttention(nn.Module):
    """Attention of several heads, with the keys of torch's ``MultiheadAttention``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, queries: Tensor, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Queries ``[B, Q, C]`` and cells ``[B, N, C]`` to ``[B, Q, C]``; ``bias`` ``[B, 1, 1, N]`` is added to the
        scores of each cell."""
        q, k, v = (
            _heads(functional.linear(given, weight, shift), self.heads)
            for given, weight, shift in zip(
                (queries, x, x), self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3), strict=True
            )
        )
        seen = functional.scaled_dot_product_attention(q, k, v, bias)
        projected: Tensor = self.out_proj(seen.transpose(1, 2).flatten(2))
        return projected


def _heads(x: Tensor, heads: int) -> Tensor:
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


class Encoder(nn.Module):
    """A transformer's encoder layer, norms behind the sums (Vaswani et al. 2017)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_attn = CrossAttention(width, heads)
        self.linear1 = nn.Linear(width, 4 * width)
        self.linear2 = nn.Linear(4 * width, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Float ``[B, N, C]`` to the same."""
        x = self.norm1(x + self.self_attn(x, x, bias))
        encoded: Tensor = self.norm2(x + self.linear2(functional.relu(self.linear1(x))))
        return encoded


class Queries(nn.Module):
    """An encoder layer, and what its learned queries find in what comes of it."""

    def __init__(self, width: int, queries: int, heads: int) -> None:
        super().__init__()
        self.encoder = Encoder(width, heads)
        self.queries = nn.Parameter(torch.randn(1, queries, width))
        self.self_attn = CrossAttention(width, heads)
        self.norm_q = nn.LayerNorm(width)
        self.cross_attn = CrossAttention(width, heads)
        self.norm_out = nn.LayerNorm(width)

    def forward(self, x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Cells ``[B, N, C]`` to cells for the next, and what was found, ``[B, Q, C]``."""
        x = self.encoder(x, bias)
        # Constant once it has learned: a runtime folds it when it loads the graph.
        queries = self.norm_q(self.queries + self.self_attn(self.queries, self.queries))
        return x, self.norm_out(self.cross_attn(queries.expand(x.shape[0], -1, -1), x, bias))


class BoQ(nn.Module):
    """A map to ``width * rows`` values of unit length, channel by channel.

    Args:
        channels: of the map.
        width: of the attention, in heads of 64 (one where it is narrower).
        queries: of each block.
        blocks: encoder layers.
        rows: that the queries of all blocks are brought to.
    """

    def __init__(self, channels: int, width: int, queries: int, blocks: int, rows: int) -> None:
        super().__init__()
        heads = max(width // HEAD, 1)
        if min(width, queries, blocks, rows) < 1 or width % heads:
            raise ValueError(f"head_width {width}, queries {queries}, query_blocks {blocks}, rows {rows}")
        self.dimension = width * rows
        self.proj_c = nn.Conv2d(channels, width, 3, padding=1)
        self.norm_input = nn.LayerNorm(width)
        self.boqs = nn.ModuleList(Queries(width, queries, heads) for _ in range(blocks))
        self.fc = nn.Linear(blocks * queries, rows)

    def forward(self, x: Tensor, masks: Masks | None = None) -> Tensor:
        """Float ``[B, C, h, w]`` to ``[B, dimension]``."""
        cells = self.proj_c(zero_beyond(x, masks)).flatten(2).transpose(1, 2)
        cells = self.norm_input(cells)
        bias = None if masks is None else ((1 - masks.inside.flatten(2)) * FORBIDDEN)[:, None]
        found = []
        for block in self.boqs:
            cells, seen = block(cells, bias)
            found.append(seen)
        rows = self.fc(torch.cat(found, 1).transpose(1, 2))
        return functional.normalize(rows.flatten(1), dim=1)


class BoQEmbedder(EmbedderNetwork):
    """A ResNet without its last stage, or DINOv2's patches without its last norm, and BoQ.

    Args:
        name: in ``EMBEDDERS``.
        features: the backbone: gives a map and its masks last.
        head_width, queries, query_blocks, rows: of :class:`BoQ`.
        resize: what the graph does first, ``WxH`` or ``multiple-N`` (bicubic); None leaves sizes to callers.
        mean, std: normalisation on [0, 1] RGB, part of the exported graph.
    """

    def __init__(
        self,
        name: str,
        features: ResNet | DinoV2,
        *,
        head_width: int,
        queries: int = 64,
        query_blocks: int = 2,
        rows: int = 32,
        resize: str | None = None,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        pool = BoQ(features.dimension, head_width, queries, query_blocks, rows)
        own = {
            "head_width": head_width,
            "queries": queries,
            "query_blocks": query_blocks,
            "rows": rows,
            "resize": resize,
        }
        super().__init__(name, {**features.options, **own}, dimension=pool.dimension, mean=mean, std=std)
        self.patch = PATCH if isinstance(features, DinoV2) else 1
        self.fitting = None if resize is None else Fitting.named(resize, "bicubic")
        if self.fitting is not None and not self.fitting.into(self.patch):
            raise ValueError(f"resize {resize!r} leaves sides that are no multiples of {self.patch} px")
        self.features, self.pool = features, pool

    @property
    def cell(self) -> int:
        """The backbone's, unless the graph resizes."""
        return self.patch if self.fitting is None else 1

    @property
    def input_rule(self) -> InputRule:
        """Sizes as they are where the graph resizes, as the authors do; else the usual."""
        return super().input_rule if self.fitting is None else NATIVE

    @property
    def padding_exact(self) -> bool:
        """No query sees a cell of the padding."""
        return True

    @property
    def pooling(self) -> dict[str, Any]:
        """BoQ and its number of queries."""
        return {"name": "boq", "queries": self.pool.fc.in_features}

    def forward(self, images: Tensor, masks: Masks | None = None) -> Tensor:
        """Normalised float images ``[B, 3, H, W]`` to unit descriptors ``[B, D]``."""
        if self.fitting is not None:
            images, masks = self.fitting(images, masks)
        *_, patches, masks = self.features(images, masks)
        described: Tensor = self.pool(patches, masks)
        return described


OWN = ("head_width", "queries", "query_blocks", "rows", "resize", "mean", "std")


def _boq(name: str, build: Any, defaults: dict[str, Any], **options: Any) -> BoQEmbedder:
    """Tell the options of the head from those of the backbone."""
    own = {**defaults, **{key: options.pop(key) for key in OWN if key in options}}
    return BoQEmbedder(name, build(**options), **own)


def _patches(**options: Any) -> DinoV2:
    return DinoV2(**{**backbone_options("dinov2_vitb14"), **options, "final_norm": False})


NETWORKS = {
    "boq_resnet50": partial(_boq, "boq_resnet50", resnet50_minus, {"head_width": 512, "resize": "384x384"}),
    "boq_dinov2": partial(_boq, "boq_dinov2", _patches, {"head_width": 384, "resize": "322x322"}),
}
