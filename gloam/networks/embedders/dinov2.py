"""DINOv2's vision transformers, without and with registers (Oquab et al. 2023, Darcet et al. 2023); padding-exact.

Keys of the backbone are those of the authors' files, behind ``features.``. A fixed profile gives every image its own
table of positions and takes its padding out of every attention, so that nothing else needs a mask.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from gloam.errors import ModelError
from gloam.networks.embedders.base import IMAGENET_MEAN, IMAGENET_STD, EmbedderNetwork, l2_normalize
from gloam.networks.embedders.gem import GeM
from gloam.networks.embedders.how import placed
from gloam.networks.masks import Masks, after, sides
from gloam.networks.resampling import antialias_matrix, offset_matrix

PATCH = 14  # pixels a side
TABLE = 37  # positions a side: trained at 518 px
EPSILON = 1e-6  # of the layer norms
FORBIDDEN = -6e4  # added to the score of a key in the padding: e to it is 0, and float16 holds it
SIZES = {  # width, blocks, heads
    "dinov2_vits14": (384, 12, 6),
    "dinov2_vitb14": (768, 12, 12),
    "dinov2_vitl14": (1024, 24, 16),
}
REGISTERS = 4
FACETS = ("token", "query", "key", "value")  # of a block
Facet = Literal["token", "query", "key", "value"]


class Attention(nn.Module):
    """Self-attention of several heads; q, k and v in one layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Float ``[B, N, C]`` to the same; ``bias`` ``[B, 1, 1, N]`` is added to the scores of each key."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        seen = functional.scaled_dot_product_attention(q, k, v, bias)
        projected: Tensor = self.proj(seen.transpose(1, 2).flatten(2))
        return projected


class LayerScale(nn.Module):
    """A factor a channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[..., C]`` to the same."""
        return x * self.gamma


class Block(nn.Module):
    """Attention and a perceptron, each behind a norm and added by its scale."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, EPSILON)
        self.attn = Attention(width, heads)
        self.ls1 = LayerScale(width)
        self.norm2 = nn.LayerNorm(width, EPSILON)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})
        self.ls2 = LayerScale(width)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Float ``[B, N, C]`` to the same."""
        x = x + self.ls1(self.attn(self.norm1(x), bias))
        perceptron: Tensor = self.mlp["fc2"](functional.gelu(self.mlp["fc1"](self.norm2(x))))
        x = x + self.ls2(perceptron)
        return x


class DinoV2(nn.Module):
    """Float ``[B, 3, H, W]``, sides multiples of 14, to the class token and a map of patch tokens.

    Args:
        width, depth, heads: channels, blocks, and heads of the attention.
        registers: tokens without a position, dropped at the end.
        table: positions a side that the weights hold.
        position: how the table is resampled: ``offset``, the authors' without registers; ``antialias``, theirs with
            registers, and timm's always. The weights are the same and the descriptors are not: two spaces.
        final_norm: whether the last norm is part of it.
        trained_blocks: blocks at the end that learn, with the last norm; None for everything.
    """

    padding_exact = True

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        registers: int = 0,
        table: int = TABLE,
        position: Literal["offset", "antialias"] = "offset",
        final_norm: bool = True,
        trained_blocks: int | None = None,
    ) -> None:
        super().__init__()
        if position not in ("offset", "antialias"):
            raise ValueError(f"position {position!r}: choose offset or antialias")
        if min(width, depth, heads, table) < 1 or width % heads or registers < 0:
            raise ValueError(f"width {width}, depth {depth}, heads {heads}, registers {registers}, table {table}")
        if trained_blocks is not None and not 0 <= trained_blocks <= depth:
            raise ValueError(f"{trained_blocks} trained blocks of {depth}")
        self.dimension, self.table, self.position = width, table, position
        self.options: dict[str, Any] = {
            "width": width,
            "depth": depth,
            "heads": heads,
            "registers": registers,
            "table": table,
            "position": position,
            # Only where they say something.
            **({} if final_norm else {"final_norm": False}),
            **({} if trained_blocks is None else {"trained_blocks": trained_blocks}),
        }
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + table * table, width) * 0.02)
        self.register_tokens = nn.Parameter(torch.randn(1, registers, width) * 0.02) if registers else None
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, PATCH, PATCH)})
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, EPSILON) if final_norm else None
        if trained_blocks is not None:
            self.requires_grad_(False)
            for part in (*self.blocks[depth - trained_blocks :], self.norm):
                if part is not None:
                    part.requires_grad_(True)

    def forward(self, images: Tensor, masks: Masks | None = None) -> tuple[Tensor, Tensor, Masks | None]:
        """Tokens.

        Args:
            images: normalised float ``[B, 3, H, W]``.
            masks: of the images, whose valid sizes are multiples of 14 too; or None.

        Returns:
            class token ``[B, C]``, patch tokens ``[B, C, H / 14, W / 14]``, and the masks of the cells.

        Raises:
            ModelError: a side is no multiple of 14.
        """
        x, bias, cells, masks = self._embedded(images, masks)
        for block in self.blocks:
            x = block(x, bias)
        if self.norm is not None:
            x = self.norm(x)
        return x[:, 0], self._patches(x, cells), masks

    def facet(self, images: Tensor, masks: Masks | None = None, facet: Facet = "token") -> tuple[Tensor, Masks | None]:
        """Patches as the last block has them: what comes out of it, or the queries, keys or values of its attention, of
        all heads side by side.

        Args:
            images, masks: as :meth:`forward` takes them.
            facet: ``token``, ``query``, ``key`` or ``value``.

        Returns:
            map ``[B, C, H / 14, W / 14]`` without class token and registers, and the masks of the cells.

        Raises:
            ModelError: a side is no multiple of 14.
        """
        x, bias, cells, masks = self._embedded(images, masks)
        *before, last = self.blocks
        for block in before:
            x = block(x, bias)
        if facet == "token":
            x = last(x, bias)
        else:
            attention = last.get_submodule("attn.qkv")(last.get_submodule("norm1")(x))
            x = attention.chunk(3, 2)[FACETS.index(facet) - 1]
        return self._patches(x, cells), masks

    def _patches(self, x: Tensor, cells: tuple[int, int]) -> Tensor:
        """Tokens ``[B, N, C]`` behind the class token and the registers, as a map."""
        patches: Tensor = x[:, 1 + self.options["registers"] :].transpose(1, 2)
        return patches.reshape(*patches.shape[:2], *cells)

    def _embedded(
        self, images: Tensor, masks: Masks | None
    ) -> tuple[Tensor, Tensor | None, tuple[int, int], Masks | None]:
        """Tokens before the first block ``[B, N, C]``, the bias of every attention, cells in a column and a row, and
        the masks of the cells."""
        if not torch.compiler.is_exporting() and (images.shape[2] % PATCH or images.shape[3] % PATCH):
            size = f"{images.shape[3]}x{images.shape[2]}"
            raise ModelError(
                f"{size} has a side that is no multiple of {PATCH} px, a patch of DINOv2; resize images to one"
            )
        patches = self.patch_embed["proj"](images)
        masks = after(masks, patches, kernel=PATCH, stride=PATCH, padding=0)
        high, wide = patches.shape[2:]
        x = patches.flatten(2).transpose(1, 2) + self._positions(patches, masks)
        count = x.shape[0]
        before = [(self.cls_token + self.pos_embed[:, :1]).expand(count, -1, -1)]
        if self.register_tokens is not None:
            before.append(self.register_tokens.expand(count, -1, -1))
        x = torch.cat((*before, x), 1)
        bias = None
        if masks is not None:
            others = x.shape[1] - high * wide
            known = functional.pad(masks.inside.flatten(1), (others, 0), value=1.0)
            bias = ((1 - known) * FORBIDDEN)[:, None, None]
        return x, bias, (high, wide), masks

    def _positions(self, patches: Tensor, masks: Masks | None) -> Tensor:
        """``[B or 1, cells, C]``: the table at the size of each image."""
        table, (high, wide) = self.table, patches.shape[2:]
        heights, widths = sides(patches, masks)
        if self.position == "offset":
            kept = (heights == table) & (widths == table)
            rows, columns = offset_matrix(heights, high, table, kept), offset_matrix(widths, wide, table, kept)
        else:
            whole = torch.full_like(heights, table)
            rows, columns = antialias_matrix(heights, whole, high, table), antialias_matrix(widths, whole, wide, table)
        # Rows of tables first, then columns: two products instead of one with high * wide * table^2 terms.
        half = (rows @ self.pos_embed[0, 1:].reshape(table, -1)).reshape(rows.shape[0], high, table, -1)
        places: Tensor = (columns[:, None] @ half).flatten(1, 2)
        return places


class DinoV2Embedder(EmbedderNetwork):
    """DINOv2 and its class token, or GeM over its patch tokens, at unit length.

    22.1, 86.6 and 304 million parameters (S, B, L). GeM sees no negative value: it raises them to its eps, as it does
    for every backbone that does not end in a ReLU.

    Args:
        name: in ``EMBEDDERS``.
        pooling: ``cls`` or ``gem``.
        p: initial power of GeM.
        mean, std: normalisation on [0, 1] RGB, part of the exported graph.
        options: of :class:`DinoV2`.
    """

    def __init__(
        self,
        name: str,
        *,
        pooling: Literal["cls", "gem"] = "cls",
        p: float = 3.0,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        **options: Any,
    ) -> None:
        if pooling not in ("cls", "gem"):
            raise ValueError(f"pooling {pooling!r}: choose cls or gem")
        features = DinoV2(**options)
        super().__init__(
            name, {**features.options, "pooling": pooling}, dimension=features.dimension, mean=mean, std=std
        )
        self.features = features
        self.pool = GeM(p) if pooling == "gem" else None

    @property
    def cell(self) -> int:
        """A patch."""
        return PATCH

    @property
    def padding_exact(self) -> bool:
        """No attention sees a patch of the padding."""
        return True

    @property
    def pooling(self) -> dict[str, Any]:
        """``cls``, or ``gem`` with its p."""
        return {"name": "cls"} if self.pool is None else {"name": "gem", "p": round(float(self.pool.p.item()), 6)}

    @property
    def local_scales(self) -> tuple[float, ...]:
        """Of its patch tokens: one, for others leave sides that are no multiples of a patch."""
        return (1.0,)

    @property
    def stride(self) -> int:
        """Pixels between two patch tokens."""
        return PATCH

    def local_features(self, images: Tensor, scales: tuple[float, ...] = (1.0,)) -> tuple[Tensor, ...]:
        """Patch tokens, as :meth:`gloam.networks.embedders.how.HOW.local_features` gives cells: tokens ``[B, N, D]`` as
        they are, their length as the attention, positions and scales.

        Raises:
            ModelError: other scales than :attr:`local_scales`.
        """
        if tuple(scales) != self.local_scales:
            raise ModelError(f"{self.name}: patch tokens are of one scale of 1; leave out --scales")
        tokens = self.features(self.normalize(images))[1]
        strengths = torch.linalg.vector_norm(tokens, dim=1)
        places, levels = placed(strengths[0], PATCH)
        strengths = strengths.flatten(1)
        return tokens.flatten(2).transpose(1, 2), strengths / strengths.amax(1, keepdim=True), places, levels

    def forward(self, images: Tensor, masks: Masks | None = None) -> Tensor:
        """Normalised float images ``[B, 3, H, W]``, sides multiples of 14, to unit descriptors ``[B, D]``."""
        token, patches, masks = self.features(images, masks)
        return l2_normalize(token if self.pool is None else self.pool(patches, masks))


def backbone_options(name: str) -> dict[str, Any]:
    """What the authors published under a name, with ``_reg`` behind it for the one with registers."""
    width, depth, heads = SIZES[name.removesuffix("_reg")]
    registers = REGISTERS if name.endswith("_reg") else 0
    position = "antialias" if registers else "offset"
    return {"width": width, "depth": depth, "heads": heads, "registers": registers, "position": position}


NETWORKS = {
    name: partial(DinoV2Embedder, name, **backbone_options(name)) for size in SIZES for name in (size, f"{size}_reg")
}
