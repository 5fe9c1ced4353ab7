"""Learning the probability that a search's first image is right: logistic regression on maps with ground truth.

Regularised maximum likelihood by Newton's method, in float64; the objective is convex, so that there is one answer and
nothing is drawn. Several maps and conditions are wanted: of one alone, the base rate of right answers is learned with
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam import __version__
from gloam.errors import DataError, DivergenceError, UsageError
from gloam.eval.retrieval.judged import JudgedSearch, SearchedMap, search_map
from gloam.files import expect_output
from gloam.model_card import expect_same_space
from gloam.runtime.search.calibration import EVIDENCE, SUFFIX, Calibration, gathered, sigmoid
from gloam.runtime.search.index import IndexCard
from gloam.runtime.search.verified import MatchKind, expect_kind

RIDGE = 1.0  # on the standardised weights, as one more unit of the log likelihood; scikit-learn's default
STEPS, ENOUGH = 100, 1e-10  # of Newton's method, and the largest change of a weight that ends it
FEWEST = 10  # right ones, and wrong ones

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CalibrationRequest:
    """What to learn from.

    Attributes:
        index, store, matches, ground_truth: of each map, see :class:`SearchedMap`; as many of each.
        output: ``.json`` file to write.
        k: images a query.
        ridge: weight of the squares of the standardised weights, 0 or more.
        trust: see :func:`search_map`.

    Raises:
        UsageError: not as many of each, or another suffix.
    """

    index: Sequence[Path]
    store: Sequence[Path]
    matches: Sequence[Path]
    ground_truth: Sequence[Path]
    output: Path
    k: int = 20
    ridge: float = RIDGE
    trust: bool = False

    def __post_init__(self) -> None:
        expect_output(self.output, SUFFIX, "a calibration")
        counts = {name: len(getattr(self, name)) for name in ("index", "store", "matches", "ground_truth")}
        if len(set(counts.values())) > 1:
            said = ", ".join(f"{count} of --{name.replace('_', '-')}" for name, count in counts.items())
            raise UsageError(f"each map needs its index, queries, matches and ground truth; there are {said}")
        if not 0 <= self.ridge < np.inf:
            raise UsageError(f"--ridge {self.ridge:g}: must be 0 or more")

    @property
    def maps(self) -> list[SearchedMap]:
        """One after the other."""
        parts = zip(self.index, self.store, self.matches, self.ground_truth, strict=True)
        return [SearchedMap(*part) for part in parts]


@dataclass(frozen=True)
class LearnedCalibration:
    """A calibration that was learned and written.

    Attributes:
        output: the file; calibration: what is in it.
    """

    output: Path
    calibration: Calibration

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        own = self.calibration
        weights = dict(zip(own.evidence, own.weights, strict=True))
        return {"output": str(self.output), "k": own.k, "weights": weights, **own.provenance}

    def __str__(self) -> str:
        """Lines for people."""
        own, said = self.calibration, self.calibration.provenance
        weights = ", ".join(f"{name} {value:+.2f}" for name, value in zip(own.evidence, own.weights, strict=True))
        return (
            f"{self.output}: from {said['queries']} queries of {said['maps']} maps, {100 * said['right']:.0f} % right, "
            f"{said['junk']} left out as junk; weights of {weights}"
        )


def learn_calibration(request: CalibrationRequest) -> LearnedCalibration:
    """Search every map, learn, and write.

    Raises:
        StoreError, IncompatibleError, UsageError: see :func:`search_map`; or two maps of different spaces or matches.
        DataError: too few right or too few wrong first images to learn from.
    """
    searches: list[JudgedSearch] = []
    first: tuple[IndexCard, MatchKind] | None = None
    for searched in request.maps:
        search, card, kind = search_map(searched, request.k, trust=request.trust)
        if first is None:
            first = card, kind
        expect_same_space(first[0].space, card.space, str(searched.index))
        expect_kind(first[1], kind, str(searched.matches), f"the first, {request.matches[0]},")
        searches.append(search)
    if first is None:
        raise UsageError("give at least one map to learn from")
    calibration = fit_calibration(searches, first[0].space, request.k, first[1], ridge=request.ridge)
    of_index = {"fingerprint": first[0].fingerprint, "factory": first[0].factory}
    calibration = replace(calibration, provenance={**calibration.provenance, **of_index})
    calibration.save(request.output)
    return LearnedCalibration(request.output, calibration)


def fit_calibration(
    searches: Sequence[JudgedSearch],
    space: str,
    k: int,
    matches: MatchKind,
    *,
    evidence: Sequence[str] = tuple(EVIDENCE),
    ridge: float = RIDGE,
) -> Calibration:
    """Logistic regression on the queries of some maps, all of one weight.

    Args:
        searches: judged; one at least.
        space, k, matches: that they are of.
        evidence: names in :data:`EVIDENCE`.
        ridge: weight of the squares of the standardised weights; the bias has none, so that the mean probability is
            the share of right ones.

    Raises:
        DataError: fewer than :data:`FEWEST` right or wrong first images.
    """
    right = np.concatenate([search.right for search in searches])
    few = min(int(right.sum()), int((~right).sum()))
    if few < FEWEST:
        raise DataError(
            f"of {len(right)} queries {int(right.sum())} have a right first image; {FEWEST} right and {FEWEST} wrong "
            "ones are needed at least, add maps or harder conditions"
        )
    values = np.concatenate([gathered(search.ranked, evidence) for search in searches])
    mean, scale = values.mean(0), values.std(0)
    scale = np.where(scale > 0, scale, 1.0)  # what is the same for all says nothing
    weights, bias = fit_logistic((values - mean) / scale, right, ridge)
    provenance = {
        "maps": len(searches),
        "queries": len(right),
        "right": float(right.mean()),
        "junk": sum(len(search.junk) for search in searches),
        "ridge": ridge,
        "gloam": __version__,
    }
    return Calibration(
        space,
        k,
        matches,
        tuple(evidence),
        tuple(mean.tolist()),
        tuple(scale.tolist()),
        tuple(weights.tolist()),
        bias,
        provenance,
    )


def fit_logistic(values: Values, right: npt.NDArray[np.bool_], ridge: float = RIDGE) -> tuple[Values, float]:
    """Weights and bias that maximise the log likelihood less ``ridge / 2`` times the squares of the weights.

    Args:
        values: float64 ``[q, e]``, standardised.
        right: bool ``[q]``.
        ridge: 0 or more; 0 has no answer where a plane parts right from wrong.

    Returns:
        float64 ``[e]`` and the bias.

    Raises:
        DivergenceError: no answer in :data:`STEPS` steps.
    """
    x = np.column_stack([values, np.ones(len(values))])
    penalty = np.full(x.shape[1], ridge)
    penalty[-1] = 0.0
    weights = np.zeros(x.shape[1])

    def cost(at: Values) -> float:
        margins = (x @ at) * np.where(right, 1.0, -1.0)
        return float(np.logaddexp(0.0, -margins).sum() + penalty @ at**2 / 2)

    for _ in range(STEPS):
        said = sigmoid(x @ weights)
        slope = x.T @ (said - right) + penalty * weights
        curve = (x.T * (said * (1 - said))) @ x + np.diag(penalty + 1e-12)
        step = np.linalg.solve(curve, slope)
        now, length = cost(weights), 1.0
        while cost(weights - length * step) > now and length > 1e-8:
            length /= 2
        weights = weights - length * step
        if np.abs(length * step).max() < ENOUGH:
            return weights[:-1], float(weights[-1])
    raise DivergenceError("the calibration found no answer: a plane parts right from wrong; raise --ridge")
