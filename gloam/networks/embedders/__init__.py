"""The embedders that gloam trains, imports and exports; a new one is a file and a line in :data:`EMBEDDERS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from gloam.networks.embedders.anyloc import NETWORKS as ANYLOC
from gloam.networks.embedders.base import IMAGENET_MEAN, IMAGENET_STD, EmbedderNetwork
from gloam.networks.embedders.boq import NETWORKS as BOQ
from gloam.networks.embedders.ciconv import CIConvEmbedder
from gloam.networks.embedders.dinov2 import NETWORKS as DINOV2
from gloam.networks.embedders.edge_mac import EDGE_MACS, EdgeMAC
from gloam.networks.embedders.ensemble import Ensemble, from_description
from gloam.networks.embedders.gem import PooledEmbedder, Pooling
from gloam.networks.embedders.gem_linear import NETWORKS as GEM_LINEAR
from gloam.networks.embedders.how import how_resnet18, how_resnet50_minus
from gloam.networks.embedders.mduit import MduitContent
from gloam.networks.embedders.mixvpr import MixVPR
from gloam.networks.embedders.mobilenet_v2 import MobileNetV2
from gloam.networks.embedders.netvlad import NetVLADVGG16
from gloam.networks.embedders.normalizer import NormalizedEmbedder
from gloam.networks.embedders.pipeline import DescriptorPipeline
from gloam.networks.embedders.resnet import BasicBlock, Bottleneck, ResNet
from gloam.networks.embedders.salad import NETWORKS as SALAD
from gloam.networks.embedders.timm import PREFIX, timm_embedder
from gloam.networks.embedders.vgg import VGG16
from gloam.networks.registry import build

RESNETS: dict[str, Callable[..., nn.Module]] = {
    "resnet18": lambda **options: ResNet(BasicBlock, (2, 2, 2, 2), **options),
    "resnet50": lambda **options: ResNet(Bottleneck, (3, 4, 6, 3), **options),
    "resnet101": lambda **options: ResNet(Bottleneck, (3, 4, 23, 3), **options),
}


def _pooled(name: str, backbone: Callable[..., nn.Module], pooling: Pooling = "gem") -> Callable[..., EmbedderNetwork]:
    """A constructor that tells the options of the pooling from those of the backbone."""

    def construct(**options: Any) -> EmbedderNetwork:
        own = {key: options.pop(key) for key in ("p", "mean", "std", "local_whitening", "whitening") if key in options}
        return PooledEmbedder(name, backbone(**options), pooling=pooling, **own)

    return construct


EMBEDDERS: dict[str, Callable[..., EmbedderNetwork]] = {
    "gem_vgg16": _pooled("gem_vgg16", VGG16),
    "gem_resnet18": _pooled("gem_resnet18", RESNETS["resnet18"]),
    "gem_resnet50": _pooled("gem_resnet50", RESNETS["resnet50"]),
    "gem_resnet101": _pooled("gem_resnet101", RESNETS["resnet101"]),
    "gem_mobilenet_v2": _pooled("gem_mobilenet_v2", MobileNetV2),
    "mac_vgg16": _pooled("mac_vgg16", VGG16, "mac"),
    "spoc_vgg16": _pooled("spoc_vgg16", VGG16, "spoc"),
    "rmac_vgg16": _pooled("rmac_vgg16", VGG16, "rmac"),
    "mac_resnet101": _pooled("mac_resnet101", RESNETS["resnet101"], "mac"),
    "spoc_resnet101": _pooled("spoc_resnet101", RESNETS["resnet101"], "spoc"),
    "rmac_resnet101": _pooled("rmac_resnet101", RESNETS["resnet101"], "rmac"),
    "netvlad_vgg16": NetVLADVGG16,
    "ciconv_resnet18": partial(CIConvEmbedder, "ciconv_resnet18", RESNETS["resnet18"]),
    "ciconv_resnet50": partial(CIConvEmbedder, "ciconv_resnet50", RESNETS["resnet50"]),
    "ciconv_resnet101": partial(CIConvEmbedder, "ciconv_resnet101", RESNETS["resnet101"]),
    **{name: partial(EdgeMAC, name, detector) for name, detector in EDGE_MACS.items()},
    "how_resnet18": how_resnet18,
    "how_resnet50_minus": how_resnet50_minus,
    "mduit_content": MduitContent,
    **DINOV2,
    **SALAD,
    **BOQ,
    **GEM_LINEAR,
    "mixvpr": MixVPR,
    **ANYLOC,
    "photometric_unet": lambda embedder, **options: NormalizedEmbedder(
        from_description(embedder, create_embedder), **options
    ),
    "ensemble": lambda members, **options: Ensemble(
        [from_description(item, create_embedder) for item in members], **options
    ),
}

__all__ = [
    "EMBEDDERS",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "DescriptorPipeline",
    "EmbedderNetwork",
    "create_embedder",
]


def create_embedder(
    name: str,
    *,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    pipeline: Mapping[str, Any] | None = None,
    **options: Any,
) -> EmbedderNetwork:
    """Build an embedder with random weights.

    Args:
        name: one of :data:`EMBEDDERS`, or ``timm:NAME`` where timm is installed.
        mean, std: normalisation on [0, 1] RGB, part of the exported graph; the family's own where None.
        pipeline: scales, whitening and CLAHE around it, as :attr:`DescriptorPipeline.description` states them.
        options: of the family, e.g. ``p=3.0`` (GeM), ``padding="tf"`` (MobileNetV2) or ``width=16`` (ResNets).

    Raises:
        ModelError: unknown name (the nearest is named) or option.
        MissingExtraError: ``timm:NAME`` where timm is not installed.
    """
    stated = {key: tuple(value) for key, value in (("mean", mean), ("std", std)) if value is not None}
    table = {name: partial(timm_embedder, name)} if name.startswith(PREFIX) else EMBEDDERS
    model = build(table, "embedder", name, {**options, **stated})
    return model if pipeline is None else DescriptorPipeline.described(model, pipeline)
