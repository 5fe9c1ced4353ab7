"""What every global descriptor of gloam promises: uint8 images in, unit vectors out, and what a card says of it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from gloam.errors import ModelError
from gloam.model_card import LITERATURE, InputRule, Photometric
from gloam.networks.masks import Masks

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def l2_normalize(x: Tensor, eps: float = 1e-6) -> Tensor:
    """``x / (||x|| + eps)`` along the last axis, as cirtorch defines it."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / (norm + eps)


def _by_channel(values: tuple[float, ...]) -> tuple[float, ...]:
    if len(values) != 3:
        raise ValueError(f"{tuple(values)} are not three values, one a channel")
    return tuple(values)


class FastModule(nn.Module):
    """A module whose own parameters learn at a multiple of the rate and without decay: GeM's p, an edge filter's."""


class EmbedderNetwork(nn.Module):
    """A network that turns an image into one unit vector.

    Attributes:
        name: its name in ``EMBEDDERS``.
        options: JSON-ready; ``create_embedder(name, mean=mean, std=std, **options)`` builds it again.
        dimension: D of the descriptor.
        mean, std: per channel on [0, 1] RGB; what :meth:`normalize` subtracts and divides by.
        scales: image scales whose descriptors are aggregated.
        whitening: ``{"name", "sha256"}`` of a whitening behind the aggregation, or None.
        photometric: normalisation of the light that the graph does itself; its name is ``none`` where it does not.
    """

    def __init__(
        self,
        name: str,
        options: dict[str, Any],
        *,
        dimension: int,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.name = name
        self.options = options
        self.dimension = int(dimension)
        self.mean, self.std = _by_channel(mean), _by_channel(std)
        if not all(math.isfinite(m) and math.isfinite(s) and s > 0 for m, s in zip(self.mean, self.std, strict=True)):
            raise ValueError(f"a mean of {self.mean} and a deviation of {self.std} do not normalise an image")
        self.scales: tuple[float, ...] = (1.0,)
        self.whitening: dict[str, str] | None = None
        self.photometric = Photometric()
        scale = 1.0 / (255.0 * torch.tensor(self.std))
        self.register_buffer("_scale", scale.view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_shift", (-torch.tensor(self.mean) / torch.tensor(self.std)).view(1, 3, 1, 1), False)

    @property
    def core(self) -> EmbedderNetwork:
        """The network without scales, whitening and photometric normalisation around it; itself where there are none.
        Its weights are those that a card's ``weights_sha256`` means."""
        return self

    @property
    def smallest_side(self) -> int:
        """Smallest image side in pixels that leaves the network one cell."""
        return 16

    @property
    def cell(self) -> int:
        """Sides of an image are multiples of this many pixels: a patch of a vision transformer, 1 of all others."""
        return 1

    @property
    def square(self) -> int | None:
        """Side in pixels of the square images that are all it takes; None of a network that takes other sizes."""
        return None

    @property
    def input_rule(self) -> InputRule:
        """The sizes that images are brought to unless whoever exports says otherwise: the literature's, by which sides
        become multiples of the cell, or its authors'."""
        return LITERATURE if self.cell == 1 else InputRule(multiple=self.cell)

    @property
    def padding_exact(self) -> bool:
        """Whether padded cells change nothing; one that does not say so is refused for fixed profiles."""
        return False

    @property
    def pooling(self) -> dict[str, Any]:
        """How the map becomes a vector, for the card, e.g. ``{"name": "gem", "p": 3.0}``."""
        raise TypeError(f"{type(self).__name__} defines no pooling")

    def scale_power(self) -> Tensor | None:
        """The learned power by which descriptors of several scales are averaged: p of GeM without a linear layer behind
        it. None is a plain mean, the only one for descriptors with negative values."""
        return None

    def forward(self, images: Tensor, masks: Masks | None = None) -> Tensor:
        """Normalised float images ``[B, 3, H, W]`` to unit descriptors ``[B, D]``."""
        raise TypeError(f"{type(self).__name__} defines no forward")

    def normalize(self, images: Tensor) -> Tensor:
        """RGB ``[B, H, W, 3]`` in 0..255, uint8 or float, to normalised float ``[B, 3, H, W]``, channels last in memory
        (on a CPU the quicker order) but where torch could not learn from that."""
        scale, shift = self.get_buffer("_scale"), self.get_buffer("_shift")
        # Cast first: TensorRT takes uint8 as an input and into a Cast, and moves none of it.
        normalised = images.to(scale.dtype).permute(0, 3, 1, 2) * scale + shift
        return normalised.contiguous() if self._needs_rows_first(normalised) else normalised

    def _needs_rows_first(self, images: Tensor) -> bool:
        """Whether torch 2.13 would corrupt memory in the backward of channels last: on a CPU, where a convolution's
        number of channels is no multiple of 16 (seen with 4, and with 8 where the processor has AVX-512)."""
        if not torch.is_grad_enabled() or torch.compiler.is_exporting() or images.device.type != "cpu":
            return False
        convolutions = (part for part in self.modules() if isinstance(part, nn.Conv2d))
        return any(part.out_channels % 16 for part in convolutions)

    def describe_uint8(self, images: Tensor, sizes: Tensor | None = None) -> Tensor:
        """The exported graph: uint8 RGB in, unit descriptors out.

        Args:
            images: uint8 ``[B, H, W, 3]``.
            sizes: valid (h, w), int32 ``[B, 2]``; None where every pixel is valid.

        Returns:
            float ``[B, D]``.

        Raises:
            ModelError: sizes for a network that is not padding-exact.
        """
        if sizes is not None:
            self.check_masked()
        return self._describe(self.normalize(images), sizes)

    def check_masked(self) -> None:
        """Refuse valid sizes where they would not be honoured."""
        if not self.padding_exact:
            raise ModelError(f"{self.name} is not padding-exact: describe it at native size, export it dynamic")

    def parameter_groups(self, factor: float = 10.0) -> list[dict[str, Any]]:
        """What an optimiser needs to know of the parameters.

        Args:
            factor: rate of GeM's p, and of the parameters of every other :class:`FastModule`, over that of the rest.

        Returns:
            one or two groups ``{"params", "factor", "weight_decay": bool}``, the rest first; frozen parameters are in
            none.
        """
        fast = [
            parameter
            for module in self.modules()
            if isinstance(module, FastModule)
            for parameter in module.parameters(recurse=False)
        ]
        known = {id(parameter) for parameter in fast}
        rest = [parameter for parameter in self.parameters() if parameter.requires_grad and id(parameter) not in known]
        groups = [
            {"params": rest, "factor": 1.0, "weight_decay": True},
            {"params": fast, "factor": factor, "weight_decay": False},
        ]
        return [group for group in groups if group["params"]]

    def _describe(self, x: Tensor, sizes: Tensor | None) -> Tensor:
        if sizes is None:
            return self(x)  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped
        valid = sizes.to(torch.int64)
        return self(x, Masks.of(valid[:, 0], valid[:, 1], x))  # type: ignore[no-any-return]  # as above
