"""What validation says of an embedder: the loss of mined tuples, and mAP; both from one pass over the images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from gloam.data.retrieval_sets.sets import RetrievalSet
from gloam.errors import DataError
from gloam.eval.retrieval.ground_truth import GroundTruth
from gloam.eval.retrieval.scores import evaluate
from gloam.training.embedders.config import MetricConfig
from gloam.training.embedders.losses import LOSSES
from gloam.training.embedders.tuples.images import Described, TupleImages
from gloam.training.embedders.tuples.mine import mine_validation

BLOCK_TUPLES = 256


@dataclass(frozen=True)
class Validation:
    """Scores of one network.

    Attributes:
        loss: mean per tuple.
        mAP: of the queries that have positives, nights made by the rule of the name.
        chance_mAP: of a random ranking.
        queries: how many.
        asmk_mAP: of HOW by ASMK, where the best epoch is chosen by it; images are as they are.
    """

    loss: float
    mAP: float
    chance_mAP: float
    queries: int
    asmk_mAP: float | None = None

    def to_dict(self) -> dict[str, float]:
        """By name, without what was not scored."""
        return {name: value for name, value in vars(self).items() if value is not None}


def validate(config: MetricConfig, validation: RetrievalSet, images: TupleImages, described: Described) -> Validation:
    """Score a network on a held-out set.

    Args:
        config: of the run.
        validation: the set; all of its pairs are queries, all of its images the database.
        images, described: its images, and their descriptors under the network.

    Raises:
        DataError: no pairs, or no images of the conditions that the config names.
        DivergenceError: a descriptor is not finite.
    """
    tuples = mine_validation(config, validation, images, described)
    total = 0.0
    for start in range(0, len(tuples.rows), BLOCK_TUPLES):
        rows, night = tuples.rows[start : start + BLOCK_TUPLES], tuples.night[start : start + BLOCK_TUPLES]
        found = torch.from_numpy(described(rows.ravel(), night.ravel())).view(*rows.shape, -1)
        same = torch.zeros(len(rows), rows.shape[1] - 1)
        same[:, 0] = 1
        total += float(LOSSES[config.loss](found[:, 0], found[:, 1:], same, config.margin))
    truth, queries = validation_truth(config, validation)
    query_night = config.night.in_validation().of_images(images.names, "anchor", config.seed, 0)[queries]
    database = np.array([int(name) for name in truth.map_names], np.int64)
    scores = evaluate(
        truth.query_names,
        described(queries, query_night),
        truth.map_names,
        described(database, np.zeros(len(database), bool)),
        truth,
    )
    return Validation(total / len(tuples.rows), scores.mAP, scores.chance_mAP, scores.queries)


def validation_truth(config: MetricConfig, validation: RetrievalSet) -> tuple[GroundTruth, npt.NDArray[np.int64]]:
    """Ground truth whose names are rows of the set, and the queries' rows.

    Right is what shows the query's cluster, the query itself left out. Queries are those of the pairs, or all images of
    ``query_condition`` against those of ``map_condition``.

    Raises:
        DataError: the set has no pairs, does not say its conditions, or has no images of one.
    """
    if not len(validation.queries):
        raise DataError("the validation set has no pairs of a query and a positive; add some, or take another set")
    database = np.arange(len(validation))
    queries = np.unique(validation.queries)
    if config.query_condition is not None:
        if validation.conditions is None:
            raise DataError("the validation set does not say its images' conditions; drop query_condition")
        conditions = np.array(validation.conditions)
        queries = np.flatnonzero(conditions == config.query_condition)
        database = np.flatnonzero(conditions == config.map_condition)
        for name, rows in ((config.query_condition, queries), (config.map_condition, database)):
            if not len(rows):
                known = ", ".join(sorted(set(validation.conditions)))
                raise DataError(f"the validation set has no images of condition {name!r}; it has {known}")
    labels = validation.clusters
    truth = GroundTruth(
        tuple(str(row) for row in database),
        tuple(str(row) for row in queries),
        tuple(np.flatnonzero((labels[database] == labels[query]) & (database != query)) for query in queries),
        tuple(np.flatnonzero(database == query) for query in queries),
    )
    return truth, queries
