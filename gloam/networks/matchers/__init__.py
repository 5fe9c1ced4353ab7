"""The matchers that gloam imports and exports; a new one is a file and a line in :data:`MATCHERS`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from gloam.model_card import FeatureRule
from gloam.networks.matchers.base import MatcherNetwork, Side
from gloam.networks.matchers.lightglue import LightGlue
from gloam.networks.registry import build

# One file of weights each: a matcher is trained anew for every kind of features.
TAKES = {
    "lightglue_superpoint": FeatureRule("superpoint", 256),
    "lightglue_disk": FeatureRule("disk", 128),
    "lightglue_aliked": FeatureRule("aliked", 128),
    "lightglue_sift": FeatureRule("sift", 128, oriented=True),
    "lightglue_doghardnet": FeatureRule("doghardnet", 128, oriented=True),
    "lighterglue": FeatureRule("xfeat", 64),
}
SIZES = {"lighterglue": {"width": 96, "heads": 1, "layers": 6}}
MATCHERS: dict[str, Callable[..., MatcherNetwork]] = {
    name: partial(LightGlue, name, takes, **SIZES.get(name, {})) for name, takes in TAKES.items()
}

__all__ = ["MATCHERS", "TAKES", "LightGlue", "MatcherNetwork", "Side", "create_matcher"]


def create_matcher(name: str, **options: Any) -> MatcherNetwork:
    """Build a matcher with random weights.

    Args:
        name: one of :data:`MATCHERS`.
        options: of :class:`LightGlue`, e.g. ``layers=2``.

    Raises:
        ModelError: unknown name (the nearest is named) or option.
    """
    return build(MATCHERS, "matcher", name, options)
