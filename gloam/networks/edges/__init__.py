"""The edge detectors that gloam trains, imports and exports; a new one is a file and a line in :data:`DETECTORS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gloam.networks.edges.base import EdgeDetectorNetwork
from gloam.networks.edges.hed import HED
from gloam.networks.edges.rcf import RCF
from gloam.networks.registry import build

DETECTORS: dict[str, Callable[..., EdgeDetectorNetwork]] = {HED.name: HED, RCF.name: RCF}

__all__ = ["DETECTORS", "HED", "RCF", "EdgeDetectorNetwork", "create_detector"]


def create_detector(name: str, **options: Any) -> EdgeDetectorNetwork:
    """Build an edge detector with random weights.

    Args:
        name: one of :data:`DETECTORS`.
        options: of its class, e.g. ``width=16``.

    Raises:
        ModelError: unknown name (the nearest is named) or option.
    """
    return build(DETECTORS, "edge detector", name, options)
