"""What trainers of many domains share: images come in pairs, each with the index of its domain."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gloam.errors import UsageError
from gloam.networks.translators import GENERATORS, DomainTranslator, TranslatorNetwork
from gloam.networks.translators.examples import ExampleTranslator
from gloam.networks.translators.spectral import add_spectral_norm, folded
from gloam.training.translators.trainers.base import Engine, Trainer, TrainerOptions, adam, evaluating
from gloam.training.translators.trainers.build import network_seeds, new_discriminator, new_generator

BANK_IMAGES = 64  # of a domain, whose mean appearance is kept
MASK_ENDS = 1e-3  # an attention mask whose mean over many steps is so near to 0 or 1 has collapsed


@dataclass(frozen=True)
class DomainOptions(TrainerOptions):
    """Options of translation between many domains.

    Attributes:
        domains: their names, in the order of the label; all that the data have.
        codes: a row of numbers for each domain, in place of a one-hot label.
        adversarial_weight: of the adversarial losses.
        discriminator_learning_rate: of the discriminator; ``learning_rate`` is the generator's.
    """

    domains: tuple[str, ...] = ("day", "night")
    codes: tuple[tuple[float, ...], ...] | None = None
    adversarial_weight: float = 1.0
    discriminator_learning_rate: float = 1e-4

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            UsageError: naming the value and what it may be.
        """
        super().__post_init__()
        if len(self.domains) < 2 or len(set(self.domains)) != len(self.domains):
            raise UsageError(f"domains {', '.join(self.domains) or 'none'}: at least two are needed, each once")
        if not self.discriminator_learning_rate > 0:
            raise UsageError(f"discriminator_learning_rate {self.discriminator_learning_rate}: must be positive")


def mask_remarks(kept: float) -> list[str]:
    """What to say of an attention mask whose mean over the last steps of an epoch is at one of its ends.

    Args:
        kept: mean of the mask, in [0, 1]; 1 keeps the image.
    """
    if not (kept < MASK_ENDS or kept > 1.0 - MASK_ENDS):
        return []
    found = "are the images themselves" if kept > 0.5 else "keep nothing of the images"
    return [
        f"the attention mask is {kept:.4f}: translations {found}, and such a mask seldom learns again; start anew with "
        "another options.attention_weight, options.learning_rate or seed"
    ]


class ManyDomains(Trainer):
    """A trainer whose images come with the indices of their domains; of two domains they may go without."""

    options: DomainOptions

    @abstractmethod
    def step_between(self, source: Tensor, target: Tensor, domains: Tensor) -> dict[str, Tensor]:
        """See :meth:`Trainer.step_between`."""

    def step(self, day: Tensor, night: Tensor) -> dict[str, Tensor]:
        """One update on images of the first and the second of two domains. See :meth:`Trainer.step`.

        Raises:
            UsageError: there are more.
        """
        return self.step_between(day, night, self._both(day))

    def _both(self, day: Tensor) -> Tensor:
        if len(self.options.domains) != 2:
            raise UsageError(
                f"the data do not say which of the domains {', '.join(self.options.domains)} an image is of; use data "
                "kind 'weak_pairs' or 'domain_folders'"
            )
        return torch.tensor([[0, 1]]).expand(len(day), 2)

    def _samples(self, day: Tensor, night: Tensor) -> dict[str, Tensor]:
        return self._samples_between(day, night, self._both(day))

    def _keep_appearances(self, generator: ExampleTranslator, batches: Any) -> None:
        """Give the translator, and its average where there is one, the mean appearance of each domain's images."""
        like, rows = next(generator.parameters()), []
        with torch.no_grad(), evaluating(self.networks), self._averaged(), self.engine.autocast():
            for label in range(len(self.options.domains)):
                images = batches.of_domain(label, BANK_IMAGES)
                worn = [generator.worn(image.to(like.device, like.dtype)).float() for image in images]
                rows.append(torch.cat(worn).mean(0) if worn else generator.get_buffer("bank")[label].float())
        bank = torch.stack(rows)
        for network in (generator, *(one.module for name, one in self.averages.items() if name == "translator")):
            network.keep(bank)  # type: ignore[operator]  # an average is of the same class


class DomainTrainer(ManyDomains):
    """One generator of several domains, one discriminator; what a run saves is ``translator``, its norms folded."""

    def __init__(self, options: DomainOptions, engine: Engine | None = None, seed: int = 0) -> None:
        kind = GENERATORS.get(options.generator)
        if isinstance(kind, type) and not issubclass(kind, DomainTranslator):
            raise UsageError(f"generator {options.generator!r} takes no label; choose one of several domains")
        super().__init__(options, engine, seed)
        seeds = network_seeds(options, seed, 2)
        of_domains = {"domains": options.domains, "codes": options.codes}
        whole = dataclasses.replace(options, generator_options={**options.generator_options, **of_domains})
        generator = new_generator(whole, seeds[0])
        assert isinstance(generator, DomainTranslator)  # another was refused
        self.generator = generator
        code = {"codes": self._label_heads()}
        judge = dataclasses.replace(options, discriminator_options={**options.discriminator_options, **code})
        self.discriminator = new_discriminator(judge, seeds[1])
        if self._spectral():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seeds[0])
                for network in (self.generator, self.discriminator):
                    add_spectral_norm(network.bounded())  # type: ignore[operator]  # of those that have it
        self.networks.update({"generator": self.generator, "discriminator": self.discriminator})
        rates = {"generator": options.learning_rate, "discriminator": options.discriminator_learning_rate}
        betas = (options.beta1, options.beta2)
        self.optimizers = {name: adam(self.networks[name].parameters(), rate, betas) for name, rate in rates.items()}
        self.generators["noise"] = torch.Generator().manual_seed(seed)

    def _label_heads(self) -> int:
        """Numbers of the label that the discriminator tells; 0 for none."""
        return len(self.generator.codes[0])

    def _spectral(self) -> bool:
        """Whether both networks learn under a spectral norm."""
        return False

    def _samples_between(self, source: Tensor, target: Tensor, domains: Tensor) -> dict[str, Tensor]:
        colours, mask = self.generator.parts(source, self._code(domains, 1, source))  # type: ignore[operator]
        pictures = {"source": source, "fake": self.generator(source, self._code(domains, 1, source))}
        if mask is not None:
            pictures |= {"colours": colours, "mask": 2 * mask - 1}
        return {**pictures, "target": target}

    def _code(self, domains: Tensor, side: int, like: Tensor) -> Tensor:
        return self.generator.label(domains[:, side].to(like.device), like)

    def _products(self) -> dict[str, nn.Module]:
        """``translator``."""
        return {"translator": self.generator}

    def products(self) -> dict[str, nn.Module]:
        """See :meth:`Trainer.products`."""
        made: dict[str, nn.Module] = {}
        for name, product in super().products().items():
            assert isinstance(product, TranslatorNetwork)
            made[name] = folded(product)
        return made
