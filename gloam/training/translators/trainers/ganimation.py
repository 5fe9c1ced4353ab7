"""GANimation (Pumarola et al. 2018) as an unpaired baseline of weakly-paired translation; clean-room, from the paper
and the published settings of its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gloam.errors import UsageError
from gloam.networks.translators.ganimation import StarDiscriminator
from gloam.networks.translators.spade import blended
from gloam.training.translators.domain_losses import gradient_penalty, summed_variation
from gloam.training.translators.losses import exact, l1
from gloam.training.translators.trainers.base import Engine, frozen
from gloam.training.translators.trainers.domains import DomainOptions, DomainTrainer, mask_remarks


@dataclass(frozen=True)
class GanimationOptions(DomainOptions):
    """The defaults are those of the authors' code.

    Attributes:
        judge_steps: updates of the discriminator for each of the generator.
        cycle_weight: of the L1 between an image and its translation there and back.
        condition_weight: of the squared error of the label, over the batch's size.
        penalty_weight: of the gradient penalty, which is an update of its own.
        attention_weight: of the mean of both masks.
        smooth_weight: of the total variation of both masks, summed over pixels and images.
    """

    epochs: int = 30
    decay_epochs: int = 10
    learning_rate: float = 1e-4
    generator: str = "ganimation"
    generator_options: Mapping[str, Any] = field(default_factory=dict)
    discriminator: str = "star"
    discriminator_options: Mapping[str, Any] = field(default_factory=dict)
    judge_steps: int = 5
    cycle_weight: float = 10.0
    condition_weight: float = 4000.0
    penalty_weight: float = 10.0
    attention_weight: float = 0.1
    smooth_weight: float = 1e-5

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            UsageError: naming the value and what it may be.
        """
        super().__post_init__()
        if self.judge_steps < 1:
            raise UsageError(f"judge_steps {self.judge_steps}: must be at least 1")


class GanimationTrainer(DomainTrainer):
    """Sources are translated into the domains of their partners; the partners themselves are not looked at.

    Each step updates the discriminator, each ``judge_steps``-th the generator too.

    Raises:
        UsageError: the discriminator tells no label.
    """

    name = "ganimation"
    options: GanimationOptions

    def __init__(self, options: GanimationOptions, engine: Engine | None = None, seed: int = 0) -> None:
        super().__init__(options, engine, seed)
        if not isinstance(self.discriminator, StarDiscriminator):
            raise UsageError(f"discriminator {options.discriminator!r} tells no label of an image; choose 'star'")
        self.steps = 0

    def step_between(self, source: Tensor, target: Tensor, domains: Tensor) -> dict[str, Tensor]:
        """One update. See :meth:`Trainer.step_between`."""
        self.networks.train()
        own, wanted = self._code(domains, 0, source), self._code(domains, 1, source)
        with self.engine.autocast():
            with torch.no_grad():
                fake = self.generator(source, wanted)
            of_real, label = self.discriminator(source)
            of_fake, _ = self.discriminator(fake)
            losses = {
                "critic": exact(of_fake).mean() - exact(of_real).mean(),
                "critic_label": self._condition(label, own),
            }
        options = self.options
        total = options.adversarial_weight * losses["critic"] + options.condition_weight * losses["critic_label"]
        self._update("discriminator", total)
        mix = torch.rand((len(source), 1, 1, 1), generator=self.generators["noise"]).to(source.device, source.dtype)
        with self.engine.autocast():
            losses["penalty"] = gradient_penalty(lambda x: self.discriminator(x)[0], source, fake, mix)
        self._update("discriminator", options.penalty_weight * losses["penalty"])
        self.steps += 1
        if self.steps % options.judge_steps == 0:
            losses |= self._update_generator(source, own, wanted)
        return {name: loss.detach() for name, loss in losses.items()}

    def remarks(self, means: Mapping[str, float]) -> list[str]:
        """See :meth:`Trainer.remarks`."""
        return mask_remarks(means["attention"] / 2) if "attention" in means else []  # of two masks

    def _update_generator(self, source: Tensor, own: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        options = self.options
        with self.engine.autocast():
            colours, mask = self.generator.parts(source, wanted)  # type: ignore[operator]
            fake = blended(source, colours, mask)
            colours, back_mask = self.generator.parts(fake, own)  # type: ignore[operator]
            back = blended(fake, colours, back_mask)
            with frozen(self.discriminator):
                score, label = self.discriminator(fake)
            masks = (mask, back_mask)
            losses = {
                "adversarial": -exact(score).mean(),
                "label": self._condition(label, wanted),
                "cycle": l1(back, source),
                "attention": torch.stack([exact(m).mean() for m in masks]).sum(),
                "smooth": torch.stack([summed_variation(m) for m in masks]).sum(),
            }
        total = (
            options.adversarial_weight * losses["adversarial"]
            + options.condition_weight * losses["label"]
            + options.cycle_weight * losses["cycle"]
            + options.attention_weight * losses["attention"]
            + options.smooth_weight * losses["smooth"]
        )
        self._update("generator", total)
        return losses

    @staticmethod
    def _condition(label: Tensor, code: Tensor) -> Tensor:
        """Mean squared error of a label, over the batch's size."""
        return F.mse_loss(exact(label), exact(code)) / len(code)

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`Trainer.state_dict`."""
        return {**super().state_dict(), "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See :meth:`Trainer.load_state_dict`."""
        super().load_state_dict(state)
        self.steps = int(state["steps"])
