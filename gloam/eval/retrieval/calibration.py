"""Whether probabilities keep their word: expected calibration error, reliability, and what a score is good for.

The expected calibration error (Guo et al. 2017, section 2; Naeini et al. 2015) sorts queries by their probability, cuts
them into bins of as many queries each, and averages how far a bin's mean probability is from its share of right ones.
Of few queries even a perfectly calibrated model has one: :func:`expected_of_calibrated` says how much, and no value
means anything without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.errors import DataError
from gloam.eval.retrieval.ground_truth import GroundTruth

BINS = 10
DRAWS = 2000  # of outcomes, for what a calibrated model would have

Values = npt.NDArray[np.float64]
Truths = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Bin:
    """Queries of neighbouring probabilities.

    Attributes:
        queries: number of them.
        least, most: of their probabilities.
        said: mean of their probabilities.
        right: share of them whose first image is right.
    """

    queries: int
    least: float
    most: float
    said: float
    right: float


def reliability(probabilities: npt.ArrayLike, right: npt.ArrayLike, bins: int = BINS) -> list[Bin]:
    """Bins of as many queries each, by rising probability; fewer where there are fewer queries than bins.

    Args:
        probabilities: ``[q]``, 0 to 1.
        right: bool ``[q]``.
        bins: number of them.

    Raises:
        DataError: no queries, or values that are no probabilities.
    """
    said, truth = _checked(probabilities, right)
    order = np.argsort(said, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return [
        Bin(len(part), float(said[part[0]]), float(said[part[-1]]), float(said[part].mean()), float(truth[part].mean()))
        for part in parts
    ]


def expected_calibration_error(probabilities: npt.ArrayLike, right: npt.ArrayLike, bins: int = BINS) -> float:
    """Mean over queries of how far their bin's mean probability is from its share of right ones, 0 to 1.

    Args, Raises: as :func:`reliability`.
    """
    rows = reliability(probabilities, right, bins)
    return sum(row.queries * abs(row.said - row.right) for row in rows) / sum(row.queries for row in rows)


def expected_of_calibrated(
    probabilities: npt.ArrayLike, bins: int = BINS, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """The expected calibration error of a model that is perfectly calibrated, by simulation: its mean and its 95 %
    quantile where the outcomes are drawn by the probabilities themselves.

    Args:
        probabilities: ``[q]``, 0 to 1; their number and their spread decide.
        bins: as of the measured error.
        draws: of all outcomes.
        seed: of the draws.

    Raises:
        DataError: no queries, or values that are no probabilities.
    """
    said, _ = _checked(probabilities, np.zeros(np.shape(probabilities), bool))
    said = np.sort(said)
    random = np.random.default_rng(seed)
    outcomes = random.random((draws, len(said))) < said
    errors = np.zeros(draws)
    for part in np.array_split(np.arange(len(said)), bins):
        if len(part):
            errors += len(part) * np.abs(outcomes[:, part].mean(1) - said[part].mean())
    errors /= len(said)
    return float(errors.mean()), float(np.quantile(errors, 0.95))


def coverage_at_precision(scores: npt.ArrayLike, right: npt.ArrayLike, precision: float = 0.95) -> float:
    """Largest share of queries that can be answered, those of a score above some threshold, of which at least
    ``precision`` are right; queries of one score are answered together. 0 where there is no such threshold.

    The threshold is chosen with the outcomes in hand: it says how well a score orders, not what it promises.

    Args:
        scores: ``[q]``, finite, larger is surer.
        right: bool ``[q]``.
        precision: 0 to 1.

    Raises:
        DataError: no queries, or scores that are not finite.
    """
    values, truth = _paired(scores, right)
    order = np.argsort(-values, kind="stable")
    answered = np.arange(1, len(order) + 1)
    share_right = np.cumsum(truth[order]) / answered
    last_of_score = np.append(np.diff(values[order]) != 0, True)
    enough = last_of_score & (share_right >= precision)
    return float(answered[enough].max(initial=0)) / len(order)


def rank_quality(scores: npt.ArrayLike, right: npt.ArrayLike) -> float | None:
    """Area under the ROC curve: how often a right answer's score is above a wrong one's, ties counting half; None
    where all are right or all are wrong.

    Args, Raises: as :func:`coverage_at_precision`.
    """
    values, truth = _paired(scores, right)
    wins, losses = values[truth], np.sort(values[~truth])
    if not len(wins) or not len(losses):
        return None
    below, at_most = (np.searchsorted(losses, wins, side) for side in ("left", "right"))
    return float((below + at_most).mean() / 2 / len(losses))


@dataclass(frozen=True)
class CalibrationScores:
    """How probabilities came out on queries of a kind.

    Attributes:
        queries: judged; right: share of them whose first image is right.
        said: mean probability.
        ece: expected calibration error; ece_calibrated: mean and 95 % quantile of a perfectly calibrated model's.
        brier: mean squared distance of probability and outcome.
        auc: see :func:`rank_quality`.
        coverage: see :func:`coverage_at_precision`, of the probabilities.
        answered, precision: share of queries of a probability of at least ``promised``, and share of right ones among
            them; None where there are none.
        promised: the precision in question.
        single: coverage by each single score alone.
        bins: of :func:`reliability`.
        junk: queries that are left out, as the ground truth calls their first image neither right nor wrong.
    """

    queries: int
    right: float
    said: float
    ece: float
    ece_calibrated: tuple[float, float]
    brier: float
    auc: float | None
    coverage: float
    answered: float
    precision: float | None
    promised: float
    single: Mapping[str, float]
    bins: Sequence[Bin]
    junk: int = 0

    @property
    def best_single(self) -> tuple[str, float]:
        """The single score of the largest coverage, chosen with the outcomes in hand, and its coverage."""
        return max(self.single.items(), key=lambda item: item[1])

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "ece_calibrated": list(self.ece_calibrated), "single": dict(self.single)}


def score_calibration(
    probabilities: npt.ArrayLike,
    right: npt.ArrayLike,
    single: Mapping[str, npt.ArrayLike],
    *,
    bins: int = BINS,
    precision: float = 0.95,
    junk: int = 0,
) -> CalibrationScores:
    """All figures of some queries.

    Args:
        probabilities: ``[q]``, 0 to 1.
        right: bool ``[q]``.
        single: single scores by name, each ``[q]``, larger is surer; at least one.
        bins: see :func:`reliability`.
        precision: promised, 0 to 1.
        junk: queries that were left out.

    Raises:
        DataError: no queries, or values that are no probabilities.
    """
    said, truth = _checked(probabilities, right)
    sure = said >= precision
    return CalibrationScores(
        len(said),
        float(truth.mean()),
        float(said.mean()),
        expected_calibration_error(said, truth, bins),
        expected_of_calibrated(said, bins),
        float(np.mean((said - truth) ** 2)),
        rank_quality(said, truth),
        coverage_at_precision(said, truth, precision),
        float(sure.mean()),
        float(truth[sure].mean()) if sure.any() else None,
        precision,
        {name: coverage_at_precision(values, truth, precision) for name, values in single.items()},
        reliability(said, truth, bins),
        junk,
    )


def right_first(truth: GroundTruth, first: Mapping[str, str]) -> dict[str, bool | None]:
    """Whether each query's first image is right, by the ground truth; None where that calls it junk, neither right nor
    wrong. What was found for a query of no right image in the map is wrong; queries that the ground truth does not know
    are left out.

    Args:
        truth: of the queries and the map.
        first: name of the first image by query.

    Raises:
        DataError: no query is known, or an image that the ground truth does not know.
    """
    row_of = {name: row for row, name in enumerate(truth.query_names)}
    image_of = {name: row for row, name in enumerate(truth.map_names)}
    found: dict[str, bool | None] = {}
    for query, image in first.items():
        if query not in row_of:
            continue
        if image not in image_of:
            raise DataError(f"image {image!r} was found for {query!r}, but the ground truth does not know it")
        row, column = row_of[query], image_of[image]
        found[query] = None if column in truth.junk[row] else bool(column in truth.positives[row])
    if not found:
        raise DataError("the ground truth knows none of the queries that were searched for; give the one of this map")
    return found


def _checked(probabilities: npt.ArrayLike, right: npt.ArrayLike) -> tuple[Values, Truths]:
    said, truth = _paired(probabilities, right)
    if (said < 0).any() or (said > 1).any():
        raise DataError("probabilities must be from 0 to 1")
    return said, truth


def _paired(scores: npt.ArrayLike, right: npt.ArrayLike) -> tuple[Values, Truths]:
    values, truth = np.asarray(scores, np.float64).ravel(), np.asarray(right, bool).ravel()
    if not len(values) or len(values) != len(truth):
        raise DataError(f"{len(values)} scores for {len(truth)} outcomes; as many of both are needed, one at least")
    if not np.isfinite(values).all():
        raise DataError("scores must be finite")
    return values, truth
