"""DRIT and DRIT++ (Lee et al. 2018, 2020): content of one domain, attribute code of the other. For import only.

One direction of the public dictionary: the content encoder of the source domain with its shared tail, and the decoder
of the target domain. Written from the papers' layer tables; the layer norm is spelled out, because the fused one does
not export with free sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from gloam.errors import ModelError
from gloam.networks.translators.base import TranslatorNetwork
from gloam.networks.translators.layers import InstanceNorm2d, Wrapped

CODE = 8  # length of the attribute code


class InstanceBlock(Wrapped):
    """``x + model(x)``: two reflected 3x3 convolutions with instance norm."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            InstanceNorm2d(channels),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to the same shape."""
        return x + super().forward(x)


class CodedBlock(nn.Module):
    """A residual block that reads the code after each convolution (feature-wise transform)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for index in (1, 2):
            convolution = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3))
            self.add_module(f"conv{index}", nn.Sequential(convolution, InstanceNorm2d(channels)))
        for index in (1, 2):
            mixing = (nn.Conv2d(2 * channels, 2 * channels, 1), nn.ReLU(), nn.Conv2d(2 * channels, channels, 1))
            self.add_module(f"blk{index}", nn.Sequential(*mixing, nn.ReLU()))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """``x`` ``[B, C, H, W]`` and a code ``[B, C]`` to ``[B, C, H, W]``."""
        y = x
        for index in (1, 2):
            y = _append(self.get_submodule(f"conv{index}")(y), code)
            y = self.get_submodule(f"blk{index}")(y)
        return x + y


class MapNorm(nn.Module):
    """Layer norm over (C, H, W) of each image, with a weight and bias per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to the same shape."""
        centred = x - _mean(x)
        return centred * torch.rsqrt(_mean(centred.square()) + 1e-5) * self.weight + self.bias


def _mean(x: Tensor) -> Tensor:
    """Of each image; axis by axis, because ONNX Runtime adds millions of float32 values one by one and rounds each."""
    return x.mean(3, keepdim=True).mean(2, keepdim=True).mean(1, keepdim=True)


class DritGenerator(TranslatorNetwork):
    """One direction of DRIT, for one fixed attribute code: the same look for every image.

    Args:
        mode: ``concat`` (the code joins the feature maps) or ``feature`` (feature-wise transform, the variant of Dark
            Side Augmentation).
        channels: of the image.
        width: channels behind the first convolution; 64 in the paper.
        code: eight numbers, drawn from N(0, 1) in the paper; None = zeros, the most likely look.
    """

    name: ClassVar[str] = "drit"
    anchor = "top-left"

    def __init__(
        self, mode: str = "concat", channels: int = 3, width: int = 64, code: Sequence[float] | None = None
    ) -> None:
        if mode not in ("concat", "feature"):
            raise ModelError(f"unknown DRIT mode {mode!r}; choose concat or feature")
        values = [0.0] * CODE if code is None else [float(value) for value in code]
        if len(values) != CODE:
            raise ModelError(f"DRIT's attribute code has {CODE} numbers, not {len(values)}")
        options = {"mode": mode, "channels": channels, "width": width, "code": values}
        super().__init__(options, channels=channels, multiple=4, minimum=8)
        self.mode = mode
        self.register_buffer("_code", torch.tensor([values]), persistent=False)
        deep = 4 * width
        encoder: list[nn.Module] = [
            Wrapped(nn.ReflectionPad2d(3), nn.Conv2d(channels, width, 7), nn.LeakyReLU(0.01)),
        ]
        for count in (width, 2 * width):
            down = nn.Conv2d(count, 2 * count, 3, 2)
            encoder.append(Wrapped(nn.ReflectionPad2d(1), down, InstanceNorm2d(2 * count), nn.ReLU()))
        self.enc = nn.Sequential(*encoder, *(InstanceBlock(deep) for _ in range(3)))
        self.enc_share = nn.Sequential(InstanceBlock(deep))  # its noise is of training alone
        if mode == "feature":
            for index in range(1, 5):
                self.add_module(f"dec{index}", CodedBlock(deep))
            head: tuple[nn.Module, ...] = (nn.ConvTranspose2d(width, channels, 1), nn.Tanh())
            self.dec5 = nn.Sequential(_up(deep), _up(deep // 2), *head)
            self.mlp = nn.Sequential(
                nn.Linear(CODE, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 4 * deep)
            )
        else:
            self.dec_share = nn.Sequential(InstanceBlock(deep))
            count = deep + CODE
            self.dec1 = nn.Sequential(*(InstanceBlock(count) for _ in range(3)))
            for index in (2, 3):
                self.add_module(f"dec{index}", nn.Sequential(_up(count + CODE)))
                count = (count + CODE) // 2
            self.dec4 = nn.Sequential(nn.ConvTranspose2d(count + CODE, channels, 1), nn.Tanh())

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:
        """Translate.

        Args:
            x: float ``[B, C, H, W]`` in [-1, 1], sides multiples of 4.
            code: float ``[B, 8]``; None takes the one of the options.

        Returns:
            the same shape and range.
        """
        fixed = self.get_buffer("_code")
        z = fixed.expand(x.shape[0], CODE) if code is None else code
        content: Tensor = self.enc_share(self.enc(x))
        return self._decode_feature(content, z) if self.mode == "feature" else self._decode_concat(content, z)

    def _decode_concat(self, content: Tensor, z: Tensor) -> Tensor:
        y: Tensor = self.dec_share(content)
        for index in range(1, 5):
            y = self.get_submodule(f"dec{index}")(_append(y, z))
        return y

    def _decode_feature(self, content: Tensor, z: Tensor) -> Tensor:
        y = content
        for index, part in enumerate(self.mlp(z).chunk(4, 1), 1):
            y = self.get_submodule(f"dec{index}")(y, part)
        translated: Tensor = self.dec5(y)
        return translated


def _up(channels: int) -> Wrapped:
    half = channels // 2
    return Wrapped(nn.ConvTranspose2d(channels, half, 3, 2, 1, output_padding=1), MapNorm(half), nn.ReLU())


def _append(maps: Tensor, code: Tensor) -> Tensor:
    """The code ``[B, K]`` as K constant maps behind ``[B, C, H, W]``."""
    return torch.cat((maps, code[:, :, None, None].expand(-1, -1, maps.shape[2], maps.shape[3])), 1)
