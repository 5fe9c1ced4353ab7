"""An embedder with what surrounds it at test time: CLAHE, several scales and a learned whitening, as one module."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gloam.errors import ModelError
from gloam.model_card import InputRule, Photometric
from gloam.networks.embedders.base import EmbedderNetwork, l2_normalize
from gloam.networks.masks import Masks

if TYPE_CHECKING:
    from gloam.runtime.descriptors.whitening import Whitening

MULTI_SCALE = (1.0, 2**-0.5, 0.5)  # of the papers' test protocol
SCALE_RANGE = (0.5, 2.0)  # an image of 32 px has to leave the backbones one cell


class DescriptorPipeline(EmbedderNetwork):
    """CLAHE, then the descriptors of several scales averaged by a power mean, then a whitening; each optional.

    The normalised image is resized (bilinear, corners not aligned), so the light is normalised once, before scaling:
    ``v = (mean_s d_s^power)^(1/power)``, ``v / ||v||``, then ``P (v - m)`` and L2.

    Args:
        embedder: of any family; its weights keep their keys in a checkpoint.
        scales: of the image, 0.5..2; padding stays exact up to 1.
        power: of the mean over scales. By default the embedder's own p where it is GeM without whitening layers and
            there are several scales, else 1, as cirtorch evaluates.
        whitening: learned from descriptors of these very scales.
        clahe: uint8 ``[B, H, W, 3]`` to float RGB in 0..255 of the same shape.

    Raises:
        ModelError: a pipeline within a pipeline, a bad scale or power, or a whitening of another dimension.
    """

    def __init__(
        self,
        embedder: EmbedderNetwork,
        *,
        scales: Sequence[float] = (1.0,),
        power: float | None = None,
        whitening: Whitening | None = None,
        clahe: nn.Module | None = None,
    ) -> None:
        if isinstance(embedder, DescriptorPipeline):
            raise ModelError(f"{embedder.name}: already has scales or a whitening; give the embedder inside it")
        _check_scales(embedder, scales, power)
        dimension = embedder.dimension if whitening is None else int(whitening.projection.shape[0])
        super().__init__(embedder.name, {}, dimension=dimension, mean=embedder.mean, std=embedder.std)
        self.embedder = embedder
        self.scales = tuple(float(scale) for scale in scales)
        self.power = power
        self.clahe = clahe
        if clahe is not None:
            self.photometric = Photometric(
                "clahe", float(getattr(clahe, "clip", 1.0)), int(getattr(clahe, "grid", 8)), baked=True
            )
        self.options = {**embedder.options, "pipeline": self.description}
        if whitening is not None:
            _check_dimension(embedder, int(whitening.projection.shape[1]))
            self._add_whitening({"name": whitening.name, "sha256": whitening.sha256}, dimension)
            self.get_buffer("whitening_mean").copy_(torch.from_numpy(whitening.mean).reshape(-1))
            self.get_buffer("whitening_projection").copy_(torch.from_numpy(whitening.projection))

    def _add_whitening(self, identity: dict[str, str], dimension: int) -> None:
        """An empty whitening, for weights to be filled in."""
        self.whitening = identity
        self.dimension = dimension
        self.register_buffer("whitening_mean", torch.zeros(self.embedder.dimension))
        self.register_buffer("whitening_projection", torch.zeros(dimension, self.embedder.dimension))
        self.options = {**self.embedder.options, "pipeline": self.description}

    @property
    def description(self) -> dict[str, Any]:
        """What a checkpoint says of the pipeline, JSON-ready."""
        clahe = {"clip": self.photometric.clip, "grid": self.photometric.grid} if self.clahe is not None else None
        whitening = None if self.whitening is None else {**self.whitening, "dimension": self.dimension}
        return {"scales": list(self.scales), "power": self.power, "whitening": whitening, "clahe": clahe}

    @classmethod
    def described(cls, embedder: EmbedderNetwork, description: Mapping[str, Any]) -> DescriptorPipeline:
        """The pipeline of a :attr:`description`, its whitening still to be filled.

        Raises:
            ModelError: no such description.
        """
        try:
            clahe = None if description.get("clahe") is None else _clahe(**description["clahe"])
            model = cls(embedder, scales=description["scales"], power=description.get("power"), clahe=clahe)
            whitening = description.get("whitening")
            if whitening is not None:
                model._add_whitening(
                    {"name": whitening["name"], "sha256": whitening["sha256"]}, int(whitening["dimension"])
                )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{embedder.name}: malformed description of a pipeline ({error!r})") from error
        return model

    @property
    def core(self) -> EmbedderNetwork:
        """The embedder inside."""
        return self.embedder

    @property
    def smallest_side(self) -> int:
        """Such that the smallest scale leaves the embedder one cell."""
        return math.ceil(self.embedder.smallest_side / min(self.scales))

    @property
    def square(self) -> int | None:
        """The embedder's."""
        return self.embedder.square

    @property
    def cell(self) -> int:
        """The embedder's."""
        return self.embedder.cell

    @property
    def input_rule(self) -> InputRule:
        """The embedder's."""
        return self.embedder.input_rule

    @property
    def padding_exact(self) -> bool:
        """Whether padded cells change nothing: the embedder's promise, kept by scales up to 1 and by a CLAHE that takes
        its tiles from the valid size. Above 1 a resize reads beyond the valid border."""
        clahe = self.clahe is None or bool(getattr(self.clahe, "padding_exact", False))
        return self.embedder.padding_exact and max(self.scales) <= 1 and clahe

    @property
    def pooling(self) -> dict[str, Any]:
        """The embedder's, and the power of the mean over scales where it is not the usual one."""
        own = self.embedder.pooling
        return own if self.power is None else {**own, "scale_power": self.power}

    def describe_uint8(self, images: Tensor, sizes: Tensor | None = None) -> Tensor:
        """The exported graph, see :meth:`EmbedderNetwork.describe_uint8`; CLAHE comes first."""
        if sizes is not None:
            self.check_masked()
        lit = images if self.clahe is None else self.clahe(images, sizes)
        return self._describe(self.embedder.normalize(lit), sizes)

    def forward(self, images: Tensor, masks: Masks | None = None) -> Tensor:
        """Normalised float images ``[B, 3, H, W]`` to unit descriptors ``[B, D]``; CLAHE is not part of it."""
        descriptors = self._scaled(images, masks)
        if self.whitening is None:
            return descriptors
        centred = descriptors - self.get_buffer("whitening_mean")
        return l2_normalize(centred @ self.get_buffer("whitening_projection").T)

    def _scaled(self, images: Tensor, masks: Masks | None) -> Tensor:
        if len(self.scales) == 1:
            described: Tensor = self.embedder(*resize(images, masks, self.scales[0]))
            return described
        learned = self.embedder.scale_power()
        power = self.power if self.power is not None else learned
        rows = [self.embedder(*resize(images, masks, scale)) for scale in self.scales]
        if power is None or (isinstance(power, float) and power == 1.0):
            return l2_normalize(torch.stack(rows).mean(0))
        return l2_normalize(torch.stack([row**power for row in rows]).mean(0) ** (1.0 / power))


def resize(images: Tensor, masks: Masks | None, scale: float) -> tuple[Tensor, Masks | None]:
    """Images and their masks at another scale, sides ``floor(side * scale)``.

    Up to a scale of 1 no valid cell of the result reads beyond the valid size: the last one is centred at most
    ``0.5 / scale - 0.5`` cells before the last valid one.

    Args:
        images: float ``[B, C, H, W]``.
        masks: of the images, or None.
        scale: factor of both sides.
    """
    if scale == 1.0:
        return images, masks
    factor = _graph_scale(scale)
    resized = functional.interpolate(images, scale_factor=factor, mode="bilinear", align_corners=False)
    if masks is None:
        return resized, None
    heights = (masks.heights.to(torch.float32) * factor).floor().to(torch.int64)
    widths = (masks.widths.to(torch.float32) * factor).floor().to(torch.int64)
    return resized, Masks.of(heights, widths, resized)


def _graph_scale(scale: float) -> float:
    """The scale as an exported graph can state it, a float32, and rounded up: a side that is a whole number in exact
    arithmetic (0.7 * 10) must not fall below it in the float32 arithmetic of a runtime or in torch's float64."""
    nearest = np.float32(scale)
    exact = float(nearest) == scale
    return float(nearest if exact else np.nextafter(nearest, np.float32(np.inf)))


def _check_scales(embedder: EmbedderNetwork, scales: Sequence[float], power: float | None) -> None:
    low, high = SCALE_RANGE
    if not scales or len(set(scales)) != len(scales) or not all(low <= scale <= high for scale in scales):
        raise ModelError(
            f"scales {', '.join(map(str, scales)) or 'none'}: different numbers of {low:g}..{high:g} are needed"
        )
    if embedder.square is not None and tuple(scales) != (1.0,):
        raise ModelError(f"{embedder.name}: takes images of one size, so that one scale of 1 is possible")
    if embedder.cell > 1 and tuple(scales) != (1.0,):
        raise ModelError(
            f"{embedder.name}: takes sides that are multiples of {embedder.cell} px, which scaled images have not; one "
            "scale of 1 is possible"
        )
    if power is not None and power <= 0:
        raise ModelError(f"the mean over scales needs a positive power, not {power:g}")
    learned = embedder.scale_power()
    if power not in (None, 1.0) and learned is None:
        raise ModelError(f"{embedder.name}: its descriptors may be negative, so only power 1 can average scales")
    if learned is not None and len(scales) > 1 and learned.item() <= 0:
        raise ModelError(
            f"{embedder.name}: GeM's p is {learned.item():g}; a power mean needs a positive one, train again"
        )


def _check_dimension(embedder: EmbedderNetwork, dimension: int) -> None:
    if dimension != embedder.dimension:
        raise ModelError(
            f"{embedder.name} gives {embedder.dimension}-D descriptors, but the whitening was learned from "
            f"{dimension}-D ones; learn it from this embedder's descriptors"
        )


def _clahe(clip: float, grid: int) -> nn.Module:
    from gloam.networks.clahe import ClaheLayer

    return ClaheLayer(clip=clip, grid=grid)
