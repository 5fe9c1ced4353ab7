"""Weakly-paired multi-domain translation (BMVC 2020), its ablations, and SPADE on the same pairs.

The target of a pair shows the same place in another domain, not pixel for pixel: it is judged beside the source, and
compared in the discriminator's features alone. Perception ties the translation to its source.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gloam.errors import UsageError
from gloam.networks.translators.spade import blended
from gloam.networks.translators.two_stream import TwoStreamDiscriminator, Verdict
from gloam.training.translators.domain_losses import (
    PerceptualDistance,
    dark_mask,
    feature_loss,
    label_loss,
    total_variation,
)
from gloam.training.translators.losses import GanLoss, exact
from gloam.training.translators.trainers.base import Engine, frozen
from gloam.training.translators.trainers.domains import DomainOptions, DomainTrainer, mask_remarks


@dataclass(frozen=True)
class WeaklyPairedOptions(DomainOptions):
    """The paper's main text states no numbers: adversarial, feature and perceptual weights, learning rates and schedule
    are SPADE's, the others our choice.

    Attributes:
        marginal_weight: of the adversarial loss on the candidate alone; ``adversarial_weight`` is of that on the pair.
        feature_weight: of the L1 between the discriminator's features of fake and real pair.
        feature_shares: of its joint hidden layers, the last ones, lower layers first.
        perceptual_weight: of VGG19's features between the translation and its source.
        perceptual_target: compare with the target instead, as SPADE does.
        perceptual_weights: file of torchvision's VGG19 state dict.
        perceptual_normalise: give VGG19 images of ImageNet's mean and deviation.
        class_weight: of the label loss; 0 leaves the class head out.
        discriminator_class_weight: of the discriminator's, on real images; None is ``class_weight``. A head that learns
            fast, and a generator that follows it little, leave less to gain by patterns that please the head alone.
        attention_weight: of the mean of 1 - mask.
        smooth_weight: of the mask's total variation.
        initial_mask: what the mask is everywhere before the first step; the paper says nothing, which is a half.
            Near 1 the training begins with the image itself. Without a mask it is not used.
        spectral: learn under a spectral norm.
    """

    epochs: int = 100
    decay_epochs: int = 50
    learning_rate: float = 1e-4
    discriminator_learning_rate: float = 4e-4
    beta1: float = 0.0
    beta2: float = 0.9
    generator: str = "weakly_paired"
    generator_options: Mapping[str, Any] = field(default_factory=dict)
    discriminator: str = "two_stream"
    discriminator_options: Mapping[str, Any] = field(default_factory=dict)
    init: str = "xavier"
    gan_loss: str = "hinge"
    average_decay: float = 0.999
    marginal_weight: float = 1.0
    feature_weight: float = 10.0
    feature_shares: tuple[float, ...] = (2 / 3, 1 / 3)
    perceptual_weight: float = 10.0
    perceptual_target: bool = False
    perceptual_weights: str | None = None
    perceptual_normalise: bool = True
    class_weight: float = 1.0
    discriminator_class_weight: float | None = None
    attention_weight: float = 0.1
    smooth_weight: float = 1.0
    initial_mask: float = 0.5
    spectral: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            UsageError: naming the value and what it may be.
        """
        super().__post_init__()
        if not 0 < self.initial_mask < 1:
            raise UsageError(f"initial_mask {self.initial_mask}: give a number above 0 and below 1")


class WeaklyPairedTrainer(DomainTrainer):
    """The generator is updated first, then the discriminator on the same translations.

    Raises:
        UsageError: perception is asked for and no file of VGG19 is named, or the discriminator judges no pairs.
        ModelError: that file holds no VGG19.
    """

    name = "weakly_paired"
    options: WeaklyPairedOptions

    def __init__(self, options: WeaklyPairedOptions, engine: Engine | None = None, seed: int = 0) -> None:
        super().__init__(options, engine, seed)
        if not isinstance(self.discriminator, TwoStreamDiscriminator):
            raise UsageError(f"discriminator {options.discriminator!r} judges no pairs; choose 'two_stream'")
        self.gan = GanLoss(options.gan_loss, options.inverted_labels)
        if getattr(self.generator, "mask", False):
            bias = math.log(options.initial_mask / (1 - options.initial_mask))
            nn.init.zeros_(self.generator.get_parameter("head_mask.weight"))
            nn.init.constant_(self.generator.get_parameter("head_mask.bias"), bias)
        if options.perceptual_weight:
            if options.perceptual_weights is None:
                raise UsageError(
                    "perceptual_weights is not set; name a file of torchvision's VGG19 weights "
                    "(vgg19-dcbb9e9d.pth), or set perceptual_weight 0"
                )
            with torch.random.fork_rng(devices=[]):
                distance = PerceptualDistance(options.perceptual_weights, options.perceptual_normalise)
            self.networks["perception"] = distance

    def _label_heads(self) -> int:
        return len(self.generator.codes[0]) if self.options.class_weight else 0

    def _spectral(self) -> bool:
        return self.options.spectral

    def step_between(self, source: Tensor, target: Tensor, domains: Tensor) -> dict[str, Tensor]:
        """One update. See :meth:`Trainer.step_between`."""
        cells = len(source) * source.shape[2] * source.shape[3] // self.generator.multiple**2
        if cells < 2:
            raise UsageError("a batch of one image of one cell has no statistics; use a larger batch or size")
        self.networks.train()
        code = self._code(domains, 1, source)
        with self.engine.autocast():
            colours, mask = self.generator.parts(source, code, *self._noise(source))  # type: ignore[operator]
            fake = blended(source, colours, mask)
            with frozen(self.discriminator):
                losses = self._generator_losses(source, target, fake, mask, code)
        self._update("generator", sum((self._weight(n) * loss for n, loss in losses.items()), source.new_zeros(())))
        with self.engine.autocast():
            judged = self._discriminator_losses(source, target, fake.detach(), code)
        judged = {f"discriminator_{name}": loss for name, loss in judged.items()}
        total = sum((self._weight(name) * loss for name, loss in judged.items()), source.new_zeros(()))
        self._update("discriminator", total)
        losses |= judged
        if mask is not None:
            losses["mask_mean"] = exact(mask).mean()
        return {name: loss.detach() for name, loss in losses.items()}

    def remarks(self, means: Mapping[str, float]) -> list[str]:
        """See :meth:`Trainer.remarks`."""
        return mask_remarks(means["mask_mean"]) if "mask_mean" in means else []

    def _noise(self, source: Tensor) -> list[Tensor]:
        """Draws of the generator's conditions behind the label, for images of a shape."""
        drawn = []
        for spec in self.generator.conditions[1:]:
            shape = spec.sized(len(source), source.shape[2], source.shape[3], spec.name)
            drawn.append(torch.randn(shape, generator=self.generators["noise"]).to(source.device, source.dtype))
        return drawn

    def _generator_losses(
        self, source: Tensor, target: Tensor, fake: Tensor, mask: Tensor | None, code: Tensor
    ) -> dict[str, Tensor]:
        options = self.options
        of_fake: list[Verdict] = self.discriminator(source, fake)
        losses = {"joint": _mean([self.gan.generator(verdict.joint) for verdict in of_fake])}
        if options.feature_weight:
            with torch.no_grad():
                of_real: list[Verdict] = self.discriminator(source, target)
            pairs = zip(of_fake, of_real, strict=True)
            losses["features"] = _mean([feature_loss(a.features, b.features, options.feature_shares) for a, b in pairs])
        if any(verdict.marginal is not None for verdict in of_fake):
            losses["marginal"] = _mean([self.gan.generator(v.marginal) for v in of_fake if v.marginal is not None])
        if any(verdict.label is not None for verdict in of_fake):
            losses["class"] = _mean([label_loss(v.label, code) for v in of_fake if v.label is not None])
        if options.perceptual_weight:
            wanted = target if options.perceptual_target else source
            losses["perception"] = self.networks["perception"](fake, wanted)
        if mask is not None:
            losses |= {"attention": dark_mask(mask), "smooth": total_variation(mask)}
        return losses

    def _discriminator_losses(self, source: Tensor, target: Tensor, fake: Tensor, code: Tensor) -> dict[str, Tensor]:
        real: list[Verdict] = self.discriminator(source, target)
        made: list[Verdict] = self.discriminator(source, fake)
        both = list(zip(real, made, strict=True))
        losses = {"joint": _mean([self.gan.discriminator(a.joint, b.joint) for a, b in both])}
        marginal = [(a.marginal, b.marginal) for a, b in both if a.marginal is not None and b.marginal is not None]
        if marginal:
            losses["marginal"] = _mean([self.gan.discriminator(a, b) for a, b in marginal])
        labels = [verdict.label for verdict in real if verdict.label is not None]
        if labels:
            losses["class"] = _mean([label_loss(label, code) for label in labels])
        return losses

    def _weight(self, name: str) -> float:
        options = self.options
        if name == "discriminator_class" and options.discriminator_class_weight is not None:
            return options.discriminator_class_weight
        return {
            "joint": options.adversarial_weight,
            "marginal": options.marginal_weight,
            "class": options.class_weight,
            "features": options.feature_weight,
            "perception": options.perceptual_weight,
            "attention": options.attention_weight,
            "smooth": options.smooth_weight,
        }[name.removeprefix("discriminator_")]


def _mean(values: list[Tensor]) -> Tensor:
    """Over the scales."""
    return torch.stack(values).mean()
