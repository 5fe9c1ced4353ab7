"""Holistically-nested edge detection (Xie & Tu 2015): VGG16 with a side output per stage and their fusion."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gloam.networks.edges.base import EdgeDetectorNetwork

STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # multiple of the width, convolutions
# Learning-rate multipliers of the Caffe release: (weight, bias) of VGG stages 1-4, stage 5, side scores, fusion.
CAFFE_RATES = {"vgg": (1.0, 2.0), "vgg5": (100.0, 200.0), "score": (0.01, 0.02), "fusion": (0.001, 0.002)}


class HED(EdgeDetectorNetwork):
    """Five stages, each scored by a 1x1 convolution, resized to the input (bilinear) and fused.

    14 716 171 parameters in 38 tensors at the paper's width. Weights are drawn for ReLU at construction, the fusion
    starts as the mean of the five scores.

    Args:
        width: channels of the first stage; 64 in the paper, 16 for small runs from scratch.
        input_scale: 255 for weights that expect 0..255 inputs minus the mean (the public BSDS ones), 1 for weights
            with the 255 folded into the first convolution and for training from scratch.
    """

    name: ClassVar[str] = "hed"
    minimum: ClassVar[int] = 16  # four poolings leave one cell

    def __init__(self, width: int = 64, input_scale: float = 1.0) -> None:
        super().__init__({"width": width, "input_scale": float(input_scale)}, input_scale)
        channels = 3
        for stage, (multiple, count) in enumerate(STAGES, 1):
            layers: list[nn.Module] = [] if stage == 1 else [nn.MaxPool2d(2, 2)]
            for _ in range(count):
                layers += [nn.Conv2d(channels, width * multiple, 3, padding=1), nn.ReLU()]
                channels = width * multiple
            self.add_module(f"vgg{stage}", nn.Sequential(*layers))
        for stage, (multiple, _) in enumerate(STAGES, 1):
            self.add_module(f"score{stage}", nn.Conv2d(width * multiple, 1, 1))
        self.fusion = nn.Sequential(nn.Conv2d(len(STAGES), 1, 1))
        self._draw()

    def _draw(self) -> None:
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif name.startswith("vgg"):
                nn.init.kaiming_normal_(parameter)
        nn.init.constant_(self.get_parameter("fusion.0.weight"), 1.0 / len(STAGES))

    def side_logits(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """The five side maps and the fused one, before the sigmoid.

        Args:
            x: float ``[B, 3, H, W]`` RGB in [-1, 1], sides of at least 16.

        Returns:
            five ``[B, 1, H, W]``, fine to coarse, and the fused ``[B, 1, H, W]``.
        """
        self.check_size(x)
        size = x.shape[2:]
        x = self.normalize(x)
        sides: list[Tensor] = []
        for stage in range(1, len(STAGES) + 1):
            x = self.get_submodule(f"vgg{stage}")(x)
            score = self.get_submodule(f"score{stage}")(x)
            sides.append(score if stage == 1 else F.interpolate(score, size, mode="bilinear", align_corners=False))
        fused: Tensor = self.fusion(torch.cat(sides, 1))
        return sides, fused

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Groups for an optimiser with the multipliers of the Caffe release, which the reference of HED^N GAN uses.

        Args:
            lr: base rate, 1e-6 in the paper; weights of stage 5 learn at 100 times it, scores at 0.01, fusion at 0.001,
                biases at twice their weights' rate.
            weight_decay: of weights; biases have none.

        Returns:
            eight groups ``{"name", "params", "lr", "weight_decay"}``.
        """
        groups: dict[str, dict[str, Any]] = {}
        for part, rates in CAFFE_RATES.items():
            for kind, rate, decay in zip(("weight", "bias"), rates, (weight_decay, 0.0), strict=True):
                name = f"{part}.{kind}"
                groups[name] = {"name": name, "params": [], "lr": lr * rate, "weight_decay": decay}
        for name, parameter in self.named_parameters():
            module, kind = name.split(".")[0], name.rsplit(".", 1)[1]
            part = module if module in CAFFE_RATES else module.rstrip("12345")
            groups[f"{part}.{kind}"]["params"].append(parameter)
        return list(groups.values())
