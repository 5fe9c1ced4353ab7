"""What a translator's trainer is, and who it asks for device, precision and processes."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from gloam.errors import DivergenceError, UsageError
from gloam.training.translators.company import Beside, Company
from gloam.training.translators.image_pool import ImagePool
from gloam.training.translators.learning_rate import linear_factor
from gloam.training.translators.losses import GAN_LOSSES

INITS = ("normal", "xavier", "kaiming")


class Engine(Protocol):
    """Who owns device, precision and processes; a trainer goes through it for every forward, backward and update."""

    def autocast(self) -> AbstractContextManager[Any]:
        """The context of every forward, entered anew behind each update and never nested (it may keep cast weights)."""

    def backward(self, name: str, loss: Tensor) -> None:
        """Add the loss's gradients to the parameters.

        Raises:
            DivergenceError: the loss called ``name`` is not finite; no gradient has been touched.
        """

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Average the optimiser's gradients over all processes and update."""


class PlainEngine:
    """One process, one device, float32."""

    def autocast(self) -> AbstractContextManager[Any]:
        """No change of precision."""
        return contextlib.nullcontext()

    def backward(self, name: str, loss: Tensor) -> None:
        """Plain backward of a finite loss.

        Raises:
            DivergenceError: the loss is not finite.
        """
        if not bool(torch.isfinite(loss)):
            raise DivergenceError(f"the {name} loss is {float(loss.detach())}; try a lower learning_rate")
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Plain update."""
        optimizer.step()


@dataclass(frozen=True)
class TrainerOptions:
    """What all trainers share; the defaults are those of CycleGAN's code.

    Attributes:
        epochs: of the whole run; only the learning-rate rule and the loop read it.
        decay_epochs: the last so many epochs, in which the rate falls linearly.
        learning_rate, beta1, beta2: of Adam, for generators and discriminators alike.
        channels: of the images, 3 (RGB) or 1.
        generator, generator_options: name in ``GENERATORS`` and arguments of its constructor (without ``channels``).
        discriminator, discriminator_options: the same of ``DISCRIMINATORS``.
        init, init_gain: rule of the initial weights (``normal``, ``xavier``, ``kaiming``) and its gain.
        twin_seeds: every network starts from the same seed, so that networks of one architecture start as twins;
            gandtr, the code of Dark Side Augmentation, does so.
        gan_loss: name in ``GAN_LOSSES``.
        inverted_labels: real means 0 and fake means 1, as in gandtr.
        average_decay: of the exponential moving average over steps of a product's weights (Yazici et al. 2019), which
            is then what samples show and what the run saves; 0 is none, and the last step's weights, as in all papers
            here. 0.998 is the mean of about 500 steps.
    """

    epochs: int = 200
    decay_epochs: int = 100
    learning_rate: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.999
    channels: int = 3
    generator: str = "resnet"
    generator_options: Mapping[str, Any] = field(default_factory=lambda: {"norm": "instance"})
    discriminator: str = "patch"
    discriminator_options: Mapping[str, Any] = field(default_factory=lambda: {"norm": "instance"})
    init: str = "normal"
    init_gain: float = 0.02  # gandtr: 0.2, which no paper mentions
    twin_seeds: bool = False
    gan_loss: str = "least_squares"
    inverted_labels: bool = False
    average_decay: float = 0.0

    inits: ClassVar[tuple[str, ...]] = INITS

    @property
    def beside(self) -> Beside | None:
        """What a step needs beside a source and its target; None for nothing."""
        return None

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            UsageError: naming the value and what it may be.
        """
        if self.epochs < 1:
            raise UsageError(f"epochs {self.epochs}: must be at least 1")
        if not 0 <= self.decay_epochs <= self.epochs:
            raise UsageError(f"decay_epochs {self.decay_epochs}: must be between 0 and epochs ({self.epochs})")
        if not self.learning_rate > 0:
            raise UsageError(f"learning_rate {self.learning_rate}: must be positive")
        for name in ("beta1", "beta2", "average_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)}: must be at least 0 and below 1")
        if self.channels not in (1, 3):
            raise UsageError(f"channels {self.channels}: must be 1 or 3")
        for name, allowed in (("init", self.inits), ("gan_loss", tuple(GAN_LOSSES))):
            if getattr(self, name) not in allowed:
                raise UsageError(f"{name} {getattr(self, name)!r}: choose one of {', '.join(allowed)}")
        for name, value in vars(self).items():
            if name.endswith("_weight") and value is not None and not value >= 0:
                raise UsageError(f"{name} {value}: must not be negative")


class Trainer(ABC):
    """Networks, their optimisers and the rule of one update.

    Networks are built on the CPU from ``seed`` alone and moved by whoever owns the device
    (``trainer.networks.to(device)``). Random choices of a step come from generators that belong to the trainer and are
    part of its state; dropout alone draws from torch's global generator, which is the loop's to seed for each step.

    Attributes:
        name: key in ``TRAINERS``.
        options: of this trainer.
        networks: everything that has parameters, frozen networks included.
        optimizers: by name.
        engine: owner of device, precision and processes.
        pools: image pools by name; each process of several keeps its own.
        generators: random generators by name, equal in all processes.
        averages: of the products' weights over steps, by name; empty where ``average_decay`` is 0.
    """

    name: ClassVar[str]
    options: TrainerOptions
    networks: nn.ModuleDict
    optimizers: dict[str, torch.optim.Optimizer]
    engine: Engine
    pools: dict[str, ImagePool]
    generators: dict[str, torch.Generator]
    averages: dict[str, AveragedModel]

    def __init__(self, options: TrainerOptions, engine: Engine | None = None, seed: int = 0) -> None:
        """Subclasses call this, then build ``networks`` and ``optimizers``.

        Args:
            options: of this trainer.
            engine: plain torch in float32 where it is left out.
            seed: of initial weights and of the choices of a step.
        """
        self.options = options
        self.engine = engine if engine is not None else PlainEngine()
        self.seed = seed
        self.networks = nn.ModuleDict()
        self.optimizers = {}
        self.pools = {}
        self.generators = {}
        self.averages = {}

    @abstractmethod
    def step(self, day: Tensor, night: Tensor) -> dict[str, Tensor]:
        """One update of everything that learns.

        Args:
            day: float32 ``[B, C, H, W]`` in [-1, 1]; sides are multiples of the generator's ``multiple``.
            night: the same shape.

        Returns:
            Unweighted losses by name: detached scalars on the device, not yet read back.

        Raises:
            DivergenceError: a loss is not finite.
        """

    def step_between(self, source: Tensor, target: Tensor, domains: Tensor) -> dict[str, Tensor]:
        """One update of a trainer of many domains.

        Args:
            source, target: float32 ``[B, C, H, W]`` in [-1, 1], of two domains each.
            domains: int64 ``[B, 2]``, indices of the source's and the target's.

        Returns:
            as :meth:`step`.

        Raises:
            UsageError: the trainer is of two domains alone.
            DivergenceError: a loss is not finite.
        """
        raise UsageError(f"trainer {self.name!r} takes a day and a night image, not images of many domains")

    def step_among(self, source: Tensor, target: Tensor, domains: Tensor, company: Company) -> dict[str, Tensor]:
        """One update of a trainer that asks for company (``options.beside``).

        Args:
            source, target, domains: as in :meth:`step_between`.
            company: the images that both are compared with.

        Returns:
            as :meth:`step`.

        Raises:
            UsageError: the trainer compares with no others.
            DivergenceError: a loss is not finite.
        """
        raise UsageError(f"trainer {self.name!r} compares images with no others")

    def begin_epoch(self, epoch: int, batches: Any, say: Callable[[str], None]) -> None:  # noqa: B027  # most do nothing
        """What a trainer does before the first step of an epoch, and again where a run carries on within one.

        Args:
            epoch: counted from 0.
            batches: of the run; a ``CompanyBatches`` for a trainer that asks for company.
            say: gets lines now and then.
        """

    def remarks(self, means: Mapping[str, float]) -> list[str]:
        """Lines about an epoch that went wrong though its losses are finite.

        Args:
            means: of what :meth:`step` gave, by name, over the epoch's last row of ``losses.csv``.
        """
        return []

    def finish(self, batches: Any) -> None:  # noqa: B027  # as above
        """What a trainer does with the images once the run is done, before its products are saved."""

    def samples(self, day: Tensor, night: Tensor, domains: Tensor | None = None) -> dict[str, Tensor]:
        """Pictures to look at, in eval mode and without gradients; the networks' modes are as before afterwards.

        Args:
            day, night: as in :meth:`step`.
            domains: where the images are of many, as in :meth:`step_between`.

        Returns:
            float32 ``[B, C, H, W]`` in [-1, 1] by name: ``source`` and ``fake`` always; ``cycle``, ``night``,
            ``edges`` and others where the trainer has them.
        """
        with torch.no_grad(), evaluating(self.networks), self._averaged(), self.engine.autocast():
            pictures = self._samples(day, night) if domains is None else self._samples_between(day, night, domains)
        return {name: picture.float().expand(-1, day.shape[1], -1, -1) for name, picture in pictures.items()}

    @abstractmethod
    def _samples(self, day: Tensor, night: Tensor) -> dict[str, Tensor]:
        """:meth:`samples` without its guards."""

    def _samples_between(self, source: Tensor, target: Tensor, domains: Tensor) -> dict[str, Tensor]:
        """:meth:`samples` of many domains without its guards."""
        raise UsageError(f"trainer {self.name!r} takes a day and a night image, not images of many domains")

    def products(self) -> dict[str, nn.Module]:
        """What a finished run saves as native checkpoints, by name: averages over steps where the run keeps them."""
        return {**self._products(), **{name: average.module for name, average in self.averages.items()}}

    @abstractmethod
    def _products(self) -> dict[str, nn.Module]:
        """:meth:`products` with the weights of the last step."""

    def follow(self) -> None:
        """Take the last step's weights into the averages; the loop calls it after every step."""
        if not self.options.average_decay:
            return
        for name, product in self._products().items():
            self._average_of(name, product).update_parameters(product)

    def _average_of(self, name: str, product: nn.Module) -> AveragedModel:
        if name not in self.averages:
            self.averages[name] = AveragedModel(product, multi_avg_fn=moving_average(self.options.average_decay))
        return self.averages[name]

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        """In this context the products' weights are their averages, where there are any."""
        self._swap(list(self.averages))
        try:
            yield
        finally:
            self._swap(list(self.averages)[::-1])  # the products may share weights

    def _swap(self, names: list[str]) -> None:
        products = self._products()
        for name in names:
            average = self.averages[name]
            for live, mean in zip(products[name].parameters(), average.module.parameters(), strict=True):
                live.data, mean.data = mean.data, live.data

    def state_dict(self) -> dict[str, Any]:
        """Enough to carry on bit for bit; tensors and plain values only, so that ``weights_only`` reads it back."""
        return {
            "networks": self.networks.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "pools": {name: pool.state_dict() for name, pool in self.pools.items()},
            "generators": {name: generator.get_state() for name, generator in self.generators.items()},
            "averages": {name: average.state_dict() for name, average in self.averages.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` of a trainer of equal options gave."""
        self.networks.load_state_dict(state["networks"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        for name, pool in self.pools.items():
            pool.load_state_dict(state["pools"][name])
        for name, generator in self.generators.items():
            generator.set_state(state["generators"][name].cpu())
        products = self._products()
        for name, average in state["averages"].items():
            self._average_of(name, products[name]).load_state_dict(average)

    def set_progress(self, epoch: int) -> None:
        """Set all learning rates to those of an epoch, counted from 0.

        Raises:
            UsageError: the run has no such epoch.
        """
        factor = linear_factor(epoch, self.options.epochs, self.options.decay_epochs)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group["full_lr"] * factor

    def _adam(self, *networks: nn.Module) -> torch.optim.Adam:
        """Adam with the options' rate and betas over all parameters of some networks."""
        parameters = [parameter for network in networks for parameter in network.parameters()]
        return adam(parameters, self.options.learning_rate, (self.options.beta1, self.options.beta2))

    def _update(self, name: str, loss: Tensor) -> None:
        """Clear, backward, step: all of the optimiser called ``name``."""
        optimizer = self.optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        self.engine.backward(name, loss)
        self.engine.step(optimizer)


def moving_average(decay: float) -> Callable[[Any, Any, Tensor | int], None]:
    """Rule of ``AveragedModel``: weights count ``decay`` times less with each later step, and sum to 1.

    torch's own rule lets the first step count as all steps before it, which a short run never forgets.
    """

    @torch.no_grad()
    def update(averages: list[Tensor], weights: list[Tensor], count: Tensor | int) -> None:
        share = (1 - decay) / (1 - decay ** (int(count) + 1))
        for average, weight in zip(averages, weights, strict=True):
            average.lerp_(weight, share)

    return update


def adam(
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
    learning_rate: float,
    betas: tuple[float, float],
    weight_decay: float = 0.0,
) -> torch.optim.Adam:
    """Adam whose groups remember their full rate for the learning-rate rule; L2, if any, is part of the gradient."""
    # fused: one pass over memory, bit for bit repeatable; the plain loop takes several times as long on a CPU
    optimizer = torch.optim.Adam(parameters, learning_rate, betas, weight_decay=weight_decay, fused=True)
    for group in optimizer.param_groups:
        group["full_lr"] = group["lr"]
    return optimizer


@contextlib.contextmanager
def frozen(*networks: nn.Module) -> Iterator[None]:
    """In a forward within this context the networks' weights take no gradient; their inputs still do."""
    learning = [parameter for network in networks for parameter in network.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


@contextlib.contextmanager
def evaluating(networks: nn.Module) -> Iterator[None]:
    """In this context the networks are in eval mode; their modes are as before afterwards."""
    modes = [(module, module.training) for module in networks.modules()]
    networks.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
