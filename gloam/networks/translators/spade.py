"""Generators that grow an image from a code, every norm of which is modulated by the image to translate (Park et al.
2019, SPADE): the weakly-paired generator (BMVC 2020) and its SPADE baseline. Written from the papers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gloam.errors import ModelError
from gloam.model_card import TensorSpec
from gloam.networks.translators.base import DomainTranslator
from gloam.networks.translators.layers import LayerNorm2d

HIDDEN = 128  # channels between a modulator and its scales and shifts, in the papers
MULTIPLE = 32  # five doublings
NORMS = ("batch", "layer")  # the first is the papers'
PADDINGS = ("zeros", "replicate")  # the first is the papers'
RESIZINGS = ("nearest", "area")  # the first is the papers'


class ModulatedNorm(nn.Module):
    """A norm without parameters, then ``(1 + gamma) y + beta`` of maps that two convolutions read off a modulator.

    In training the statistics of ``batch`` are those of the process's part of it; ``layer`` has each image's own.
    """

    def __init__(
        self, channels: int, modulator: int, hidden: int = HIDDEN, norm: str = "batch", padding: str = "zeros"
    ) -> None:
        super().__init__()
        self.param_free_norm = nn.BatchNorm2d(channels, affine=False) if norm == "batch" else LayerNorm2d()
        self.mlp_shared = nn.Sequential(_convolution(modulator, hidden, padding), nn.ReLU())
        self.mlp_gamma = _convolution(hidden, channels, padding)
        self.mlp_beta = _convolution(hidden, channels, padding)

    def forward(self, y: Tensor, modulator: Tensor) -> Tensor:
        """``y`` ``[B, C, h, w]`` and a modulator ``[B, K, h, w]`` to ``[B, C, h, w]``."""
        shared = self.mlp_shared(modulator)
        modulated: Tensor = self.param_free_norm(y) * (1.0 + self.mlp_gamma(shared)) + self.mlp_beta(shared)
        return modulated


class ModulatedBlock(nn.Module):
    """Residual block of two modulated convolutions; the shortcut is convolved where the channels change."""

    def __init__(
        self,
        incoming: int,
        out: int,
        modulator: int,
        hidden: int = HIDDEN,
        norm: str = "batch",
        padding: str = "zeros",
    ) -> None:
        super().__init__()
        middle = min(incoming, out)
        self.conv_0 = _convolution(incoming, middle, padding)
        self.conv_1 = _convolution(middle, out, padding)
        self.norm_0 = ModulatedNorm(incoming, modulator, hidden, norm, padding)
        self.norm_1 = ModulatedNorm(middle, modulator, hidden, norm, padding)
        self.learned = incoming != out
        if self.learned:
            self.conv_s = nn.Conv2d(incoming, out, 1, bias=False)
            self.norm_s = ModulatedNorm(incoming, modulator, hidden, norm, padding)

    def forward(self, y: Tensor, modulator: Tensor) -> Tensor:
        """``y`` ``[B, C, h, w]`` and a modulator of its size to ``[B, out, h, w]``."""
        shortcut = self.conv_s(self.norm_s(y, modulator)) if self.learned else y
        inner = self.conv_0(F.leaky_relu(self.norm_0(y, modulator), 0.2))
        inner = self.conv_1(F.leaky_relu(self.norm_1(inner, modulator), 0.2))
        return shortcut + inner  # type: ignore[no-any-return]  # of modules


class ModulatedGenerator(DomainTranslator):
    """A code of noise and label becomes maps of a base grid by a linear layer, five doublings make an image of them.

    Sides are multiples of 32 px. The linear layer belongs to one base grid: for images of another size its maps are
    resized (bilinear) to a 32nd of the image, which no training has seen.

    Args:
        domains, codes, target: see :class:`DomainTranslator`.
        channels: of the image.
        width: channels of the last block; 64 in the paper, 32 for a third of the parameters.
        hidden: channels between the modulator and the scales and shifts of a norm.
        base: rows and columns of the base grid; 6 and 8 for images of 256x192 px.
        latent: numbers of noise.
        alignment: a map of noise beside the image as the modulator.
        mask: blend the colours into the image by an attention mask; 1 keeps the image.
        label_maps: the label as constant maps beside the image too.
        norm: ``batch``, as SPADE has it, or ``layer``, of each image alone: small batches of several domains have
            statistics that differ from step to step, and from those kept for translating.
        padding: what lies around the maps of every convolution, ``zeros``, as SPADE has it, or their rims again
            (``replicate``). In a small base grid every cell touches a rim: zeros then say where in the image it is.
        resizing: of the modulator, to the cells of a block: ``nearest``, one pixel of each cell, as SPADE has it, which
            is made for maps of labels; or ``area``, the cell's mean.

    Attributes:
        mask, alignment: as given.
    """

    def __init__(
        self,
        domains: Sequence[str],
        codes: Sequence[Sequence[float]] | None,
        target: str | None,
        *,
        channels: int,
        width: int,
        hidden: int,
        base: Sequence[int],
        latent: int,
        alignment: bool,
        mask: bool,
        label_maps: bool,
        norm: str,
        padding: str,
        resizing: str,
        named: dict[str, bool],
    ) -> None:
        chosen = {"norm": (norm, NORMS), "padding": (padding, PADDINGS), "resizing": (resizing, RESIZINGS)}
        for option, (given, allowed) in chosen.items():
            if given not in allowed:
                raise ModelError(f"{option} {given!r}: choose one of {', '.join(allowed)}")
        if min(width, hidden, latent) < 1 or len(base) != 2 or min(base) < 1:
            raise ModelError(
                f"width {width}, hidden {hidden}, latent {latent}, base {list(base)}: positive numbers, base of two"
            )
        options = {"channels": channels, "width": width, "base": list(base), "latent": latent, **named}
        if hidden != HIDDEN:  # the papers' networks keep the options, and so the identity, that they had
            options["hidden"] = hidden
        options |= {option: given for option, (given, allowed) in chosen.items() if given != allowed[0]}
        super().__init__(options, domains, codes, target, channels=channels, multiple=MULTIPLE, minimum=MULTIPLE)
        self.base, self.alignment, self.mask, self.label_maps = (base[0], base[1]), alignment, mask, label_maps
        self.resizing = resizing
        noise = TensorSpec("noise", "float32", ("batch", latent), "drawn from N(0, 1), or 0", default=(0.0,))
        aligned = TensorSpec(
            "alignment", "float32", ("batch", 1, "height", "width"), "drawn from N(0, 1), or 0", default=(0.0,)
        )
        self.conditions = (*self.conditions, noise, *((aligned,) if alignment else ()))
        code = len(self.codes[0])
        modulator = channels + alignment + code * label_maps
        deep = 16 * width
        self.fc = nn.Linear(latent + code, deep * base[0] * base[1])
        self.head_0 = ModulatedBlock(deep, deep, modulator, hidden, norm, padding)
        self.G_middle_0 = ModulatedBlock(deep, deep, modulator, hidden, norm, padding)
        self.G_middle_1 = ModulatedBlock(deep, deep, modulator, hidden, norm, padding)
        for level in range(4):
            block = ModulatedBlock(deep >> level, deep >> level + 1, modulator, hidden, norm, padding)
            self.add_module(f"up_{level}", block)
        self.head_color = _convolution(width, channels, padding)
        if mask:
            self.head_mask = _convolution(width, 1, padding)

    def bounded(self) -> list[nn.Conv2d]:
        """The convolutions that have a spectral norm in training."""
        blocks = [part for part in self.modules() if isinstance(part, ModulatedBlock)]
        return [block.get_submodule(name) for block in blocks for name, _ in _convolutions(block)]  # type: ignore[misc]

    def parts(
        self, x: Tensor, label: Tensor | None = None, noise: Tensor | None = None, alignment: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Colours and attention mask; arguments as in :meth:`forward`.

        Returns:
            colours ``[B, C, H, W]`` in [-1, 1], and the mask ``[B, 1, H, W]`` in [0, 1] or None where there is none.
        """
        code = self._default("label", x) if label is None else label
        latent = self._default("noise", x) if noise is None else noise
        modulator = x
        if self.alignment:
            modulator = torch.cat((x, self._default("alignment", x) if alignment is None else alignment), 1)
        if self.label_maps:
            maps = code[:, :, None, None].expand(-1, -1, x.shape[2], x.shape[3])
            modulator = torch.cat((modulator, maps), 1)
        y = self.fc(torch.cat((latent, code), 1)).unflatten(1, (-1, *self.base))
        cells = (x.shape[2] // MULTIPLE, x.shape[3] // MULTIPLE)
        y = F.interpolate(y, size=cells, mode="bilinear", align_corners=False)
        step = MULTIPLE
        y = self.head_0(y, self._resized(modulator, step))
        for name, doubles in (("G_middle_0", True), ("G_middle_1", False), *((f"up_{at}", True) for at in range(4))):
            if doubles:
                y, step = F.interpolate(y, scale_factor=2.0, mode="nearest"), step // 2
            y = self.get_submodule(name)(y, self._resized(modulator, step))
        y = F.leaky_relu(y, 0.2)
        return torch.tanh(self.head_color(y)), torch.sigmoid(self.head_mask(y)) if self.mask else None

    def _resized(self, modulator: Tensor, step: int) -> Tensor:
        """The modulator to cells of ``step`` by ``step`` pixels."""
        if step > 1 and self.resizing == "area":
            return F.avg_pool2d(modulator, step)
        return modulator[:, :, ::step, ::step]  # every step-th pixel: what nearest gives

    def forward(
        self, x: Tensor, label: Tensor | None = None, noise: Tensor | None = None, alignment: Tensor | None = None
    ) -> Tensor:
        """Translate.

        Args:
            x: float ``[B, C, H, W]`` in [-1, 1], sides multiples of 32.
            label: ``[B, K]``, codes of the wanted domains; the target's where it is left out.
            noise: ``[B, latent]``; 0 where it is left out.
            alignment: ``[B, 1, H, W]``; 0 where it is left out.

        Returns:
            the shape and range of ``x``.
        """
        return blended(x, *self.parts(x, label, noise, alignment))


def blended(x: Tensor, colours: Tensor, mask: Tensor | None) -> Tensor:
    """``mask x + (1 - mask) colours``; the colours where there is no mask."""
    return colours if mask is None else mask * x + (1.0 - mask) * colours


def _convolution(incoming: int, out: int, padding: str) -> nn.Conv2d:
    return nn.Conv2d(incoming, out, 3, padding=1, padding_mode=padding)  # type: ignore[arg-type]  # one of PADDINGS


def _convolutions(block: ModulatedBlock) -> list[tuple[str, nn.Module]]:
    return [(name, part) for name, part in block.named_children() if isinstance(part, nn.Conv2d)]


class WeaklyPairedGenerator(ModulatedGenerator):
    """The generator of weakly-paired multi-domain translation (BMVC 2020); 105.2 M parameters for eleven domains.

    Args:
        domains, codes, target, channels, width, hidden, base, latent, alignment, mask, norm, padding, resizing: see
            :class:`ModulatedGenerator`.
    """

    name: ClassVar[str] = "weakly_paired"

    def __init__(
        self,
        domains: Sequence[str] = ("day", "night"),
        channels: int = 3,
        width: int = 64,
        hidden: int = HIDDEN,
        base: Sequence[int] = (6, 8),
        latent: int = 256,
        alignment: bool = True,
        mask: bool = True,
        norm: str = "batch",
        padding: str = "zeros",
        resizing: str = "nearest",
        codes: Sequence[Sequence[float]] | None = None,
        target: str | None = None,
    ) -> None:
        super().__init__(
            domains,
            codes,
            target,
            channels=channels,
            width=width,
            hidden=hidden,
            base=base,
            latent=latent,
            alignment=alignment,
            mask=mask,
            label_maps=False,
            norm=norm,
            padding=padding,
            resizing=resizing,
            named={"alignment": alignment, "mask": mask},
        )


class SpadeGenerator(ModulatedGenerator):
    """SPADE as a baseline of weakly-paired translation: the image and maps of the label modulate, colours come out.

    The latent code has the label too, as the published parameter counts of the two differ by the modulators alone.

    Args:
        domains, codes, target, channels, width, hidden, base, latent, norm, padding, resizing: see
            :class:`ModulatedGenerator`.
    """

    name: ClassVar[str] = "spade"

    def __init__(
        self,
        domains: Sequence[str] = ("day", "night"),
        channels: int = 3,
        width: int = 64,
        hidden: int = HIDDEN,
        base: Sequence[int] = (6, 8),
        latent: int = 256,
        norm: str = "batch",
        padding: str = "zeros",
        resizing: str = "nearest",
        codes: Sequence[Sequence[float]] | None = None,
        target: str | None = None,
    ) -> None:
        super().__init__(
            domains,
            codes,
            target,
            channels=channels,
            width=width,
            hidden=hidden,
            base=base,
            latent=latent,
            alignment=False,
            mask=False,
            label_maps=True,
            norm=norm,
            padding=padding,
            resizing=resizing,
            named={},
        )
