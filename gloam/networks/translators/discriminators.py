"""Discriminators: PatchGAN (Isola et al. 2017, section 3.3) and a plain convolutional one for whole small images.

Both give logits or least-squares scores: there is no sigmoid at the end.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from gloam.errors import ModelError
from gloam.networks.translators.layers import BlurDownsample, norm_layer, reference_bias


class PatchDiscriminator(nn.Module):
    """A score per overlapping patch: 70 px with three layers, 256x256 to 30x30.

    Args:
        channels: of the input; 6 for pix2pix, which judges source and translation together.
        width: channels behind the first convolution; doubled per layer up to eightfold.
        layers: convolutions of stride 2.
        norm: ``instance``, ``batch`` or ``none``.
        antialias: blur-pooling instead of strides, as CUT.
        kernel, padding: of every convolution; CyEDA pads by 2.
        bias: of the convolutions in front of a norm; None follows the reference (with instance norm alone). CyEDA's
            discriminator has no norm and biases everywhere.
    """

    name: ClassVar[str] = "patch"

    def __init__(
        self,
        channels: int = 3,
        width: int = 64,
        layers: int = 3,
        norm: str = "instance",
        antialias: bool = False,
        kernel: int = 4,
        padding: int = 1,
        bias: bool | None = None,
    ) -> None:
        super().__init__()
        self.channels = channels
        biased = reference_bias(norm) if bias is None else bias
        self.options: dict[str, Any] = {
            "channels": channels,
            "width": width,
            "layers": layers,
            "norm": norm,
            "antialias": antialias,
            "kernel": kernel,
            "padding": padding,
            "bias": biased,
        }
        modules: list[nn.Module] = []
        count = channels
        for layer in range(layers + 1):
            strided = layer < layers
            out = width * min(2**layer, 8)
            modules.append(
                nn.Conv2d(count, out, kernel, 2 if strided and not antialias else 1, padding, bias=layer == 0 or biased)
            )
            if layer:
                modules.append(norm_layer(norm, out))
            modules.append(nn.LeakyReLU(0.2))
            if strided and antialias:
                modules.append(BlurDownsample(out))
            count = out
        modules.append(nn.Conv2d(count, 1, kernel, 1, padding))
        self.model = nn.Sequential(*modules)

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[B, C, H, W]`` in [-1, 1] to scores ``[B, 1, h, w]``."""
        scores: Tensor = self.model(x)
        return scores


class PlainDiscriminator(nn.Module):
    """One score per image: four convolutions of stride 2 and a linear layer (the simple discriminator of the CycleGAN
    study, its widths our choice).

    Args:
        channels: of the image.
        width: channels behind the first convolution; doubled per layer.
        norm: ``instance``, ``batch`` or ``none``, behind every convolution.
        size: side of the square images in pixels, a multiple of 16.
    """

    name: ClassVar[str] = "plain"

    def __init__(self, channels: int = 3, width: int = 64, norm: str = "batch", size: int = 64) -> None:
        super().__init__()
        if size < 32 or size % 16:
            raise ModelError(f"the plain discriminator takes square images of a multiple of 16 from 32 px, not {size}")
        self.channels = channels
        self.size = size
        self.options: dict[str, Any] = {"channels": channels, "width": width, "norm": norm, "size": size}
        modules: list[nn.Module] = []
        count = channels
        for layer in range(4):
            out = width * 2**layer
            modules += [
                nn.Conv2d(count, out, 4, 2, 1, bias=norm != "batch"),
                norm_layer(norm, out),
                nn.LeakyReLU(0.2),
            ]
            count = out
        self.model = nn.Sequential(*modules, nn.Flatten(), nn.Linear(count * (size // 16) ** 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[B, C, size, size]`` in [-1, 1] to scores ``[B, 1]``."""
        if x.shape[2:] != (self.size, self.size):
            raise ModelError(
                f"the plain discriminator was built for {self.size}x{self.size} px and got "
                f"{x.shape[2]}x{x.shape[3]}; set its size or use patch"
            )
        scores: Tensor = self.model(x)
        return scores
