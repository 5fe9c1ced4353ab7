"""AnyLoc (Keetha et al. 2023): VLAD over a facet of one block of DINOv2, whose weights stay as they are.

Nothing is trained but the vocabulary: centres of k-means by cosine over unit cells of a map's own images, which
``gloam train vocabulary`` finds. The backbone ends with the block that is read: block 9, counted from 0, is the last of
a ``depth`` of 10.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from gloam.errors import ModelError
from gloam.networks.embedders.base import IMAGENET_MEAN, IMAGENET_STD, EmbedderNetwork
from gloam.networks.embedders.dinov2 import FACETS, PATCH, DinoV2, Facet, backbone_options
from gloam.networks.masks import Masks

Assignment = Literal["hard", "soft"]


class VLAD(nn.Module):
    """Residuals of unit cells to centres, summed a cluster, to ``clusters * dimension`` values, K-major.

    Args:
        clusters: K.
        dimension: D of a cell.
        assignment: ``hard``, to the centre of the largest cosine; ``soft``, to all by the softmax of the cosines.
    """

    def __init__(self, clusters: int, dimension: int, assignment: Assignment = "hard") -> None:
        super().__init__()
        if assignment not in get_args(Assignment) or clusters < 1:
            raise ValueError(f"clusters {clusters}, assignment {assignment!r}: 1 or more, and hard or soft")
        self.assignment = assignment
        # Of any length: a k-means centre is a mean of unit vectors.
        self.centroids = nn.Parameter(functional.normalize(torch.randn(clusters, dimension), dim=1))

    def assigned(self, cells: Tensor) -> Tensor:
        """Unit cells ``[B, D, n]`` to their shares of each cluster, ``[B, K, n]``, of sum 1 a cell."""
        cosines = functional.normalize(self.centroids, dim=1) @ cells
        if self.assignment == "soft":
            return cosines.softmax(1)
        clusters = torch.arange(len(self.centroids), device=cells.device)
        return (cosines.argmax(1, keepdim=True) == clusters[:, None]).to(cells.dtype)

    def forward(self, x: Tensor, masks: Masks | None = None) -> Tensor:
        """Float ``[B, D, H, W]`` to unit ``[B, K * D]``; cells beyond the masks belong to no cluster, and a cluster
        without cells is zeros."""
        cells = functional.normalize(x.flatten(2), dim=1)
        shares = self.assigned(cells)
        if masks is not None:
            shares = shares * masks.inside.flatten(2)
        if self.assignment == "hard":
            # Each residual by itself before they are summed: sums of cells and of centres would cancel, and round.
            residuals = shares @ (cells - self.centroids.T @ shares).mT
        else:
            middle = self.centroids.mean(0)
            residuals = shares @ (cells.mT - middle) - shares.sum(2, keepdim=True) * (self.centroids - middle)
        return functional.normalize(functional.normalize(residuals, dim=2).flatten(1), dim=1)

    @torch.no_grad()
    def initialize(self, centroids: Tensor) -> None:
        """Take k-means centres ``[K, D]``.

        Raises:
            ModelError: of another number or dimension.
        """
        if centroids.shape != self.centroids.shape:
            raise ModelError(
                f"VLAD has {self.centroids.shape[0]} centres of {self.centroids.shape[1]} values; got "
                f"{tuple(centroids.shape)}"
            )
        self.centroids.copy_(centroids)


class AnyLocEmbedder(EmbedderNetwork):
    """DINOv2 up to a block, a facet of its patches, VLAD.

    Args:
        name: in ``EMBEDDERS``.
        facet: ``token``, what comes out of the last block, or ``query``, ``key``, ``value`` of its attention.
        clusters, assignment: of :class:`VLAD`.
        mean, std: normalisation on [0, 1] RGB, part of the exported graph.
        options: of :class:`~gloam.networks.embedders.dinov2.DinoV2`; the last norm is never part of it.
    """

    def __init__(
        self,
        name: str,
        *,
        facet: Facet = "value",
        clusters: int = 32,
        assignment: Assignment = "hard",
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        **options: Any,
    ) -> None:
        if facet not in FACETS:
            raise ValueError(f"facet {facet!r}: choose {', '.join(FACETS)}")
        features = DinoV2(**{**options, "final_norm": False})
        own = {"facet": facet, "clusters": clusters, "assignment": assignment}
        pool = VLAD(clusters, features.dimension, assignment)
        super().__init__(name, {**features.options, **own}, dimension=clusters * features.dimension, mean=mean, std=std)
        self.facet: Facet = facet
        self.features, self.pool = features, pool

    @property
    def cell(self) -> int:
        """A patch."""
        return PATCH

    @property
    def block(self) -> int:
        """That is read, counted from 0."""
        return len(self.features.blocks) - 1

    @property
    def padding_exact(self) -> bool:
        """No attention sees a patch of the padding, and no cluster has one."""
        return True

    @property
    def pooling(self) -> dict[str, Any]:
        """VLAD, its number of clusters and its assignment; of which facet of which block."""
        clusters = len(self.pool.centroids)
        told = {"name": "vlad", "clusters": clusters, "assignment": self.pool.assignment}
        return {**told, "facet": self.facet, "block": self.block}

    def cells(self, images: Tensor, masks: Masks | None = None) -> tuple[Tensor, Masks | None]:
        """Normalised float images ``[B, 3, H, W]`` to the facet's map ``[B, C, H / 14, W / 14]`` and its masks."""
        return self.features.facet(images, masks, self.facet)

    def forward(self, images: Tensor, masks: Masks | None = None) -> Tensor:
        """Normalised float images ``[B, 3, H, W]``, sides multiples of 14, to unit descriptors ``[B, D]``."""
        pooled: Tensor = self.pool(*self.cells(images, masks))
        return pooled


BLOCKS = {"vits14": 9, "vitb14": 9, "vitl14": 20}  # that are read, counted from 0; the paper's 31 of 40 is of ViT-g


def _named(size: str) -> partial[AnyLocEmbedder]:
    options = {**backbone_options(f"dinov2_{size}"), "depth": BLOCKS[size] + 1}
    return partial(AnyLocEmbedder, f"anyloc_{size}", **options)


NETWORKS = {f"anyloc_{size}": _named(size) for size in BLOCKS}
