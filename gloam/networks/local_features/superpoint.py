"""SuperPoint: keypoints and descriptors from one VGG (DeTone et al. 2018).

Two sets of weights exist. Magic Leap's may be used for research that is not commercial, and not passed on. Those of
rpautrat/SuperPoint were trained anew and are MIT; they have norms, and keys of their own.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from gloam.networks.local_features.base import LocalFeatureNetwork
from gloam.networks.local_features.detect import (
    cells_to_map,
    local_maxima,
    pixels,
    sample,
    strongest,
    without_border,
)

CELL = 8  # pixels
CHANNELS = (64, 64, 128, 128)
HEAD, DIMENSION = 256, 256
RADIUS, BORDER = 4, 4  # pixels
GREY = (0.299, 0.587, 0.114)


def _block(inputs: int, outputs: int, side: int, relu: bool = True) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, side, padding=side // 2)
    parts = {"conv": conv, "activation": nn.ReLU() if relu else nn.Identity(), "bn": nn.BatchNorm2d(outputs, eps=1e-3)}
    return nn.Sequential(OrderedDict(parts))


class SuperPoint(LocalFeatureNetwork):
    """1.30 M parameters.

    Args:
        layout: ``mit`` (rpautrat's) or ``magicleap``.
        sampling: of descriptors: ``cells``, between the centres of cells, or ``corners``, as Magic Leap did and
            LightGlue's weights want it: half a cell off. By default ``cells`` of ``mit``, ``corners`` of ``magicleap``.
    """

    name: ClassVar[str] = "superpoint"
    threshold: ClassVar[float] = 0.005
    not_fixed: ClassVar[str] = "its convolutions and poolings would see the padding at the image's border"

    def __init__(
        self,
        layout: Literal["mit", "magicleap"] = "mit",
        sampling: Literal["cells", "corners"] | None = None,
    ) -> None:
        if layout not in ("mit", "magicleap"):
            raise ValueError(f"layout {layout!r} is not mit or magicleap")
        sampling = sampling or ("cells" if layout == "mit" else "corners")
        if sampling not in ("cells", "corners"):
            raise ValueError(f"sampling {sampling!r} is not cells or corners")
        super().__init__({"layout": layout, "sampling": sampling}, DIMENSION)
        self.layout, self.sampling = layout, sampling
        inputs = (1, *CHANNELS)
        if layout == "mit":
            self.backbone = nn.Sequential(
                *(
                    nn.Sequential(
                        _block(before, after, 3),
                        _block(after, after, 3),
                        *([nn.MaxPool2d(2, 2)] if level < len(CHANNELS) else []),
                    )
                    for level, (before, after) in enumerate(zip(inputs, CHANNELS, strict=False), 1)
                )
            )
            self.detector = nn.Sequential(_block(CHANNELS[-1], HEAD, 3), _block(HEAD, CELL**2 + 1, 1, relu=False))
            self.descriptor = nn.Sequential(_block(CHANNELS[-1], HEAD, 3), _block(HEAD, DIMENSION, 1, relu=False))
            return
        for level, (before, after) in enumerate(zip(inputs, CHANNELS, strict=False), 1):
            self.add_module(f"conv{level}a", nn.Conv2d(before, after, 3, padding=1))
            self.add_module(f"conv{level}b", nn.Conv2d(after, after, 3, padding=1))
        for head, outputs in (("P", CELL**2 + 1), ("D", DIMENSION)):
            self.add_module(f"conv{head}a", nn.Conv2d(CHANNELS[-1], HEAD, 3, padding=1))
            self.add_module(f"conv{head}b", nn.Conv2d(HEAD, outputs, 1))

    @property
    def licence(self) -> str:  # type: ignore[override]  # of one layout's weights or the other's
        """Of the weights that the authors published."""
        return "MIT" if self.layout == "mit" else "Magic Leap: non-commercial research, not to be passed on"

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images ``[B, 3, H, W]`` to logits ``[B, 65, h, w]`` of cells of 8 px and descriptors ``[B, 256, h, w]``."""
        weights = torch.tensor(GREY, device=images.device).reshape(1, 3, 1, 1)
        x = (images * weights).sum(1, keepdim=True)
        if self.layout == "mit":
            x = self.backbone(x)
            return self.detector(x), functional.normalize(self.descriptor(x), dim=1)
        for level in range(1, len(CHANNELS) + 1):
            for step in "ab":
                x = functional.relu(self.get_submodule(f"conv{level}{step}")(x))
            x = functional.max_pool2d(x, 2, 2) if level < len(CHANNELS) else x
        logits, described = (
            self.get_submodule(f"conv{head}b")(functional.relu(self.get_submodule(f"conv{head}a")(x))) for head in "PD"
        )
        return logits, functional.normalize(described, dim=1)

    def forward(self, images: Tensor, count: int, threshold: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See :class:`LocalFeatureNetwork`; up to 7 px at the right and bottom hold no keypoint."""
        logits, described = self.maps(images)
        maxima = without_border(local_maxima(cells_to_map(logits), RADIUS), BORDER)
        maxima = torch.where(maxima > threshold, maxima, torch.zeros_like(maxima))
        scores, places = strongest(maxima.flatten(1), count)
        points = pixels(places, maxima.shape[2])
        if self.sampling == "cells":
            within = (points + 0.5) / CELL - 0.5
        else:
            height, width = described.shape[2:]
            within = torch.stack(
                [
                    (points[..., axis] - 3.5) / (CELL * side - 4.5) * (side - 1)
                    for axis, side in enumerate((width, height))
                ],
                -1,
            )
        return points, scores, sample(described, within).transpose(1, 2), scores > 0
