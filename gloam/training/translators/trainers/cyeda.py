"""CyEDA (Beh et al. 2022): a translation keeps its source's Sobel edges; nothing is translated back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gloam.training.translators.losses import exact, l1
from gloam.training.translators.trainers.two_way import TwoWayOptions, TwoWayTrainer

SOBEL_EPSILON = 1e-8  # under the root, so that flat areas have a gradient


@dataclass(frozen=True)
class CyEDAOptions(TwoWayOptions):
    """The defaults are those of the authors' code in its edge mode.

    That code reconstructs both images too, but in this mode no loss reads them: they are left out here. Where the paper
    speaks of a cycle, the code compares the source with the translated image; so does this.

    Attributes:
        edge_weight: of each direction's L1 between Sobel magnitudes.
    """

    epochs: int = 40
    decay_epochs: int = 20
    learning_rate: float = 1e-4
    generator: str = "cyeda"
    generator_options: Mapping[str, Any] = field(default_factory=lambda: {"n_mask": 3})
    discriminator_options: Mapping[str, Any] = field(
        default_factory=lambda: {"norm": "none", "layers": 5, "padding": 2, "bias": True}
    )
    edge_weight: float = 3.0


class CyEDATrainer(TwoWayTrainer):
    """Two generators, each tied to its source by edges."""

    name = "cyeda"
    options: CyEDAOptions

    def _weight(self, name: str) -> float:
        return self.options.edge_weight if name.startswith("edges") else self.options.adversarial_weight

    def _ties(self, day: Tensor, night: Tensor, fake_day: Tensor, fake_night: Tensor) -> dict[str, Tensor]:
        if not self.options.edge_weight:
            return {}
        return {
            "edges_night": l1(sobel_maps(fake_night), sobel_maps(day)),
            "edges_day": l1(sobel_maps(fake_day), sobel_maps(night)),
        }


def sobel_maps(images: Tensor) -> Tensor:
    """Magnitude of the Sobel gradient of the channels' mean, beyond the border zero.

    The kernel is ``[[-1/2, 0, 1/2], [-1, 0, 1], [-1/2, 0, 1/2]]`` and its transpose.

    Args:
        images: ``[B, C, H, W]`` in [-1, 1].

    Returns:
        ``[B, 1, H, W]``, float64 of float64 images, else float32.
    """
    padded = F.pad(exact(images).mean(1, keepdim=True), (1, 1, 1, 1))
    across = padded[..., 2:] - padded[..., :-2]  # [B, 1, H + 2, W]
    down = padded[..., 2:, :] - padded[..., :-2, :]  # [B, 1, H, W + 2]
    x = 0.5 * across[..., :-2, :] + across[..., 1:-1, :] + 0.5 * across[..., 2:, :]
    y = 0.5 * down[..., :-2] + down[..., 1:-1] + 0.5 * down[..., 2:]
    return torch.sqrt(x.square() + y.square() + SOBEL_EPSILON)
