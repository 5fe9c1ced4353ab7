"""The images that a step of MDUIT takes beside a source and its target, and which images are alike by their vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gloam.errors import UsageError

Rows = npt.NDArray[np.int64]

MOST_ALIKE = 5  # images of other domains that a source's target is drawn from
CHUNK = 1024  # images that are compared with all others at once


@dataclass(frozen=True)
class Beside:
    """What a trainer asks for beside a source and its target.

    Attributes:
        negatives: how many other images, for the contrast.
        mined: how many of them are those most alike the source by the network's own vectors, of other places.
        translation: whether targets, and images of the target's domain, of another one and of other content are needed.
        place: whether another image of the source's place is needed.
    """

    negatives: int
    mined: int = 0
    translation: bool = True
    place: bool = False

    @property
    def mines(self) -> bool:
        """Whether the network's vectors of all images are needed before an epoch."""
        return self.translation or self.mined > 0


@dataclass(frozen=True)
class Company:
    """Images beside a source and its target; all float32 ``[B, C, H, W]`` in [-1, 1].

    Attributes:
        negatives: ``[B, N, C, H, W]``, of other content than the source; None where none are asked for.
        same_domain: of the target's domain, another image (the paper's I_t+).
        other_domain: of another domain than the target's (I_t-).
        other_content: of other content than the source (I_s-).
        same_place: of the source's place; the source itself where none is known.
        placed: bool ``[B]``, whether ``same_place`` is another image.
    """

    negatives: Tensor | None = None
    same_domain: Tensor | None = None
    other_domain: Tensor | None = None
    other_content: Tensor | None = None
    same_place: Tensor | None = None
    placed: Tensor | None = None

    def moved(self, move: Callable[[Tensor], Tensor]) -> Company:
        """The same with each tensor of images moved."""
        images = {
            name: move(value)
            for name, value in vars(self).items()
            if value is not None and name not in ("negatives", "placed")
        }
        if self.negatives is not None:  # five axes have no channels_last
            images["negatives"] = move(self.negatives.flatten(0, 1)).reshape(self.negatives.shape)
        return Company(**images, placed=self.placed)


def company_of(source: Tensor, target: Tensor) -> Company:
    """The company that a batch of two domains is to itself: its other images.

    Raises:
        UsageError: a batch of one has no others.
    """
    if len(source) < 2:
        raise UsageError("a batch of one image holds no others to compare with; use a larger one, or data of domains")
    others = source.roll(1, 0)
    negatives = torch.stack((others, target.roll(1, 0)), 1)
    return Company(negatives, target.roll(1, 0), source, others)


@dataclass(frozen=True)
class Alike:
    """Which images are most alike, by their vectors; rows of an image where there are fewer end in -1.

    Attributes:
        targets: int64 ``[n, MOST_ALIKE]``, of other domains.
        negatives: int64 ``[n, mined]``, of other places.
    """

    targets: Rows
    negatives: Rows


def most_alike(vectors: Tensor, labels: Rows, near: Callable[[int], Rows], mined: int) -> Alike:
    """Rank all images by their similarity to each, a chunk at a time.

    Args:
        vectors: float ``[n, D]``, unit length.
        labels: domain of each image ``[n]``.
        near: places of the images that are no negatives of an image, itself among them.
        mined: negatives to keep of each.
    """
    count, domains = len(vectors), torch.from_numpy(labels)
    targets, negatives = np.full((count, MOST_ALIKE), -1, np.int64), np.full((count, mined), -1, np.int64)
    for start in range(0, count, CHUNK):
        similarity = vectors[start : start + CHUNK] @ vectors.T
        same = domains[start : start + CHUNK, None] == domains[None]
        _ranked(similarity.masked_fill(same, -torch.inf), targets[start : start + CHUNK])
        if mined:
            for row in range(len(similarity)):
                similarity[row, near(start + row)] = -torch.inf
            _ranked(similarity, negatives[start : start + CHUNK])
    return Alike(targets, negatives)


def _ranked(similarity: Tensor, into: Rows) -> None:
    values, places = similarity.topk(min(into.shape[1], similarity.shape[1]), dim=1)
    into[:, : places.shape[1]] = torch.where(values > -torch.inf, places, -1).numpy()
