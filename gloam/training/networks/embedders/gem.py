"""Generalized-mean pooling and the embedder around a backbone (Radenović et al. 2019, section 3).

Keys of the whole are cirtorch's: ``features.*`` and ``pool.p``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gloam.errors import ModelError
from gloam.training.networks.masks import Masks

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class GeM(nn.Module):
    """``(mean over cells of max(x, eps)^p)^(1/p)``, over valid cells alone; p is learned."""

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.full((1,), float(p)))
        self.eps = eps

    def forward(self, x: Tensor, masks: Masks | None = None) -> Tensor:
        """Float ``[B, C, H, W]`` to ``[B, C]``."""
        powered = x.clamp(min=self.eps).pow(self.p)
        if masks is None:
            pooled = powered.mean((2, 3))
        else:
            cells = (masks.heights * masks.widths).to(x.dtype)[:, None]
            pooled = (powered * masks.rows * masks.columns).sum((2, 3)) / cells
        return pooled.pow(1.0 / self.p)


def l2_normalize(x: Tensor, eps: float = 1e-6) -> Tensor:
    """``x / (||x|| + eps)`` along the last axis, as cirtorch defines it."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / (norm + eps)


class Embedder(nn.Module):
    """A global image descriptor: backbone, GeM, L2.

    Attributes:
        name: its name in ``EMBEDDERS``.
        options: all options of the backbone, defaults included; stored in checkpoints and cards.
        dimension: D of the descriptor.
    """

    def __init__(
        self,
        name: str,
        features: nn.Module,
        *,
        p: float = 3.0,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.name = name
        self.options: dict[str, Any] = dict(getattr(features, "options", {}))
        self.mean, self.std = tuple(mean), tuple(std)
        self.dimension = int(features.dimension)  # type: ignore[arg-type]  # every backbone declares an int
        self.features = features
        self.pool = GeM(p)
        scale = 1.0 / (255.0 * torch.tensor(self.std))
        self.register_buffer("_scale", scale.view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_shift", (-torch.tensor(self.mean) / torch.tensor(self.std)).view(1, 3, 1, 1), False)

    @property
    def padding_exact(self) -> bool:
        """Whether padded cells change nothing. A backbone's class promises it with ``padding_exact = True``; one that
        does not say so is refused for fixed profiles."""
        return bool(getattr(self.features, "padding_exact", False))

    def forward(self, images: Tensor, masks: Masks | None = None) -> Tensor:
        """Normalised float images ``[B, 3, H, W]`` to unit descriptors ``[B, D]``."""
        features, masks = self.features(images, masks)
        return l2_normalize(self.pool(features, masks))

    def normalize(self, images: Tensor) -> Tensor:
        """uint8 RGB ``[B, H, W, 3]`` to normalised float ``[B, 3, H, W]``."""
        scale, shift = self.get_buffer("_scale"), self.get_buffer("_shift")
        return images.permute(0, 3, 1, 2).to(scale.dtype) * scale + shift

    def describe_uint8(self, images: Tensor, sizes: Tensor | None = None) -> Tensor:
        """The exported graph: uint8 RGB in, unit descriptors out.

        Args:
            images: uint8 ``[B, H, W, 3]``.
            sizes: valid (h, w), int32 ``[B, 2]``; None where every pixel is valid.

        Returns:
            float ``[B, D]``.
        """
        x = self.normalize(images)
        if sizes is None:
            return self(x)  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped
        if not self.padding_exact:
            raise ModelError(f"{self.name} is not padding-exact: describe it at native size, export it dynamic")
        valid = sizes.to(torch.int64)
        return self(x, Masks.of(valid[:, 0], valid[:, 1], x))  # type: ignore[no-any-return]  # as above
