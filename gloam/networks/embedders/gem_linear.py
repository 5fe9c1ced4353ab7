"""GeM and a linear layer behind it, without a norm in between: CosPlace and EigenPlaces (Berton et al. 2022, 2023),
which normalise each cell before, and AP-GeM (Revaud et al. 2019), which does not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from gloam.model_card import LITERATURE, NATIVE, InputRule
from gloam.networks.embedders.base import IMAGENET_MEAN, IMAGENET_STD, EmbedderNetwork
from gloam.networks.embedders.gem import GeM
from gloam.networks.embedders.resnet import BasicBlock, Bottleneck, ResNet
from gloam.networks.embedders.vgg import VGG16
from gloam.networks.masks import Masks


class GeMLinear(EmbedderNetwork):
    """A backbone, GeM, a linear layer, L2.

    Args:
        name: in ``EMBEDDERS``.
        features: the backbone, exact under padding.
        unit_cells: whether each cell is brought to unit length first.
        dimension: of the descriptor.
        p: initial power of GeM.
        mean, std: normalisation on [0, 1] RGB, part of the exported graph.
    """

    def __init__(
        self,
        name: str,
        features: ResNet | VGG16,
        unit_cells: bool,
        *,
        dimension: int,
        p: float = 3.0,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        if dimension < 1:
            raise ValueError(f"dimension {dimension} must be positive")
        options = {**features.options, "dimension": dimension}
        super().__init__(name, options, dimension=dimension, mean=mean, std=std)
        self.unit_cells = unit_cells
        self.features = features
        self.pool = GeM(p)
        self.fc = nn.Linear(features.dimension, dimension)

    @property
    def input_rule(self) -> InputRule:
        """Of CosPlace and EigenPlaces native sizes, as their authors evaluate; of AP-GeM the literature's."""
        return NATIVE if self.unit_cells else LITERATURE

    @property
    def padding_exact(self) -> bool:
        """A cell's length is its own, and GeM counts valid cells alone."""
        return True

    @property
    def pooling(self) -> dict[str, Any]:
        """``gem`` with its p."""
        return {"name": "gem", "p": round(float(self.pool.p.item()), 6)}

    def forward(self, images: Tensor, masks: Masks | None = None) -> Tensor:
        """Normalised float images ``[B, 3, H, W]`` to unit descriptors ``[B, D]``."""
        features, masks = self.features(images, masks)
        if self.unit_cells:
            features = functional.normalize(features, dim=1)
        return functional.normalize(self.fc(self.pool(features, masks)), dim=1)


def _made(name: str, backbone: Callable[..., Any], unit_cells: bool, size: int, **options: Any) -> GeMLinear:
    """Tell the options of the head from those of the backbone; ``size`` is the dimension by default."""
    own = {key: options.pop(key) for key in ("dimension", "p", "mean", "std") if key in options}
    return GeMLinear(name, backbone(**options), unit_cells, **{"dimension": size, **own})


def _unrectified(**options: Any) -> VGG16:
    """VGG16 up to its last convolution, whose negative values GeM alone takes away."""
    features = VGG16(**options)
    del features[len(features) - 1]
    return features


_RESNETS: dict[str, Callable[..., Any]] = {
    "resnet18": partial(ResNet, BasicBlock, (2, 2, 2, 2)),
    "resnet50": partial(ResNet, Bottleneck, (3, 4, 6, 3)),
    "resnet101": partial(ResNet, Bottleneck, (3, 4, 23, 3)),
    "resnet152": partial(ResNet, Bottleneck, (3, 8, 36, 3)),
}
NETWORKS = {
    "cosplace_vgg16": partial(_made, "cosplace_vgg16", _unrectified, True, 512),
    **{f"cosplace_{name}": partial(_made, f"cosplace_{name}", build, True, 512) for name, build in _RESNETS.items()},
    **{
        f"apgem_{name}": partial(_made, f"apgem_{name}", _RESNETS[name], False, 2048)
        for name in ("resnet50", "resnet101")
    },
}
