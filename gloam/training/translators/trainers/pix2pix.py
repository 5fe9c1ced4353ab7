"""pix2pix (Isola et al. 2017): paired day and night, a discriminator that sees both, and L1 to the true night."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gloam.training.translators.losses import GanLoss, l1
from gloam.training.translators.trainers.base import Engine, Trainer, TrainerOptions, frozen
from gloam.training.translators.trainers.build import network_seeds, new_discriminator, new_generator


@dataclass(frozen=True)
class Pix2PixOptions(TrainerOptions):
    """The defaults are those of the authors' PyTorch code; the thesis trains without decay, with beta1 0.9.

    Attributes:
        adversarial_weight, l1_weight: of the generator's two losses.
        normalise_weights: divide both by their sum (thesis, section 3.2.4).
    """

    generator: str = "unet"
    generator_options: Mapping[str, Any] = field(default_factory=lambda: {"norm": "batch", "dropout": True})
    discriminator_options: Mapping[str, Any] = field(default_factory=lambda: {"norm": "batch"})
    gan_loss: str = "cross_entropy"
    adversarial_weight: float = 1.0
    l1_weight: float = 100.0
    normalise_weights: bool = False


class Pix2PixTrainer(Trainer):
    """One generator, one conditional discriminator; the discriminator is updated first."""

    name = "pix2pix"
    options: Pix2PixOptions

    def __init__(self, options: Pix2PixOptions, engine: Engine | None = None, seed: int = 0) -> None:
        super().__init__(options, engine, seed)
        seeds = network_seeds(options, seed, 2)
        self.networks["generator"] = new_generator(options, seeds[0])
        self.networks["discriminator"] = new_discriminator(options, seeds[1], images=2)
        self.optimizers = {name: self._adam(self.networks[name]) for name in ("generator", "discriminator")}
        self.gan = GanLoss(options.gan_loss, options.inverted_labels)
        total = options.adversarial_weight + options.l1_weight if options.normalise_weights else 1.0
        self.adversarial_weight = options.adversarial_weight / total
        self.l1_weight = options.l1_weight / total

    def step(self, day: Tensor, night: Tensor) -> dict[str, Tensor]:
        """One update; ``night[i]`` shows what ``day[i]`` shows. See :meth:`Trainer.step`."""
        generator, discriminator = self.networks["generator"], self.networks["discriminator"]
        self.networks.train()
        with self.engine.autocast():
            fake = generator(day)
            judged = self.gan.discriminator(
                discriminator(torch.cat((day, night), 1)), discriminator(torch.cat((day, fake.detach()), 1))
            )
        self._update("discriminator", judged)
        with self.engine.autocast():
            with frozen(discriminator):
                adversarial = self.gan.generator(discriminator(torch.cat((day, fake), 1)))
            difference = l1(fake, night)
        self._update("generator", self.adversarial_weight * adversarial + self.l1_weight * difference)
        return {
            "discriminator": judged.detach(),
            "adversarial": adversarial.detach(),
            "l1": difference.detach(),
        }

    def _samples(self, day: Tensor, night: Tensor) -> dict[str, Tensor]:
        return {"source": day, "fake": self.networks["generator"](day), "night": night}

    def _products(self) -> dict[str, nn.Module]:
        """``day2night``."""
        return {"day2night": self.networks["generator"]}
