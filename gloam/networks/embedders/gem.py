"""Poolings of a map to a vector, and the embedder around a backbone (Radenović et al. 2019, section 3).

Keys of the whole are cirtorch's: ``features.*``, ``pool.p``, and with their layers ``lwhiten.*`` and ``whiten.*``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gloam.networks.embedders.base import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    EmbedderNetwork,
    FastModule,
    l2_normalize,
)
from gloam.networks.embedders.rmac import LEVELS, RMAC
from gloam.networks.masks import Masks

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "MAC", "GeM", "PooledEmbedder", "SPoC", "l2_normalize"]


class GeM(FastModule):
    """``(mean over cells of max(x, eps)^p)^(1/p)``, over valid cells alone; p is learned."""

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.full((1,), float(p)))
        self.eps = eps

    def forward(self, x: Tensor, masks: Masks | None = None) -> Tensor:
        """Float ``[B, C, H, W]`` to ``[B, C]``."""
        return _mean(x.clamp(min=self.eps).pow(self.p), masks).pow(1.0 / self.p)


class SPoC(nn.Module):
    """The mean of each channel, over valid cells alone (Babenko & Lempitsky 2015): GeM of p 1 that stays so."""

    def forward(self, x: Tensor, masks: Masks | None = None) -> Tensor:
        """Float ``[B, C, H, W]`` to ``[B, C]``."""
        return _mean(x, masks)


class MAC(nn.Module):
    """The largest value of each channel, over valid cells alone (Tolias et al. 2016)."""

    def forward(self, x: Tensor, masks: Masks | None = None) -> Tensor:
        """Float ``[B, C, H, W]`` to ``[B, C]``."""
        if masks is not None:
            # Not times the mask: behind a local whitening all valid cells may be negative.
            x = x.masked_fill(masks.inside == 0, torch.finfo(x.dtype).min)
        return x.amax((2, 3))


def _mean(x: Tensor, masks: Masks | None) -> Tensor:
    if masks is None:
        return x.mean((2, 3))
    cells = (masks.heights * masks.widths).to(x.dtype)[:, None]
    return (x * masks.inside).sum((2, 3)) / cells


Pooling = Literal["gem", "mac", "spoc", "rmac"]
POOLINGS: dict[Pooling, Callable[..., nn.Module]] = {"gem": GeM, "mac": MAC, "spoc": SPoC, "rmac": RMAC}


class PooledEmbedder(EmbedderNetwork):
    """Backbone, pooling, L2; optionally a linear layer on each cell before and one on the vector behind the pooling.

    Args:
        name: in ``EMBEDDERS``.
        features: the backbone; declares ``dimension`` and may declare ``options`` and ``padding_exact``.
        p: initial power of GeM, 3 by default; the other poolings have none.
        mean, std: normalisation on [0, 1] RGB, part of the exported graph.
        pooling: name in :data:`POOLINGS`.
        local_whitening: cirtorch's ``lwhiten``, a linear layer on the cells of the map.
        whitening: cirtorch's ``whiten``, a linear layer on the unit vector, followed by L2 once more, learned with the
            network; a whitening learned from descriptors afterwards belongs to ``DescriptorPipeline``.
    """

    def __init__(
        self,
        name: str,
        features: nn.Module,
        *,
        p: float | None = None,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        pooling: Pooling = "gem",
        local_whitening: bool = False,
        whitening: bool = False,
    ) -> None:
        if pooling not in POOLINGS:
            raise ValueError(f"pooling {pooling!r}: choose {', '.join(POOLINGS)}")
        if p is not None and pooling != "gem":
            raise ValueError(f"p {p:g}: is GeM's, and {pooling} has none; drop it")
        dimension = int(features.dimension)  # type: ignore[arg-type]  # every backbone declares an int
        options: dict[str, Any] = dict(getattr(features, "options", {}))
        # Only where they say something, so that the identities of earlier checkpoints stay.
        options |= {"local_whitening": True} if local_whitening else {}
        options |= {"whitening": True} if whitening else {}
        super().__init__(name, options, dimension=dimension, mean=mean, std=std)
        self.features = features
        self.lwhiten = nn.Linear(dimension, dimension) if local_whitening else None
        self.pool = POOLINGS[pooling](*(() if p is None else (p,)))
        self._pooling = pooling
        self.whiten = nn.Linear(dimension, dimension) if whitening else None

    @property
    def smallest_side(self) -> int:
        """The backbone's."""
        return int(getattr(self.features, "smallest_side", super().smallest_side))

    @property
    def padding_exact(self) -> bool:
        """Whether padded cells change nothing. A backbone's class promises it with ``padding_exact = True``."""
        return bool(getattr(self.features, "padding_exact", False))

    @property
    def pooling(self) -> dict[str, Any]:
        """``gem`` with its p, ``rmac`` with its levels, or the name of another."""
        if isinstance(self.pool, GeM):
            return {"name": "gem", "p": round(float(self.pool.p.item()), 6)}
        return {"name": self._pooling, **({"levels": LEVELS} if isinstance(self.pool, RMAC) else {})}

    def scale_power(self) -> Tensor | None:
        """GeM's p, unless a linear layer follows."""
        return self.pool.p if isinstance(self.pool, GeM) and self.whiten is None else None

    def forward(self, images: Tensor, masks: Masks | None = None) -> Tensor:
        """Normalised float images ``[B, 3, H, W]`` to unit descriptors ``[B, D]``."""
        features, masks = self.features(images, masks)
        if self.lwhiten is not None:
            features = self.lwhiten(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        descriptors = l2_normalize(self.pool(features, masks))
        return descriptors if self.whiten is None else l2_normalize(self.whiten(descriptors))
