"""Tuples of one optimiser step: several images of several places, every image an anchor, negatives mined among them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gloam.data.retrieval_sets.sets import RetrievalSet
from gloam.errors import DataError
from gloam.networks.embedders import EmbedderNetwork
from gloam.training.embedders.augmentation import augment_places
from gloam.training.embedders.config import MetricConfig
from gloam.training.embedders.losses import LOSSES, similarity_loss
from gloam.training.embedders.tuples.hard_negatives import mine_negatives
from gloam.training.embedders.tuples.images import Pixels, TupleImages


@dataclass(frozen=True)
class LossPart:
    """The loss of some tuples of an epoch.

    Attributes:
        loss: summed over the tuples, with its graph.
        tuples: how many of the epoch's there are, these included.
        anchors: rows of images to be named where the loss is not finite.
        last: of an optimiser step.
        draws: state of the random generator behind it, to carry on from; None where there is none.
    """

    loss: Tensor
    tuples: int
    anchors: npt.NDArray[np.int64]
    last: bool
    draws: Tensor | None = None


def batch_losses(
    config: MetricConfig,
    model: EmbedderNetwork,
    device: torch.device,
    train: RetrievalSet,
    images: TupleImages,
    epoch: int,
    done: int = 0,
    draws: Tensor | None = None,
) -> Iterator[LossPart]:
    """One part per optimiser step; the negatives are mined from the descriptors of that very step.

    Args:
        config: how many places and images, and of how many tuples an epoch consists.
        model, device: the network in train mode, and where it is.
        train: the set whose rows come first in ``images``.
        images: all of one size.
        epoch: from 1; with the seed it decides every choice.
        done, draws: tuples that an earlier call has used up, and the last part's ``draws``.

    Raises:
        DataError: too few places with enough images, or images of several sizes.
    """
    random = np.random.default_rng([config.seed, epoch])
    generator = torch.Generator().manual_seed(int(random.integers(2**62)))
    if draws is not None:
        generator.set_state(draws)
    members = config.images_per_place
    count = config.batch_places * members
    place = np.repeat(np.arange(config.batch_places), members)
    mean, std = torch.tensor(model.mean).view(3, 1, 1), torch.tensor(model.std).view(3, 1, 1)
    steps = max(config.tuples // count, 1)
    drawn = [draw_batch(train.clusters, config.batch_places, members, random) for _ in range(steps)][done // count :]
    requests = ((rows.ravel(), np.zeros(count, bool)) for rows in drawn)
    for step, (rows, pixels) in enumerate(zip(drawn, images.batches(requests), strict=True), done // count + 1):
        batch = _stacked(pixels, rows.ravel(), images).permute(0, 3, 1, 2).float() / 255.0
        if config.augment:
            batch = augment_places(batch.view(*rows.shape, *batch.shape[1:]), generator).flatten(0, 1)
        found = model(((batch - mean) / std).to(device))
        loss = _loss(config, found, place)
        yield LossPart(loss, step * count, rows[:, 0], last=True, draws=generator.get_state())


def _loss(config: MetricConfig, found: Tensor, place: npt.NDArray[np.int64]) -> Tensor:
    """Of the descriptors ``[n, D]`` of a step, every one an anchor."""
    alike, itself = place[:, None] == place, np.eye(len(place), dtype=bool)
    if config.loss == "multi_similarity":
        positive, negative = (torch.from_numpy(pairs).to(found.device) for pairs in (alike & ~itself, ~alike))
        return similarity_loss(found @ found.T, positive, negative, config.margin)
    siblings = np.nonzero(alike & ~itself)[1].reshape(len(place), -1)
    negatives = mine_negatives(np.arange(len(place)), found.detach().cpu().numpy(), place, config.negatives)
    others = torch.from_numpy(np.concatenate([siblings, negatives], axis=1)).to(found.device)
    picked = found.index_select(0, others.flatten())  # unlike found[others], its gradient adds in a fixed order
    same = torch.zeros(others.shape)
    same[:, : siblings.shape[1]] = 1
    return LOSSES[config.loss](found, picked.view(*others.shape, -1), same.to(found.device), config.margin)


def draw_batch(
    places: npt.NDArray[np.int64], batch_places: int, images_per_place: int, random: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Draw several images of each of several places.

    Args:
        places: int64 ``[n]`` labels; places with fewer than ``images_per_place`` images are not drawn.
        batch_places: P, different places.
        images_per_place: K, different images of each.
        random: source of all choices.

    Returns:
        Indices, int64 ``[P, K]``.

    Raises:
        DataError: fewer than P places have K images.
    """
    labels, place, seen = np.unique(places, return_inverse=True, return_counts=True)
    usable = np.flatnonzero(seen >= images_per_place)
    if len(usable) < batch_places:
        raise DataError(
            f"a batch needs {batch_places} places of {images_per_place} images each, but only {len(usable)} of "
            f"{len(labels)} places have as many; render more or lower batch_places or images_per_place"
        )
    rows = [
        random.choice(np.flatnonzero(place == label), images_per_place, replace=False)
        for label in random.choice(usable, batch_places, replace=False)
    ]
    return np.stack(rows).astype(np.int64)


def _stacked(pixels: list[Pixels], rows: npt.NDArray[np.int64], images: TupleImages) -> Tensor:
    """uint8 ``[n, h, w, 3]``."""
    odd = next((row for row, image in zip(rows, pixels, strict=True) if image.shape != pixels[0].shape), None)
    if odd is not None:
        raise DataError(f"{images.names[odd]}: a batch needs images of one size; choose negatives_from pool")
    return torch.from_numpy(np.stack(pixels))
