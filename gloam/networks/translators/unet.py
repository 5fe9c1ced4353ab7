"""The U-Net generator of pix2pix (Isola et al. 2017, section 3.2), keys of the public checkpoints.

Blocks are nested: each is a Sequential ``model`` that holds the next one, which gives ``model.model.1.model.3...``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from gloam.errors import ModelError
from gloam.networks.translators.base import TranslatorNetwork
from gloam.networks.translators.layers import PixelNoise, norm_layer, reference_bias

INSIDE = 0.98  # black and white stay where the tanh still has a slope


class SkipBlock(nn.Module):
    """Down, the inner block, up; the input is concatenated in front of the output, but for the outermost.

    Args:
        outer: channels of what comes in and, but for the outermost, of what the block adds.
        inner: channels between the two convolutions.
        submodule: the block inside, None for the innermost.
        image_channels: given for the outermost alone: channels of the image.
        tanh: whether the outermost ends in it.
        norm, dropout, track_running_stats: of the generator.
    """

    def __init__(
        self,
        outer: int,
        inner: int,
        submodule: SkipBlock | None,
        *,
        image_channels: int | None = None,
        tanh: bool = True,
        norm: str,
        dropout: bool = False,
        track_running_stats: bool = True,
    ) -> None:
        super().__init__()
        self.outermost = image_channels is not None
        bias = reference_bias(norm)
        up_in = inner if submodule is None else 2 * inner
        if image_channels is not None:
            down: list[nn.Module] = [nn.Conv2d(image_channels, inner, 4, 2, 1, bias=bias)]
            up: list[nn.Module] = [nn.ReLU(), nn.ConvTranspose2d(up_in, image_channels, 4, 2, 1)]
            up += [nn.Tanh()] if tanh else []
        else:
            down = [nn.LeakyReLU(0.2), nn.Conv2d(outer, inner, 4, 2, 1, bias=bias)]
            if submodule is not None:
                down.append(norm_layer(norm, inner, track_running_stats))
            up = [
                nn.ReLU(),
                nn.ConvTranspose2d(up_in, outer, 4, 2, 1, bias=bias),
                norm_layer(norm, outer, track_running_stats),
                *([nn.Dropout(0.5)] if dropout else []),
            ]
        self.model = nn.Sequential(*down, *([] if submodule is None else [submodule]), *up)

    def forward(self, x: Tensor, taps: list[Tensor] | None = None) -> Tensor:
        """``[B, outer, H, W]`` to ``[B, 2 outer, H, W]``; the outermost: image to image.

        ``taps``, where it is given, gets what enters each block inside this one, outermost first.
        """
        y = x
        for layer in self.model:
            if isinstance(layer, SkipBlock):
                if taps is not None:
                    taps.append(y)
                y = layer(y, taps)
            else:
                y = layer(y)
        return y if self.outermost else torch.cat((x, y), 1)


class UnetGenerator(TranslatorNetwork):
    """Encoder and decoder with skips at every scale, down to one cell for a square of ``2 ** levels`` pixels.

    Args:
        levels: convolutions of stride 2: 8 for 256 px (54 413 955 parameters with batch norm), 7 for 128, 6 for 64,
            5 for 32; fewer for small tests.
        channels: of the image.
        width: channels of the outermost level; doubled per level up to eightfold.
        norm: ``instance``, ``batch`` or ``none``.
        dropout: 0.5 behind the inner levels of full width; pix2pix's only source of noise.
        track_running_stats: of the batch norm.
        noise: standard deviation of the :class:`PixelNoise` that is added to the image, on [-1, 1]; 0 in pix2pix. A
            network of convolutions imitates sensor noise by a grid; given it, the adversary asks for other things.
        residual: the network says what to change of the image, before the tanh, rather than the image itself; not of
            pix2pix. It begins at the identity, which suits short runs.
    """

    name: ClassVar[str] = "unet"

    def __init__(
        self,
        levels: int = 8,
        channels: int = 3,
        width: int = 64,
        norm: str = "batch",
        dropout: bool = False,
        track_running_stats: bool = True,
        noise: float = 0.0,
        residual: bool = False,
    ) -> None:
        if levels < 2:
            raise ModelError(f"a U-Net needs at least 2 levels, not {levels}")
        if not 0 <= noise <= 1:
            raise ModelError(f"noise {noise}: is a standard deviation on [-1, 1]; give a number from 0 to 1")
        options = {
            "levels": levels,
            "channels": channels,
            "width": width,
            "norm": norm,
            "dropout": dropout,
            "track_running_stats": track_running_stats,
            "noise": noise,
            "residual": residual,
        }
        super().__init__(options, channels=channels, multiple=2**levels, minimum=2**levels)
        widths = [width * min(2**level, 8) for level in range(levels)]  # outermost to innermost
        self.widths = widths
        self.feature_layers = levels
        block: SkipBlock | None = None
        for level in range(levels - 1, 0, -1):
            # The reference drops out only where both widths are the full one and a block is inside.
            dropped = dropout and block is not None and level >= 4
            block = SkipBlock(
                widths[level - 1],
                widths[level],
                block,
                norm=norm,
                dropout=dropped,
                track_running_stats=track_running_stats,
            )
        self.noise, self.residual, self.pixel_noise = noise, residual, PixelNoise()
        self.model = SkipBlock(
            width,
            width,
            block,
            image_channels=channels,
            tanh=not residual,
            norm=norm,
            track_running_stats=track_running_stats,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[B, C, H, W]`` in [-1, 1], sides multiples of ``2 ** levels``, to the same shape and range."""
        return self._finish(self.model(x), x)

    def features(self, x: Tensor, layers: Sequence[int], encode_only: bool = False) -> list[Tensor]:
        """Activations on the way down, for contrastive losses (CUT, section 3, which has a ResNet there).

        Args:
            x: float ``[B, C, H, W]`` in [-1, 1].
            layers: rising, of ``0..levels - 1``: 0 is ``x``, k what the k-th convolution of stride 2 and its norm give.
            encode_only: stop behind the last of ``layers``. Otherwise the image is appended.

        Returns:
            one ``[B, C_k, H / 2^k, W / 2^k]`` per layer, then the image unless ``encode_only``.
        """
        self.feature_channels(layers)
        taps = [x]
        if encode_only:
            self._descend(x, layers[-1], taps)
            return [taps[index] for index in layers]
        image = self._finish(self.model(x, taps), x)
        return [*(taps[index] for index in layers), image]

    def feature_channels(self, layers: Sequence[int]) -> list[int]:
        """C_k of :meth:`features` for each of ``layers``.

        Raises:
            ModelError: not rising indices of taps that there are.
        """
        last = self.feature_layers - 1
        if not layers or list(layers) != sorted(set(layers)) or layers[0] < 0 or layers[-1] > last:
            raise ModelError(f"feature layers {list(layers)} must be rising indices of 0..{last}")
        return [self.channels if index == 0 else self.widths[index - 1] for index in layers]

    def _finish(self, given: Tensor, x: Tensor) -> Tensor:
        image = torch.tanh(given + torch.atanh(INSIDE * x)) if self.residual else given
        return (image + self.noise * self.pixel_noise(x)).clamp(-1, 1) if self.noise else image

    def _descend(self, x: Tensor, last: int, taps: list[Tensor]) -> None:
        block = self.model
        while len(taps) <= last:
            for layer in block.model:
                if isinstance(layer, SkipBlock):
                    taps.append(x)
                    block = layer
                    break
                x = layer(x)
