"""HEDGAN, HED^N GAN and their RCF forms (Mohwald et al. 2023, Dark Side Augmentation): night keeps the day's edges."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gloam.errors import ModelError, UsageError
from gloam.networks.checkpoints import load_detector
from gloam.networks.edges import EdgeDetectorNetwork
from gloam.training.translators.losses import GanLoss, exact, l1
from gloam.training.translators.trainers.base import Engine, Trainer, TrainerOptions, adam, frozen
from gloam.training.translators.trainers.build import network_seeds, new_discriminator, new_generator


@dataclass(frozen=True)
class HedGANOptions(TrainerOptions):
    """The defaults are those of the authors' code but for its inverted labels and twin seeds.

    Attributes:
        detector: ``hed`` or ``rcf``.
        detector_weights: native checkpoint of that detector, from ``gloam import`` or ``gloam train edges``.
        student: train a copy of the detector on the fakes beside the generator (HED^N, RCF^N).
        adversarial_weight: of the generator.
        edge_weight: of the generator's L1 between edge maps after the sigmoid; the paper states none.
        student_weight: of each of the student's two L1 losses, on fused logits.
        student_learning_rate: of its Adam; HED multiplies it layer by layer as its Caffe model did.
        student_beta1, student_beta2, student_weight_decay: of its Adam.
    """

    epochs: int = 50
    decay_epochs: int = 25
    generator_options: Mapping[str, Any] = field(default_factory=lambda: {"norm": "batch"})
    discriminator_options: Mapping[str, Any] = field(default_factory=lambda: {"norm": "batch"})
    init: str = "kaiming"
    init_gain: float = 0.2
    detector: str = "hed"
    detector_weights: str | None = None
    student: bool = False
    adversarial_weight: float = 1.0
    edge_weight: float = 5.0
    student_weight: float = 1.0
    student_learning_rate: float = 1e-6
    student_beta1: float = 0.9
    student_beta2: float = 0.999
    student_weight_decay: float = 2e-4

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            UsageError: naming the value and what it may be.
        """
        super().__post_init__()
        if self.channels != 3:
            raise UsageError(f"channels {self.channels}: edge detectors take RGB images, so it must be 3")
        if not self.student_learning_rate > 0:
            raise UsageError(f"student_learning_rate {self.student_learning_rate}: must be positive")


class HedGANTrainer(Trainer):
    """One generator, one discriminator, a frozen teacher that finds edges by day and, optionally, its night student.

    A step runs the generator once, the discriminator three times, and the detector twice without a student, four times
    with one. The order is discriminator, student, generator, each reading what was updated before it.
    """

    name = "hedgan"
    options: HedGANOptions

    def __init__(
        self,
        options: HedGANOptions,
        engine: Engine | None = None,
        seed: int = 0,
        *,
        detector: EdgeDetectorNetwork | None = None,
    ) -> None:
        """Build the networks; teacher and student start from the same weights.

        Args:
            options: of this trainer.
            engine: plain torch in float32 where it is left out.
            seed: of initial weights.
            detector: instead of the one in the file ``detector_weights``.

        Raises:
            UsageError: no detector and no file of one.
            ModelError: the file is not of the detector that the options name.
        """
        super().__init__(options, engine, seed)
        seeds = network_seeds(options, seed, 2)
        self.generator = new_generator(options, seeds[0])
        self.discriminator = new_discriminator(options, seeds[1])
        self.teacher = detector if detector is not None else _read_detector(options)
        self.finder = copy.deepcopy(self.teacher) if options.student else self.teacher
        self.networks.update(
            {"generator": self.generator, "discriminator": self.discriminator, "teacher": self.teacher}
        )
        self.optimizers = {name: self._adam(self.networks[name]) for name in ("discriminator", "generator")}
        if options.student:
            self.networks["student"] = self.finder
            groups = self.finder.parameter_groups(options.student_learning_rate, options.student_weight_decay)
            betas = (options.student_beta1, options.student_beta2)
            self.optimizers["student"] = adam(groups, options.student_learning_rate, betas)
        self.teacher.requires_grad_(False)
        self.gan = GanLoss(options.gan_loss, options.inverted_labels)

    def step(self, day: Tensor, night: Tensor) -> dict[str, Tensor]:
        """One update: discriminator, student, generator. See :meth:`Trainer.step`."""
        self.networks.train()
        self.teacher.eval()
        with self.engine.autocast():
            fake = self.generator(day)
            with torch.no_grad():
                day_logits = self.teacher(day, logits=True)
            judged = self.gan.discriminator(self.discriminator(night), self.discriminator(fake.detach()))
        self._update("discriminator", judged)
        losses = {"discriminator": judged}
        if self.options.student:
            losses.update(self._teach(day, fake.detach(), day_logits))
        with self.engine.autocast(), frozen(self.discriminator, self.finder):
            adversarial = self.gan.generator(self.discriminator(fake))
            fake_logits = self.finder(fake, logits=True)
            edges = l1(torch.sigmoid(exact(fake_logits)), torch.sigmoid(exact(day_logits)))
        self._update("generator", self.options.adversarial_weight * adversarial + self.options.edge_weight * edges)
        losses.update(adversarial=adversarial, edges=edges)
        return {name: loss.detach() for name, loss in losses.items()}

    def _teach(self, day: Tensor, fake: Tensor, day_logits: Tensor) -> dict[str, Tensor]:
        """The student learns to find, by day and in the fake night, what its teacher finds by day."""
        with self.engine.autocast():
            losses = {
                "student_day": l1(self.finder(day, logits=True), day_logits),
                "student_night": l1(self.finder(fake, logits=True), day_logits),
            }
        self._update("student", self.options.student_weight * (losses["student_day"] + losses["student_night"]))
        return losses

    def _samples(self, day: Tensor, night: Tensor) -> dict[str, Tensor]:
        fake = self.generator(day)
        return {
            "source": day,
            "edges": 2 * self.teacher(day) - 1,
            "fake": fake,
            "fake_edges": 2 * self.finder(fake) - 1,
            "night": night,
            "night_edges": 2 * self.finder(night) - 1,
        }

    def _products(self) -> dict[str, nn.Module]:
        """``day2night``, and ``student`` where there is one."""
        products: dict[str, nn.Module] = {"day2night": self.generator}
        if self.options.student:
            products["student"] = self.finder
        return products


def _read_detector(options: HedGANOptions) -> EdgeDetectorNetwork:
    if options.detector_weights is None:
        raise UsageError(
            "detector_weights is not set; name the checkpoint of an edge detector that 'gloam train edges' or "
            "'gloam import' has written"
        )
    detector = load_detector(options.detector_weights).model
    if detector.name != options.detector:
        raise ModelError(
            f"{options.detector_weights}: holds the detector {detector.name!r}, but detector is {options.detector!r}"
        )
    return detector
