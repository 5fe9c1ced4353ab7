"""The tuples of an epoch: anchors with their positives, and negatives that the current network takes for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gloam.data.retrieval_sets.sets import RetrievalSet
from gloam.errors import DataError
from gloam.training.embedders.config import MetricConfig
from gloam.training.embedders.night_rule import NightRule
from gloam.training.embedders.tuples.diverse_anchors import diverse_anchors
from gloam.training.embedders.tuples.hard_negatives import hard_negatives
from gloam.training.embedders.tuples.images import Described, TupleImages

Rows = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Tuples:
    """Tuples of one epoch, or of a validation.

    Attributes:
        rows: anchor, positive, negatives; int64 ``[T, 2 + N]``, rows of :class:`TupleImages`.
        night: which of them are made night, bool of that shape.
        distance: mean distance of the negatives' descriptors from their anchor's, when they were mined.
    """

    rows: Rows
    night: Flags
    distance: float


def mine_epoch(
    config: MetricConfig,
    train: RetrievalSet,
    real: RetrievalSet | None,
    images: TupleImages,
    described: Described,
    epoch: int,
) -> Tuples:
    """Draw the anchors of an epoch and mine their negatives.

    Args:
        config: how many, from what, and which are made night.
        train: the set whose rows come first in ``images``.
        real: real pairs of night and day, whose rows come next; they are never translated, and their negatives come
            from their own set, because labels of different sets cannot be compared.
        images, described: the images, and their descriptors under the current network.
        epoch: from 1; with the seed it decides every choice.

    Returns:
        the tuples in the order of training.
    """
    random = np.random.default_rng([config.seed, epoch, 1])
    pairs = len(train.queries) if config.anchors == "all" else min(config.tuples, len(train.queries))
    real_pairs = 0 if real is None else min(round(config.real_share * pairs), len(real.queries))
    pairs -= real_pairs
    parts: list[Tuples] = []
    if pairs:
        rule = config.night
        chosen = _anchors(config, train, images, described, pairs, random, epoch)
        queries = train.queries[chosen]
        pool = np.sort(random.permutation(len(train))[: config.negative_pool])
        parts.append(_tuples(config, train, rule, images, described, (queries, train.positives[chosen]), pool, epoch))
    if real is not None and real_pairs:
        chosen = random.permutation(len(real.queries))[:real_pairs]
        pool = np.sort(random.permutation(len(real))[: config.negative_pool])
        pairs_of = (real.queries[chosen], real.positives[chosen])
        start = int(images.starts[1])
        parts.append(_tuples(config, real, NightRule(), images, described, pairs_of, pool, epoch, start))
    order = random.permutation(sum(len(part.rows) for part in parts))
    count = sum(len(part.rows) for part in parts)
    return Tuples(
        np.concatenate([part.rows for part in parts])[order],
        np.concatenate([part.night for part in parts])[order],
        sum(part.distance * len(part.rows) for part in parts) / count,
    )


def mine_validation(
    config: MetricConfig, validation: RetrievalSet, images: TupleImages, described: Described
) -> Tuples:
    """All pairs of a set with negatives from all of its images, nights by the rule that validation keeps."""
    pool = np.arange(len(validation))
    pairs = (validation.queries, validation.positives)
    return _tuples(config, validation, config.night.in_validation(), images, described, pairs, pool, 0)


def _anchors(
    config: MetricConfig,
    train: RetrievalSet,
    images: TupleImages,
    described: Described,
    count: int,
    random: np.random.Generator,
    epoch: int,
) -> Rows:
    """Pairs whose queries are this epoch's anchors."""
    order = random.permutation(len(train.queries))
    if config.anchors != "diverse":
        return order[:count]
    candidates = order[: max(config.anchor_pool, count)]
    queries = train.queries[candidates]
    names = images.names[: len(train)]
    night = config.night.of_images(names, "anchor", config.seed, epoch)[queries]
    return candidates[diverse_anchors(described(queries, night), count, random, config.diverse_window)]


def _tuples(
    config: MetricConfig,
    source: RetrievalSet,
    rule: NightRule,
    images: TupleImages,
    described: Described,
    pairs: tuple[Rows, Rows],
    pool: Rows,
    epoch: int,
    start: int = 0,
) -> Tuples:
    """Tuples of pairs of one set, whose images begin at row ``start``."""
    queries, positives = pairs
    names = images.names[start : start + len(source)]
    anchor_night = rule.of_images(names, "anchor", config.seed, epoch)[queries]
    pool_night = rule.of_images(names, "negative", config.seed, epoch)[pool]
    anchors, candidates = described(start + queries, anchor_night), described(start + pool, pool_night)
    try:
        found = hard_negatives(anchors, source.clusters[queries], candidates, source.clusters[pool], config.negatives)
    except DataError as error:
        raise DataError(f"retrieval set of {len(source)} images: {error}") from error
    distance = np.linalg.norm(anchors[:, None] - candidates[found], axis=2).mean() if found.size else 0.0
    rows = np.column_stack([queries, positives, pool[found]])
    return Tuples(start + rows, rule.of_tuples(names, rows, config.seed, epoch), float(distance))
