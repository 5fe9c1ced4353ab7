"""Initial weights of generators, discriminators and projection heads."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from gloam.errors import ModelError

INIT_KINDS = ("normal", "kaiming", "xavier")


class _Filler(Protocol):
    def __call__(self, weight: Tensor) -> Tensor: ...


def init_weights(module: nn.Module, kind: str = "normal", gain: float = 0.02, seed: int | None = None) -> None:
    """Draw all weights of ``module`` anew, in place.

    Convolutions and linear layers: ``normal`` N(0, gain), ``kaiming`` (fan in, for ReLU), ``xavier`` with ``gain``;
    biases 0. Batch norm: weight N(1, gain), bias 0. CycleGAN and pix2pix take normal 0.02, CUT xavier 0.02. The code
    of Dark Side Augmentation draws with gain 0.2 and gives every network the same seed, so that its twin generators
    start equal.

    Args:
        module: anything with parameters.
        kind: one of :data:`INIT_KINDS`.
        gain: see above.
        seed: of an own generator on the CPU; None draws from torch's global one.
    """
    if kind not in INIT_KINDS:
        raise ModelError(f"unknown initialisation {kind!r}; choose one of {', '.join(INIT_KINDS)}")
    generator = None if seed is None else torch.Generator().manual_seed(seed)

    def fill(weight: Tensor) -> Tensor:
        if kind == "normal":
            return nn.init.normal_(weight, 0.0, gain, generator=generator)
        if kind == "kaiming":
            return nn.init.kaiming_normal_(weight, generator=generator)
        return nn.init.xavier_normal_(weight, gain, generator=generator)

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            _draw(layer.weight, fill)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d) and layer.affine:
            _draw(layer.weight, lambda weight: nn.init.normal_(weight, 1.0, gain, generator=generator))
            nn.init.zeros_(layer.bias)


def _draw(weight: Tensor, fill: _Filler) -> None:
    # Drawn on the CPU, so that a seed means the same weights on every device.
    with torch.no_grad():
        weight.copy_(fill(torch.empty(weight.shape, dtype=torch.float32)))
