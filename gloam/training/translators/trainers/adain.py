"""AdaIN (Huang & Belongie 2017): a decoder learns to show features that were given another image's statistics."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gloam.errors import ModelError, UsageError
from gloam.networks.checkpoints import read_state
from gloam.networks.embedders.base import IMAGENET_MEAN, IMAGENET_STD
from gloam.networks.translators import init_weights
from gloam.networks.translators.adain import AdainGenerator, statistics
from gloam.training.translators.losses import exact
from gloam.training.translators.trainers.base import Engine, adam
from gloam.training.translators.trainers.build import network_seeds, new_generator
from gloam.training.translators.trainers.domains import DomainOptions, ManyDomains


@dataclass(frozen=True)
class AdainOptions(DomainOptions):
    """Options of AdaIN; the defaults are those of the public PyTorch code.

    Attributes:
        content_weight, style_weight: of the features' and of their statistics' squared differences.
        rate_decay: the rate is divided by 1 plus this times the number of steps.
        encoder_weights: file of the frozen VGG19: the public code's ``vgg_normalised.pth``, or torchvision's state
            dict, which gets ImageNet's normalisation in front.
        encoder_random: take random frozen weights instead.
    """

    epochs: int = 16
    decay_epochs: int = 0
    learning_rate: float = 1e-4
    beta1: float = 0.9
    generator: str = "adain"
    generator_options: Mapping[str, Any] = field(default_factory=dict)
    init: str = "kaiming"
    content_weight: float = 1.0
    style_weight: float = 10.0
    rate_decay: float = 5e-5
    encoder_weights: str | None = None
    encoder_random: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            UsageError: naming the value and what it may be.
        """
        super().__post_init__()
        if self.generator != "adain":
            raise UsageError(f"generator {self.generator!r}: must be 'adain'")
        if self.codes is not None:
            raise UsageError("codes: AdaIN takes no label; leave them out")
        if not self.rate_decay >= 0:
            raise UsageError(f"rate_decay {self.rate_decay}: must not be negative")


class AdainTrainer(ManyDomains):
    """The decoder alone learns; sources are contents, targets are styles.

    Raises:
        UsageError: no file of VGG19's weights is named, and they are not to be random.
        ModelError: that file holds no VGG19.
    """

    name = "adain"
    options: AdainOptions

    def __init__(self, options: AdainOptions, engine: Engine | None = None, seed: int = 0) -> None:
        super().__init__(options, engine, seed)
        if options.encoder_weights is None and not options.encoder_random:
            raise UsageError(
                "encoder_weights is not set; name vgg_normalised.pth or torchvision's VGG19 weights "
                "(vgg19-dcbb9e9d.pth), or set encoder_random"
            )
        (drawn,) = network_seeds(options, seed, 1)
        named = {"domains": options.domains, **options.generator_options}
        generator = new_generator(dataclasses.replace(options, generator_options=named), drawn)
        assert isinstance(generator, AdainGenerator)  # another was refused
        self.generator = generator
        if options.encoder_weights is not None:
            load_encoder(generator.encoder, options.encoder_weights)
        else:
            init_weights(generator.encoder, "kaiming", seed=drawn)
        self.networks["generator"] = generator
        betas = (options.beta1, options.beta2)
        self.optimizers["generator"] = adam(generator.decoder.parameters(), options.learning_rate, betas)
        self.steps, self._factor = 0, 1.0

    def set_progress(self, epoch: int) -> None:
        """See :meth:`Trainer.set_progress`; each step divides the rate further."""
        super().set_progress(epoch)
        group = self.optimizers["generator"].param_groups[0]
        self._factor = group["lr"] / group["full_lr"]

    def step_between(self, source: Tensor, target: Tensor, domains: Tensor) -> dict[str, Tensor]:
        """One update. See :meth:`Trainer.step_between`."""
        generator = self.generator
        generator.train()
        for group in self.optimizers["generator"].param_groups:
            group["lr"] = group["full_lr"] * self._factor / (1.0 + self.options.rate_decay * self.steps)
        with self.engine.autocast():
            with torch.no_grad():
                styles = generator.features(target)
                wanted = generator.restyled(generator.features(source)[-1], torch.cat(statistics(styles[-1]), 1))
            made = generator.features(generator.decoded(wanted))
            losses = {
                "content": F.mse_loss(exact(made[-1]), exact(wanted)),
                "style": torch.stack([_distance(a, b) for a, b in zip(made, styles, strict=True)]).sum(),
            }
        options = self.options
        total = options.content_weight * losses["content"] + options.style_weight * losses["style"]
        self._update("generator", total)
        self.steps += 1
        return {name: loss.detach() for name, loss in losses.items()}

    def finish(self, batches: Any) -> None:
        """Keep the mean statistics of each domain's training images. See :meth:`Trainer.finish`."""
        self._keep_appearances(self.generator, batches)

    def _samples_between(self, source: Tensor, target: Tensor, domains: Tensor) -> dict[str, Tensor]:
        generator = self.generator
        return {"source": source, "fake": generator.dressed(source, generator.worn(target)), "target": target}

    def _products(self) -> dict[str, nn.Module]:
        """``translator``."""
        return {"translator": self.generator}

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`Trainer.state_dict`."""
        return {**super().state_dict(), "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See :meth:`Trainer.load_state_dict`."""
        super().load_state_dict(state)
        self.steps = int(state["steps"])


def load_encoder(encoder: nn.Sequential, path: str | Path) -> None:
    """Fill AdaIN's encoder from ``vgg_normalised.pth`` or from torchvision's VGG19, whose images are normalised first.

    Raises:
        ModelError: not such weights.
    """
    state = read_state(Path(path))[0]
    own = encoder.state_dict()
    if any(key.startswith("features.") for key in state):
        theirs = [key for key, value in state.items() if key.startswith("features.") and value.ndim == 4]
        places = [key.removesuffix(".weight") for key in own if key.endswith(".weight")]
        deviation = torch.tensor(IMAGENET_STD)
        named = {
            "0.weight": torch.diag(1 / deviation)[:, :, None, None],
            "0.bias": -torch.tensor(IMAGENET_MEAN) / deviation,
        }
        for place, key in zip(places[1:], theirs, strict=False):
            named |= {f"{place}.{end}": state[f"{key.removesuffix('weight')}{end}"] for end in ("weight", "bias")}
        state = named
    for key, value in own.items():
        if key not in state or state[key].shape != value.shape:
            raise ModelError(
                f"{path}: no weights of VGG19, {key} does not fit; give vgg_normalised.pth or torchvision's"
            )
    encoder.load_state_dict({key: state[key].float() for key in own})


def _distance(first: Tensor, second: Tensor) -> Tensor:
    """Squared differences of means and of deviations."""
    pairs = zip(statistics(exact(first)), statistics(exact(second)), strict=True)
    return torch.stack([F.mse_loss(a, b) for a, b in pairs]).sum()
