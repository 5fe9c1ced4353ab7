"""Any convolutional backbone of timm as an embedder: ``timm:convnext_tiny``. Optional; timm is not a dependency."""

from __future__ import annotations

import importlib
from typing import Any

from torch import Tensor, nn

from gloam.errors import MissingExtraError, ModelError
from gloam.networks.embedders.gem import PooledEmbedder
from gloam.networks.masks import Masks

PREFIX = "timm:"


class TimmBackbone(nn.Module):
    """A timm model without its pooling and classifier: ``[B, 3, H, W]`` to ``[B, C, h, w]``.

    Raises:
        MissingExtraError: timm is not installed.
        ModelError: timm has no such model, or one that gives no map of features.
    """

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__()
        try:
            timm = importlib.import_module("timm")
        except ImportError as error:
            raise MissingExtraError(f"{PREFIX}{name} needs timm, which does not import; pip install timm") from error
        try:
            self.model = timm.create_model(name, num_classes=0, global_pool="", **options)
        except (RuntimeError, ValueError, TypeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ModelError(f"{PREFIX}{name}: timm does not build it ({reason})") from error
        self.dimension = int(self.model.num_features)
        # Whether weights were downloaded is no part of the architecture.
        self.options = {key: value for key, value in options.items() if key != "pretrained"}

    def forward(self, x: Tensor, masks: Masks | None = None) -> tuple[Tensor, Masks | None]:
        """Feature map; timm's layers know no masks."""
        features: Tensor = self.model(x)
        if features.ndim != 4 or features.shape[1] != self.dimension:
            raise ModelError(
                f"timm's model gives {tuple(features.shape)}, but a map [B, {self.dimension}, h, w] is needed; "
                "choose a convolutional backbone"
            )
        return features, masks


def timm_embedder(name: str, **options: Any) -> PooledEmbedder:
    """GeM on a timm backbone; mean and std are those of its pretrained weights.

    Args:
        name: ``timm:NAME``.
        options: ``p``, ``mean``, ``std``; the rest goes to ``timm.create_model``, e.g. ``pretrained=True``.
    """
    own: dict[str, Any] = {key: options.pop(key) for key in ("p", "mean", "std") if key in options}
    backbone = TimmBackbone(name.removeprefix(PREFIX), **options)
    stated = getattr(backbone.model, "pretrained_cfg", None) or {}
    defaults = {key: tuple(stated[key]) for key in ("mean", "std") if key in stated}
    own = defaults | own
    return PooledEmbedder(name, backbone, **own)
