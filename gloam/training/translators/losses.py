"""Adversarial losses on logits: least squares, cross-entropy, hinge.

Each takes the scores of a discriminator, of any shape, and means over them; scores are read in float32, or
float64 where they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class GanLoss:
    """An adversarial loss, of the discriminator and of the generator.

    Attributes:
        name: key in ``GAN_LOSSES``.
        inverted_labels: fake scores are to be high and real scores low.
    """

    name: str = "least_squares"
    inverted_labels: bool = False

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """What the discriminator minimises.

        Args:
            real: its scores of real images.
            fake: its scores of generated images, detached from their generator.

        Returns:
            Scalar; half the sum of both sides for ``least_squares`` and ``cross_entropy``, the sum for ``hinge``.
        """
        loss, _ = GAN_LOSSES[self.name]
        return loss(self._upright(real), self._upright(fake))

    def generator(self, fake: Tensor) -> Tensor:
        """What the generator minimises.

        Args:
            fake: the discriminator's scores of generated images.

        Returns:
            Scalar.
        """
        _, loss = GAN_LOSSES[self.name]
        return loss(self._upright(fake))

    def _upright(self, scores: Tensor) -> Tensor:
        """Scores as if real were the high label."""
        scores = exact(scores)
        if not self.inverted_labels:
            return scores
        return 1 - scores if self.name == "least_squares" else -scores


def least_squares_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Mao et al. 2017, real = 1 and fake = 0: half of (D(real) - 1)^2 + D(fake)^2."""
    return 0.5 * ((real - 1).pow(2).mean() + fake.pow(2).mean())


def least_squares_generator(fake: Tensor) -> Tensor:
    """Mao et al. 2017: (D(fake) - 1)^2."""
    return (fake - 1).pow(2).mean()


def cross_entropy_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Goodfellow et al. 2014 on logits: half of -log s(D(real)) - log(1 - s(D(fake)))."""
    return 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())


def cross_entropy_generator(fake: Tensor) -> Tensor:
    """The non-saturating form: -log s(D(fake))."""
    return F.softplus(-fake).mean()


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Lim and Ye 2017: max(0, 1 - D(real)) + max(0, 1 + D(fake))."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def hinge_generator(fake: Tensor) -> Tensor:
    """Lim and Ye 2017: -D(fake)."""
    return -fake.mean()


GAN_LOSSES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "least_squares": (least_squares_discriminator, least_squares_generator),
    "cross_entropy": (cross_entropy_discriminator, cross_entropy_generator),
    "hinge": (hinge_discriminator, hinge_generator),
}


def l1(first: Tensor, second: Tensor) -> Tensor:
    """Mean absolute difference, see :func:`exact`."""
    return torch.abs(exact(first) - exact(second)).mean()


def exact(values: Tensor) -> Tensor:
    """What a loss is computed in: float64 stays, anything else becomes float32."""
    return values if values.dtype == torch.float64 else values.float()
