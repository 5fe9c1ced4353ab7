"""Batches of MDUIT: a source, a target that may look like it, and the images that both are compared with.

Which images are alike is the network's own opinion, asked anew before each epoch (:meth:`CompanyBatches.use`); but for
that, a batch is a function of seed and step alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gloam.data.day_night.crops import CentreSquare, Float32, create_transform
from gloam.errors import DataError, UsageError
from gloam.training.run_contents import RunContents
from gloam.training.translators.batches import DRAW, NEAR_METRES, Batch, DomainBatches, Pool, domain_pools, stacked
from gloam.training.translators.company import Alike, Beside, Company, Rows
from gloam.training.translators.data_config import DataConfig

Rng = np.random.Generator


class CompanyBatches(DomainBatches):
    """Endless batches of sources, targets and their company. Places are those among the images that are trained on.

    Args:
        config, batch, seed: as of :class:`DomainBatches`; each image is cropped by itself.
        train, held_out: pools of many domains; that of training knows the images' places.
        beside: what is asked for.
        domains: their names, for messages.

    Attributes:
        labels: domain of each image that is trained on.

    Raises:
        DataError: a domain of less than two images.
    """

    def __init__(
        self,
        config: DataConfig,
        train: Pool,
        held_out: Pool,
        batch: int,
        seed: int,
        beside: Beside,
        domains: Sequence[str],
    ) -> None:
        super().__init__(config, train, held_out, batch, seed)
        assert train.labels is not None  # both are of many domains
        assert train.places is not None
        self.beside, self._rows = beside, train.places.rows
        self.labels, self._positions = train.labels[self._rows], train.places.positions[self._rows]
        counts = np.bincount(self.labels, minlength=len(domains))
        if few := [f"{name!r} has {count}" for name, count in zip(domains, counts, strict=True) if count < 2]:
            raise DataError(f"each domain needs at least two images to train on; {', '.join(few)}")
        at = {int(row): place for place, row in enumerate(self._rows)}
        self._partners: dict[int, list[int]] = {}
        for first, second in train.places.pairs.tolist():
            self._partners.setdefault(at[first], []).append(at[second])
            self._partners.setdefault(at[second], []).append(at[first])
        self.identity |= {"beside": dict(vars(beside)), **train.places.identity()}
        self.steps_per_epoch = max((config.images_per_epoch or len(self._rows)) // batch, 1)
        self._single = create_transform(config.transform, config.size, (config.scale[0], config.scale[1]), config.flip)
        self._alike: Alike | None = None

    def use(self, alike: Alike | None) -> None:
        """Draw targets and mined negatives from these from now on; at random where it is None."""
        self._alike = alike
        self._ahead = {}  # what was prepared is of the last epoch's opinion

    def middles(self, places: Sequence[int]) -> Tensor:
        """The middle of training images, float32 ``[n, C, size, size]``, as held-out images are cut."""
        middle, unused = CentreSquare(self.config.size), np.random.default_rng(0)
        images = [self._image(place) for place in places]
        return stacked([middle(image, image, unused)[0] for image in images], [])

    def near(self, place: int) -> Rows:
        """Places of the images that show the same as an image, or may: itself, its partners, and those around it."""
        around = np.flatnonzero(np.linalg.norm(self._positions - self._positions[place], axis=1) < NEAR_METRES)
        return np.union1d([place, *self._partners.get(place, ())], around).astype(np.int64)

    def _make(self, step: int, rank: int, world: int) -> Batch:
        share = self.batch_size // world
        rows = range(rank * share, (rank + 1) * share)
        run: Callable[..., Any] = map if self._decoders is None else self._decoders.map
        items: list[tuple[list[Float32], list[int], bool]] = list(run(lambda row: self._drawn(step, row), rows))
        names = [self._name(drawn[at]) for at in range(len(items[0][1])) for _, drawn, _ in items]
        parts = [stacked([pictures[at] for pictures, _, _ in items], names) for at in range(len(items[0][0]))]
        labels = torch.tensor([[int(self.labels[place]) for place in drawn[:2]] for _, drawn, _ in items])
        source, target, *rest = parts
        roles: dict[str, Tensor] = {}
        if self.beside.translation:
            for name in ("same_domain", "other_domain", "other_content"):
                roles[name] = rest.pop(0)
        if self.beside.place:
            roles |= {"same_place": rest.pop(0), "placed": torch.tensor([placed for _, _, placed in items])}
        if rest:
            roles["negatives"] = torch.stack(rest, 1)
        return source, target, names, labels, Company(**roles)

    def _drawn(self, step: int, row: int) -> tuple[list[Float32], list[int], bool]:
        """One row of the global batch: pictures in the order of their roles, their places, and whether another image of
        the source's place is among them."""
        random = np.random.default_rng([self.seed, DRAW, step, row])
        source = int(random.integers(len(self._rows)))
        target = self._target(source, random)
        chosen = [source, target]
        others = np.setdiff1d(np.arange(len(self._rows)), self.near(source), assume_unique=True)
        if not len(others):
            raise DataError(f"{self._name(source)}: all images show its place; images of other places are needed")
        if self.beside.translation:
            of_target = self.labels == self.labels[target]
            same = np.flatnonzero(of_target)
            chosen.append(int(random.choice(same[same != target])))
            chosen.append(int(random.choice(np.flatnonzero(~of_target))))
            chosen.append(int(random.choice(others)))
        partners = self._partners.get(source, [])
        if self.beside.place:
            chosen.append(int(random.choice(partners)) if partners else source)
        mined = [] if self._alike is None else [place for place in self._alike.negatives[source].tolist() if place >= 0]
        count = self.beside.negatives - len(mined)
        chosen += [*mined, *random.choice(others, count, replace=len(others) < count).tolist()]
        plain = 0 < self.config.plain_from_epoch <= step // self.steps_per_epoch
        cut = self._plain if plain else self._single
        pictures: list[Float32] = []
        for at in range(0, len(chosen), 2):
            pair = [chosen[at], chosen[min(at + 1, len(chosen) - 1)]]
            try:
                pictures += cut(self._image(pair[0]), self._image(pair[1]), random)
            except DataError as error:
                raise DataError(f"{self._name(pair[0])} and {self._name(pair[1])}: {error}") from error
        return pictures[: len(chosen)], chosen, bool(partners)

    def _target(self, source: int, random: Rng) -> int:
        """An image of another domain: one of those most alike, or any where nobody has looked yet."""
        alike = [] if self._alike is None else [place for place in self._alike.targets[source].tolist() if place >= 0]
        return int(random.choice(alike or np.flatnonzero(self.labels != self.labels[source])))

    def _image(self, place: int) -> Any:
        return self._train.day.image(int(self._rows[place]))

    def _name(self, place: int) -> str:
        return self._train.day.names[int(self._rows[place])]


def open_company_batches(
    config: DataConfig,
    batch: int,
    seed: int,
    beside: Beside,
    domains: Sequence[str],
    contents: RunContents | None = None,
) -> CompanyBatches:
    """Find, check and split the images of many domains, for a trainer that asks for company.

    Args:
        config: of a kind of many domains.
        batch: sources per optimiser step, over all processes.
        seed: of sampling and crops.
        beside: what the trainer asks for.
        domains: names, in the order of the labels.
        contents: of the run, by which images in files are known again.

    Raises:
        UsageError: an impossible batch or seed.
        DataError: absent, unreadable or too small images, or a domain of less than two; the first are named.
    """
    if batch < 1 or seed < 0:
        raise UsageError(f"batch {batch} and seed {seed}: at least 1 and 0")
    train, held_out = domain_pools(config, domains, contents or RunContents())
    return CompanyBatches(config, train, held_out, batch, seed, beside, domains)
