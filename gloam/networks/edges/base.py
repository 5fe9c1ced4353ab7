"""What every edge detector of gloam promises; its input normalisation is inside."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gloam.errors import ModelError

MEAN_BGR = (104.00698793, 116.66876762, 122.67891434)  # of ImageNet, in 0..255, as Caffe's VGG16 subtracts it


class EdgeDetectorNetwork(nn.Module):
    """An edge detector: float32 ``[B, 3, H, W]`` RGB in [-1, 1] to edge probabilities ``[B, 1, H, W]``.

    Attributes:
        name: its name in ``DETECTORS``.
        options: all options of the constructor, defaults included, JSON-ready.
        minimum: smallest input side.
        input_scale: range of what the first convolution sees, 255 or 1; a property of the weights.
    """

    name: ClassVar[str] = ""
    minimum: ClassVar[int] = 1

    def __init__(self, options: dict[str, Any], input_scale: float) -> None:
        super().__init__()
        if input_scale not in (1.0, 255.0):
            raise ModelError(f"input_scale is 255 or 1, not {input_scale}")
        self.options = options
        self.input_scale = float(input_scale)
        mean = torch.tensor(MEAN_BGR) / 255.0
        self.register_buffer("_mean", mean.view(1, 3, 1, 1), persistent=False)

    def normalize(self, x: Tensor) -> Tensor:
        """RGB in [-1, 1] to what Caffe's VGG16 sees: BGR minus its mean, in 0..``input_scale``."""
        return ((x.flip(1) * 0.5 + 0.5) - self.get_buffer("_mean")) * self.input_scale

    def side_logits(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Five side maps and the fused one, each ``[B, 1, H, W]`` before the sigmoid."""
        raise TypeError(f"{type(self).__name__} defines no side_logits")

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """One group: all parameters at ``lr`` and ``weight_decay``, as the reference trains RCF^N."""
        return [{"name": "all", "params": list(self.parameters()), "lr": lr, "weight_decay": weight_decay}]

    def forward(self, x: Tensor, logits: bool = False) -> Tensor:
        """The fused map.

        Args:
            x: float ``[B, 3, H, W]`` RGB in [-1, 1].
            logits: before the sigmoid.

        Returns:
            float ``[B, 1, H, W]``, in [0, 1] unless ``logits``.
        """
        fused = self.side_logits(x)[1]
        return fused if logits else fused.sigmoid()

    def edges_uint8(self, images: Tensor) -> Tensor:
        """The exported graph: uint8 ``[B, H, W, 3]`` RGB to float32 edge probabilities ``[B, H, W]`` in [0, 1]."""
        edges: Tensor = self(images.to(torch.float32).permute(0, 3, 1, 2) / 127.5 - 1.0)
        return edges[:, 0]

    def check_size(self, x: Tensor) -> None:
        """Refuse an image that is too small, in words; not part of an exported graph."""
        if not torch.compiler.is_compiling() and min(x.shape[2:]) < self.minimum:
            raise ModelError(
                f"{self.name} needs images of at least {self.minimum} px a side and got {x.shape[2]}x{x.shape[3]}; "
                "enlarge or pad the image"
            )
