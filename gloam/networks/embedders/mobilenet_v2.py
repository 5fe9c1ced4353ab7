"""MobileNetV2 features (Sandler et al. 2018), keys of torchvision's ``mobilenet_v2().features``.

``padding="tf"`` is for weights trained in TensorFlow: layers of stride 2 pad by a fixed (0, 1), right and bottom,
where torchvision pads one pixel on every side.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from gloam.networks.masks import Masks, after, zero_beyond

Padding = Literal["symmetric", "tf"]
# expansion, channels, repeats, stride: table 2 of the paper
INVERTED_RESIDUALS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class ConvNormActivation(nn.Sequential):
    """Convolution, batch norm, ReLU6."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, groups: int, padding: Padding) -> None:
        self.kernel, self.stride = kernel, stride
        self.tf = padding == "tf" and stride == 2
        own = 0 if self.tf else (kernel - 1) // 2
        super().__init__(
            nn.Conv2d(channels, out, kernel, stride, own, groups=groups, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU6(inplace=True),
        )
        self.added = 1 if self.tf else kernel - 1  # pixels added to a side's length in total

    def forward(self, x: Tensor, masks: Masks | None = None) -> tuple[Tensor, Masks | None]:
        """Activation and the masks behind it."""
        if self.kernel > 1:
            x = zero_beyond(x, masks)
        if self.tf:
            x = functional.pad(x, (0, 1, 0, 1))
        x = self[2](self[1](self[0](x)))
        if self.stride != 1:
            masks = after(masks, x, self.kernel, self.stride, self.added)
        return x, masks


class InvertedResidual(nn.Module):
    """Expand, depthwise 3x3, project; shortcut where the shapes agree."""

    def __init__(self, channels: int, out: int, stride: int, expansion: int, padding: Padding) -> None:
        super().__init__()
        hidden = channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(ConvNormActivation(channels, hidden, 1, 1, 1, padding))
        layers += [
            ConvNormActivation(hidden, hidden, 3, stride, hidden, padding),
            nn.Conv2d(hidden, out, 1, bias=False),
            nn.BatchNorm2d(out),
        ]
        self.conv = nn.Sequential(*layers)
        self.shortcut = stride == 1 and channels == out

    def forward(self, x: Tensor, masks: Masks | None = None) -> tuple[Tensor, Masks | None]:
        """Block output and the masks behind it."""
        y = x
        for layer in self.conv:
            if isinstance(layer, ConvNormActivation):
                y, masks = layer(y, masks)
            else:
                y = layer(y)
        return (x + y if self.shortcut else y), masks


class MobileNetV2(nn.Sequential):
    """Float ``[B, 3, H, W]`` to ``[B, 1280, about H / 32, about W / 32]``."""

    dimension = 1280
    padding_exact = True

    def __init__(self, padding: Padding = "symmetric") -> None:
        if padding not in ("symmetric", "tf"):
            raise ValueError(f"padding {padding!r}: choose symmetric or tf")
        layers: list[nn.Module] = [ConvNormActivation(3, 32, 3, 2, 1, padding)]
        channels = 32
        for expansion, out, repeats, stride in INVERTED_RESIDUALS:
            for repeat in range(repeats):
                layers.append(InvertedResidual(channels, out, stride if repeat == 0 else 1, expansion, padding))
                channels = out
        layers.append(ConvNormActivation(channels, self.dimension, 1, 1, 1, padding))
        super().__init__(*layers)
        self.options = {"padding": padding}
        self.smallest_side = 32 if padding == "tf" else 16  # of one pad, not two, a map of one cell has too few

    def forward(self, x: Tensor, masks: Masks | None = None) -> tuple[Tensor, Masks | None]:
        """Feature map and its masks."""
        for layer in self:
            x, masks = layer(x, masks)
        return x, masks
