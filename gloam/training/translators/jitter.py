"""Copies of images in other colours, as a positive of a contrast: brightness, contrast, saturation and hue."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
YIQ = (LUMA, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


def jittered(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Each image in colours of its own.

    Brightness, contrast and saturation are multiplied by factors within ``1 - strength`` and ``1 + strength``, in this
    order, and hues turned by up to a quarter of ``strength`` of the circle either way; all uniform.

    Args:
        images: RGB ``[B, 3, H, W]`` in [-1, 1].
        strength: 0 leaves them as they are.
        generator: on the CPU.

    Returns:
        the same shape and range.
    """
    draws = (torch.rand((4, len(images), 1, 1, 1), generator=generator) * 2 - 1) * strength
    brightness, contrast, saturation = (1 + draws[:3]).to(images.device, images.dtype)
    luma = torch.tensor(LUMA, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
    y = ((images + 1) / 2 * brightness).clamp(0, 1)
    mean = (y * luma).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    y = ((y - mean) * contrast + mean).clamp(0, 1)
    grey = (y * luma).sum(1, keepdim=True)
    y = grey + (y - grey) * saturation
    angles = draws[3].flatten() * (math.pi / 2)
    turned = torch.einsum("bij,bjhw->bihw", _turn(angles).to(images.device, images.dtype), y)
    copies: Tensor = turned.clamp(0, 1) * 2 - 1
    return copies


def _turn(angles: Tensor) -> Tensor:
    """Matrices ``[B, 3, 3]`` that turn hues of RGB by angles ``[B]``, in radians."""
    to = torch.tensor(YIQ, dtype=torch.float64)
    turn = torch.zeros(len(angles), 3, 3, dtype=torch.float64)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = angles.cos()
    turn[:, 1, 2], turn[:, 2, 1] = -angles.sin(), angles.sin()
    turned: Tensor = torch.linalg.inv(to) @ turn @ to
    return turned
