"""The embedders that gloam trains, imports and exports; a new one is a file and a line in :data:`EMBEDDERS`."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from torch import nn

from gloam.errors import ModelError
from gloam.training.networks.embedders.gem import IMAGENET_MEAN, IMAGENET_STD, Embedder
from gloam.training.networks.embedders.mobilenet_v2 import MobileNetV2
from gloam.training.networks.embedders.resnet import BasicBlock, Bottleneck, ResNet
from gloam.training.networks.embedders.vgg import VGG16

EMBEDDERS: dict[str, Callable[..., nn.Module]] = {
    "gem_vgg16": VGG16,
    "gem_resnet18": lambda **options: ResNet(BasicBlock, (2, 2, 2, 2), **options),
    "gem_resnet50": lambda **options: ResNet(Bottleneck, (3, 4, 6, 3), **options),
    "gem_resnet101": lambda **options: ResNet(Bottleneck, (3, 4, 23, 3), **options),
    "gem_mobilenet_v2": MobileNetV2,
}

__all__ = ["EMBEDDERS", "IMAGENET_MEAN", "IMAGENET_STD", "Embedder", "create_embedder"]


def create_embedder(
    name: str,
    *,
    p: float = 3.0,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
    **options: Any,
) -> Embedder:
    """Build an embedder with random weights.

    Args:
        name: one of :data:`EMBEDDERS`.
        p: initial power of GeM.
        mean, std: normalisation on [0, 1] RGB, part of the exported graph.
        options: of the backbone, e.g. ``padding="tf"`` (MobileNetV2) or ``width=16`` (ResNets).

    Raises:
        ModelError: unknown name (the nearest is named) or option.
    """
    if name not in EMBEDDERS:
        nearest = difflib.get_close_matches(name, EMBEDDERS, 1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise ModelError(f"unknown embedder {name!r}{hint} Choose one of {', '.join(EMBEDDERS)}")
    try:
        features = EMBEDDERS[name](**options)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{name} does not take these options: {error}") from error
    return Embedder(name, features, p=p, mean=mean, std=std)
