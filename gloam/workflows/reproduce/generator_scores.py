"""What a generator's nights are worth by themselves: FID, and precision and recall as a curve, as the thesis has it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from gloam.errors import DataError
from gloam.eval.translation.features import FeatureExtractor, Features
from gloam.eval.translation.frechet import frechet_distance
from gloam.eval.translation.prd import precision_recall
from gloam.runtime.models.image_model import ImageOperation, Pixels

ANGLES = 101  # of the thesis's curves
BATCH = 16


@dataclass(frozen=True)
class NightScores:
    """Scores of made nights against real ones.

    Attributes:
        fid: Fréchet distance of the features.
        f_recall, f_precision: F_8 and F_1/8 of the curve; None where there are too few images for its clusters.
        precision, recall: of the curve at :data:`ANGLES` angles; empty likewise.
        made, real: how many images.
    """

    fid: float
    f_recall: float | None
    f_precision: float | None
    precision: tuple[float, ...]
    recall: tuple[float, ...]
    made: int
    real: int

    @property
    def figures(self) -> dict[str, float]:
        """By the columns of a table."""
        named = {"FID": self.fid, "F_8 recall": self.f_recall, "F_1/8 precision": self.f_precision}
        return {name: value for name, value in named.items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}


def describe_images(images: Iterable[Pixels], extractor: FeatureExtractor) -> Features:
    """Features of images, ``[n, D]``, some at a time.

    Raises:
        DataError: no image.
    """
    found = [extractor.features(part) for part in _parts(images, BATCH)]
    if not found:
        raise DataError("no images to describe; check the lists by day and by night")
    return np.concatenate(found)


def score_nights(
    maker: ImageOperation, days: Iterable[Pixels], real: Features, extractor: FeatureExtractor, seed: int = 0
) -> NightScores:
    """Scores of what a generator makes of images by day.

    Args:
        maker: of the nights.
        days: uint8 ``[h, w, 3]`` each.
        real: features of real nights.
        extractor: of features.
        seed: of clusterings.
    """
    made = describe_images(_translated(maker, days), extractor)
    fid = float(frechet_distance(real, made))
    try:
        curve = precision_recall(real, made, angles=ANGLES, seed=seed)
    except DataError:  # fewer images than clusters
        return NightScores(fid, None, None, (), (), len(made), len(real))
    precision, recall = (tuple(float(value) for value in line) for line in (curve.precision, curve.recall))
    return NightScores(fid, curve.f_recall, curve.f_precision, precision, recall, len(made), len(real))


def _translated(maker: ImageOperation, days: Iterable[Pixels]) -> Iterator[Pixels]:
    for part in _parts(days, max(maker.batch_size, 1)):
        yield from maker(part)


def _parts(images: Iterable[Pixels], size: int) -> Iterator[list[Pixels]]:
    waiting = iter(images)
    while part := list(islice(waiting, size)):
        yield part
