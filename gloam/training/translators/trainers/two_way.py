"""What CycleGAN and CyEDA share: two generators, two discriminators, two image pools; generators are updated first."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from gloam.errors import UsageError
from gloam.training.translators.image_pool import POOL_SIZE, ImagePool
from gloam.training.translators.losses import GanLoss
from gloam.training.translators.trainers.base import Engine, Trainer, TrainerOptions, frozen
from gloam.training.translators.trainers.build import network_seeds, new_discriminator, new_generator


@dataclass(frozen=True)
class TwoWayOptions(TrainerOptions):
    """Options of translation in both directions.

    Attributes:
        adversarial_weight: of each generator's adversarial loss.
        pool_size: images that each pool holds; 0 is no pool, with which two processes equal one.
    """

    adversarial_weight: float = 1.0
    pool_size: int = POOL_SIZE

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            UsageError: naming the value and what it may be.
        """
        super().__post_init__()
        if self.pool_size < 0:
            raise UsageError(f"pool_size {self.pool_size}: must not be negative")


class TwoWayTrainer(Trainer):
    """Subclasses say what ties a translation to its source, and how much each loss counts."""

    options: TwoWayOptions

    def __init__(self, options: TwoWayOptions, engine: Engine | None = None, seed: int = 0) -> None:
        super().__init__(options, engine, seed)
        seeds = network_seeds(options, seed, 4)
        self.networks["day2night"] = new_generator(options, seeds[0])
        self.networks["night2day"] = new_generator(options, seeds[1], to_day=True)
        self.networks["night_judge"] = new_discriminator(options, seeds[2])
        self.networks["day_judge"] = new_discriminator(options, seeds[3])
        self.optimizers = {
            "generators": self._adam(self.networks["day2night"], self.networks["night2day"]),
            "discriminators": self._adam(self.networks["night_judge"], self.networks["day_judge"]),
        }
        self.pools = {
            "night": ImagePool(options.pool_size, 2 * seed),
            "day": ImagePool(options.pool_size, 2 * seed + 1),
        }
        self.gan = GanLoss(options.gan_loss, options.inverted_labels)

    @abstractmethod
    def _ties(self, day: Tensor, night: Tensor, fake_day: Tensor, fake_night: Tensor) -> dict[str, Tensor]:
        """Losses that tie translations to their sources, by name; those of weight 0 are left out."""

    @abstractmethod
    def _weight(self, name: str) -> float:
        """Weight of a loss: of ``adversarial_night``, ``adversarial_day`` and those of :meth:`_ties`."""

    def step(self, day: Tensor, night: Tensor) -> dict[str, Tensor]:
        """One update, generators first. See :meth:`Trainer.step`."""
        night_judge, day_judge = self.networks["night_judge"], self.networks["day_judge"]
        self.networks.train()
        with self.engine.autocast():
            fake_night = self.networks["day2night"](day)
            fake_day = self.networks["night2day"](night)
            with frozen(night_judge, day_judge):
                losses = {
                    "adversarial_night": self.gan.generator(night_judge(fake_night)),
                    "adversarial_day": self.gan.generator(day_judge(fake_day)),
                }
            losses.update(self._ties(day, night, fake_day, fake_night))
        # one backward of the sum: both directions' losses reach both generators
        self._update("generators", sum((self._weight(name) * loss for name, loss in losses.items()), day.new_zeros(())))
        fake_night, fake_day = self.pools["night"].query(fake_night), self.pools["day"].query(fake_day)
        with self.engine.autocast():
            judged_night = self.gan.discriminator(night_judge(night), night_judge(fake_night))
            judged_day = self.gan.discriminator(day_judge(day), day_judge(fake_day))
        self._update("discriminators", judged_night + judged_day)
        losses.update(discriminator_night=judged_night, discriminator_day=judged_day)
        return {name: loss.detach() for name, loss in losses.items()}

    def _samples(self, day: Tensor, night: Tensor) -> dict[str, Tensor]:
        day2night, night2day = self.networks["day2night"], self.networks["night2day"]
        fake_night, fake_day = day2night(day), night2day(night)
        return {
            "source": day,
            "fake": fake_night,
            "cycle": night2day(fake_night),
            "night": night,
            "fake_day": fake_day,
            "night_cycle": day2night(fake_day),
        }

    def _products(self) -> dict[str, nn.Module]:
        """``day2night`` and ``night2day``."""
        return {name: self.networks[name] for name in ("day2night", "night2day")}
