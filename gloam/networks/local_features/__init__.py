"""The networks of keypoints and descriptors; a new one is a file and a line in :data:`EXTRACTORS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gloam.networks.local_features.alike import ALIKE
from gloam.networks.local_features.aliked import ALIKED
from gloam.networks.local_features.base import LocalFeatureNetwork
from gloam.networks.local_features.disk import DISK
from gloam.networks.local_features.r2d2 import R2D2
from gloam.networks.local_features.superpoint import SuperPoint
from gloam.networks.local_features.xfeat import XFeat
from gloam.networks.registry import build

EXTRACTORS: dict[str, Callable[..., LocalFeatureNetwork]] = {
    kind.name: kind for kind in (ALIKED, ALIKE, XFeat, DISK, SuperPoint, R2D2)
}

__all__ = [
    "ALIKE",
    "ALIKED",
    "DISK",
    "EXTRACTORS",
    "R2D2",
    "LocalFeatureNetwork",
    "SuperPoint",
    "XFeat",
    "create_extractor",
]


def create_extractor(name: str, **options: Any) -> LocalFeatureNetwork:
    """Build a network of local features with random weights.

    Args:
        name: one of :data:`EXTRACTORS`.
        options: of its class, e.g. ``variant="t16"``.

    Raises:
        ModelError: unknown name (the nearest is named) or option.
    """
    return build(EXTRACTORS, "network of local features", name, options)
