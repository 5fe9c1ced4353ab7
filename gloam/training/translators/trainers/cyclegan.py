"""CycleGAN (Zhu et al. 2017): what is translated there and back must be what it was."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gloam.training.translators.losses import l1
from gloam.training.translators.trainers.base import Engine
from gloam.training.translators.trainers.two_way import TwoWayOptions, TwoWayTrainer


@dataclass(frozen=True)
class CycleGANOptions(TwoWayOptions):
    """The defaults are those of the authors' PyTorch code.

    Dark Side Augmentation's code has no identity loss, ``init_gain`` 0.2, ``twin_seeds`` and ``inverted_labels``.

    Attributes:
        cycle_weight: of each direction's L1 after there and back; 0 leaves the cycle out (and its two forwards).
        identity_weight: of each direction's L1 between an image and its translation into the domain that it is of
            already; the authors' lambda_identity 0.5 is relative to ``cycle_weight``, this weight is absolute.
        normalise_weights: divide the weights by their sum (thesis, section 3.2.4).
    """

    cycle_weight: float = 10.0
    identity_weight: float = 5.0
    normalise_weights: bool = False


class CycleGANTrainer(TwoWayTrainer):
    """Two generators tied by the cycle."""

    name = "cyclegan"
    options: CycleGANOptions

    def __init__(self, options: CycleGANOptions, engine: Engine | None = None, seed: int = 0) -> None:
        super().__init__(options, engine, seed)
        weights = {
            "adversarial": options.adversarial_weight,
            "cycle": options.cycle_weight,
            "identity": options.identity_weight,
        }
        total = sum(weights.values()) if options.normalise_weights else 1.0
        self.weights = {name: weight / total for name, weight in weights.items()}

    def _weight(self, name: str) -> float:
        return self.weights[name.split("_")[0]]

    def _ties(self, day: Tensor, night: Tensor, fake_day: Tensor, fake_night: Tensor) -> dict[str, Tensor]:
        day2night, night2day = self.networks["day2night"], self.networks["night2day"]
        losses = {}
        if self.options.cycle_weight:
            losses["cycle_day"] = l1(night2day(fake_night), day)
            losses["cycle_night"] = l1(day2night(fake_day), night)
        if self.options.identity_weight:
            losses["identity_day"] = l1(night2day(day), day)
            losses["identity_night"] = l1(day2night(night), night)
        return losses
