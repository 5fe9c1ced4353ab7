"""CUT and FastCUT (Park et al. 2020): a patch of the fake must tell its own source patch from the other ones."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gloam.errors import UsageError
from gloam.networks.translators import PatchSampler, init_weights
from gloam.networks.translators.resnet import ResnetGenerator
from gloam.networks.translators.unet import UnetGenerator
from gloam.training.translators.losses import GanLoss, exact
from gloam.training.translators.trainers.base import Engine, Trainer, TrainerOptions, frozen
from gloam.training.translators.trainers.build import network_seeds, new_discriminator, new_generator


@dataclass(frozen=True)
class CUTOptions(TrainerOptions):
    """The defaults are CUT's; FastCUT has ``nce_weight`` 10, ``identity_nce_weight`` 0 and ``flip_equivariance``.

    Dark Side Augmentation's code taps the plain generator at 4, 8, 12, 16 and has ``identity_nce_weight`` 10. Its ReLU
    behind 8 works in place, so that what it compares there is rectified: 9 is that tap here, where none works in place.

    Attributes:
        adversarial_weight: of the generator.
        nce_weight: of the patch loss between day and fake night.
        identity_nce_weight: of the patch loss between night and its translation; where it is not 0, the mean of both
            weighted patch losses counts instead of the first alone.
        layers: indices of the generator's modules whose outputs are compared.
        patches: positions per layer, the same for all images of a batch.
        projection_width: of the sampler's vectors.
        temperature: of the patch loss.
        batch_negatives: patches of all images of a process's batch are negatives, not those of the same image alone.
        flip_equivariance: mirror the generator's input with probability 1/2 and its features back.
    """

    epochs: int = 400
    decay_epochs: int = 200
    generator_options: Mapping[str, Any] = field(default_factory=lambda: {"norm": "instance", "antialias": True})
    discriminator_options: Mapping[str, Any] = field(default_factory=lambda: {"norm": "instance", "antialias": True})
    init: str = "xavier"
    adversarial_weight: float = 1.0
    nce_weight: float = 1.0
    identity_nce_weight: float = 1.0
    layers: tuple[int, ...] = (0, 4, 8, 12, 16)
    patches: int = 256
    projection_width: int = 256
    temperature: float = 0.07
    batch_negatives: bool = False
    flip_equivariance: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            UsageError: naming the value and what it may be.
        """
        super().__post_init__()
        if self.generator not in ("resnet", "unet"):
            raise UsageError(f"generator {self.generator!r}: CUT compares features of 'resnet' (the paper's) or 'unet'")
        if not self.layers or min(self.layers) < 0 or list(self.layers) != sorted(set(self.layers)):
            raise UsageError(f"layers {list(self.layers)}: rising indices, at least one")
        if self.patches < 2:
            raise UsageError(f"patches {self.patches}: a patch needs another one to be told from")
        if not self.temperature > 0:
            raise UsageError(f"temperature {self.temperature}: must be positive")


class CUTTrainer(Trainer):
    """One generator, one discriminator and the sampler that projects patches of the generator's own encoder.

    The discriminator is updated first. Keys, the source's features, are taken from the forward that translates it, so
    that only the translations are encoded anew.
    """

    name = "cut"
    options: CUTOptions

    def __init__(self, options: CUTOptions, engine: Engine | None = None, seed: int = 0) -> None:
        super().__init__(options, engine, seed)
        seeds = network_seeds(options, seed, 3)
        generator = new_generator(options, seeds[0])
        assert isinstance(generator, ResnetGenerator | UnetGenerator)  # the options allow no other
        if options.layers[-1] >= generator.feature_layers:
            raise UsageError(
                f"layers {list(options.layers)}: this generator has layers 0 to {generator.feature_layers - 1}"
            )
        self.generator = generator
        self.discriminator = new_discriminator(options, seeds[1])
        with torch.random.fork_rng(devices=[]):
            self.sampler = PatchSampler(generator.feature_channels(options.layers), options.projection_width)
            init_weights(self.sampler, options.init, options.init_gain, seeds[2])
        self.networks.update(
            {"generator": self.generator, "discriminator": self.discriminator, "sampler": self.sampler}
        )
        self.optimizers = {
            "discriminator": self._adam(self.discriminator),
            "generator": self._adam(self.generator, self.sampler),
        }
        self.generators = {
            "positions": torch.Generator().manual_seed(2 * seed),
            "flip": torch.Generator().manual_seed(2 * seed + 1),
        }
        self.gan = GanLoss(options.gan_loss, options.inverted_labels)

    def step(
        self, day: Tensor, night: Tensor, positions: Sequence[Sequence[Tensor]] | None = None
    ) -> dict[str, Tensor]:
        """One update: discriminator, then generator and sampler. See :meth:`Trainer.step`.

        Args:
            day, night: images.
            positions: where patches are taken, in place of drawing them: int64 ``[P_i]`` for each layer, first those of
                the day's patch loss, then those of the night's where it counts.
        """
        options, layers = self.options, self.options.layers
        self.networks.train()
        count = len(day)
        source = torch.cat((day, night)) if options.identity_nce_weight else day
        flipped = options.flip_equivariance and bool(torch.rand((), generator=self.generators["flip"]) < 0.5)
        with self.engine.autocast():
            *keys, made = self.generator.features(source.flip(3) if flipped else source, layers)
            judged = self.gan.discriminator(self.discriminator(night), self.discriminator(made[:count].detach()))
        self._update("discriminator", judged)
        with self.engine.autocast():
            with frozen(self.discriminator):
                adversarial = self.gan.generator(self.discriminator(made[:count]))
            queries = self.generator.features(made, layers, encode_only=True)
            if flipped:
                queries = [query.flip(3) for query in queries]
                with torch.no_grad():
                    keys = self.generator.features(source, layers, encode_only=True)
        at = iter(positions) if positions is not None else itertools.repeat(None)
        losses = {"adversarial": adversarial, "nce": self._nce(queries, keys, slice(0, count), next(at))}
        nce = options.nce_weight * losses["nce"]
        if options.identity_nce_weight:
            losses["nce_identity"] = self._nce(queries, keys, slice(count, None), next(at))
            nce = 0.5 * (nce + options.identity_nce_weight * losses["nce_identity"])
        self._update("generator", options.adversarial_weight * adversarial + nce)
        losses["discriminator"] = judged
        return {name: loss.detach() for name, loss in losses.items()}

    def _nce(
        self, queries: Sequence[Tensor], keys: Sequence[Tensor], images: slice, at: Sequence[Tensor] | None
    ) -> Tensor:
        """Patch loss of some images of the batch, the mean over layers; no gradient reaches the keys.

        Patches are taken ``at`` positions, drawn ones where it is None.
        """
        queries, keys = [query[images] for query in queries], [key[images].detach() for key in keys]
        with self.engine.autocast():
            query_rows, places = self.sampler(queries, self.options.patches, at, self.generators["positions"])
            with torch.no_grad():
                key_rows, _ = self.sampler(keys, self.options.patches, places)
        groups = 1 if self.options.batch_negatives else len(queries[0])
        losses = [
            patch_nce(query, key, groups, self.options.temperature)
            for query, key in zip(query_rows, key_rows, strict=True)
        ]
        return torch.stack(losses).mean()

    def _samples(self, day: Tensor, night: Tensor) -> dict[str, Tensor]:
        pictures = {"source": day, "fake": self.generator(day), "night": night}
        if self.options.identity_nce_weight:
            pictures["identity"] = self.generator(night)
        return pictures

    def _products(self) -> dict[str, nn.Module]:
        """``day2night``."""
        return {"day2night": self.generator}


def patch_nce(queries: Tensor, keys: Tensor, groups: int, temperature: float) -> Tensor:
    """Cross-entropy of finding a patch's key among all keys of its group (CUT, equation 4).

    Args:
        queries: unit rows ``[groups * P, D]``, group by group.
        keys: the same shape; row i is the right one for query i, the group's other rows are the wrong ones.
        groups: how many sets of patches are told apart each on its own.
        temperature: divides the cosines.

    Returns:
        Scalar, the mean over all patches; ln P where all keys of a group are equal. Float64 stays float64.
    """
    queries, keys = (exact(rows).view(groups, -1, rows.shape[1]) for rows in (queries, keys))
    logits = torch.bmm(queries, keys.transpose(1, 2)) / temperature  # [G, P, P]
    right = torch.arange(logits.shape[1], device=logits.device).repeat(groups)
    return F.cross_entropy(logits.flatten(0, 1), right)
