"""The probability that a search's first image is right, from its scores and its verified matches; numpy alone.

A calibration is logistic regression (Platt 1999) on what :data:`EVIDENCE` says of a query's re-ranked images. It is
learned by :mod:`gloam.training.calibration` for one space of descriptors, one number of images a query and one way to
match and to verify, and says nothing of others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.errors import IncompatibleError, ModelError, UsageError
from gloam.files import read_sealed, sealed_json, write_bytes
from gloam.model_card import expect_same_space
from gloam.record import Written, fill_named, to_json
from gloam.runtime.search.queries import Answers
from gloam.runtime.search.verified import Found, MatchKind, VerifiedMatches, expect_kind, rerank

SCHEMA = 1
SUFFIX = ".json"

Ranked = Sequence[Found]  # a query's images, the most verified matches first


def _log_inliers(found: Ranked) -> float:
    return math.log1p(found[0].inliers)


def _inlier_margin(found: Ranked) -> float:
    return _log_inliers(found) - math.log1p(float(np.median([each.inliers for each in found])))


def _score(found: Ranked) -> float:
    return found[0].score


def _score_margin(found: Ranked) -> float:
    return found[0].score - float(np.median([each.score for each in found]))


EVIDENCE: dict[str, Callable[[Ranked], float]] = {
    "log inliers": _log_inliers,  # of the first image
    "inlier margin": _inlier_margin,  # of it above the median of all that were found, in logarithms
    "score": _score,  # its own
    "score margin": _score_margin,  # above the median of all that were found
}
"""What is known of a query's images, by name: each a number from images of which there is one at least."""


@dataclass(frozen=True)
class Calibration(Written):
    """A logistic regression that was learned.

    Attributes:
        space: of the descriptors.
        k: images found for a query, of which the one with most verified matches is first.
        matches: how the verified matches are made.
        evidence: names in :data:`EVIDENCE`.
        mean, scale: of each over the queries that it was learned from.
        weights: of each, standardised.
        bias: of the sum.
        provenance: where it was learned, JSON-ready.
        schema: of the file.

    Raises:
        ModelError: unknown names, or values that are no regression.
    """

    space: str
    k: int
    matches: MatchKind
    evidence: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    provenance: Mapping[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ModelError(f"calibration of schema {self.schema}; this gloam reads {SCHEMA}, learn it again")
        unknown = [name for name in self.evidence if name not in EVIDENCE]
        if unknown or not self.evidence:
            raise ModelError(f"calibration: evidence {unknown[:1]} is unknown; known are {', '.join(EVIDENCE)}")
        if len({len(self.evidence), len(self.mean), len(self.scale), len(self.weights)}) > 1:
            raise ModelError("calibration: not as many means, scales and weights as kinds of evidence; learn it again")
        if not np.isfinite([*self.mean, *self.scale, *self.weights, self.bias]).all() or min(self.scale) <= 0:
            raise ModelError("calibration: holds values that are no regression; learn it again")
        if self.k < 1:
            raise ModelError(f"calibration: of {self.k} images a query; learn it again")

    def probability(self, found: Ranked) -> float:
        """Probability that the first of a query's images is right.

        Args:
            found: re-ranked by :func:`gloam.runtime.search.verified.rerank`.

        Returns:
            0 to 1; 0 where nothing was found.
        """
        if not found:
            return 0.0
        values = (gathered([found], self.evidence)[0] - self.mean) / self.scale
        return float(sigmoid(values @ np.array(self.weights) + self.bias))

    def expect(self, space: str, k: int, matches: MatchKind, where: str) -> None:
        """Refuse to speak of other descriptors, another number of images or other matches.

        Args:
            space, k, matches: of the search.
            where: the file of the calibration, for messages.

        Raises:
            IncompatibleError: naming what differs.
        """
        expect_same_space(self.space, space, f"the index, for {where}")
        if k != self.k:
            raise IncompatibleError(f"{where}: learned from {self.k} images a query, not {k}; search with -k {self.k}")
        expect_kind(self.matches, matches, "the matches", where)

    def save(self, path: str | Path) -> Path:
        """Write a sealed ``.json``, atomically.

        Raises:
            UsageError: another suffix.
            StoreError: not writable.
        """
        write_bytes(_named(path), sealed_json(to_json(self)))
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read what :meth:`save` wrote.

        Raises:
            UsageError: another suffix.
            ModelError: absent, damaged, or no calibration.
        """
        file = _named(path)
        try:
            value = read_sealed(file)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise ModelError(
                f"{file}: no calibration can be read ({reason}); learn one with `gloam train calibration`"
            ) from error
        try:
            return fill_named(cls, value, str(file))
        except UsageError as error:
            raise ModelError(f"{error}; it is no calibration, learn one with `gloam train calibration`") from error
        except ModelError as error:
            raise ModelError(f"{file}: {error}") from error


@dataclass(frozen=True)
class VerifiedAnswers(Answers):
    """What a search found, in the order of verified matches, and how probably its first images are right.

    Attributes:
        ranked: by query, the images with their verified matches, the most first.
        probabilities: that the first is right, by query; empty without a calibration.
    """

    ranked: Mapping[str, list[Found]] = field(default_factory=dict)
    probabilities: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        results = {query: [each._asdict() for each in found] for query, found in self.ranked.items()}
        said = {"probabilities": dict(self.probabilities)} if self.probabilities else {}
        return {**super().to_dict(), "results": results, **said}

    def __str__(self) -> str:
        """Lines for people."""
        lines = []
        for query, found in self.ranked.items():
            said = f"  right with probability {self.probabilities[query]:.3f}" if query in self.probabilities else ""
            lines += [f"{query}{said}", *(f"  {each.score:.4f}  {each.inliers:5d}  {each.image}" for each in found)]
        return "\n".join([*lines, *(f"{name}: left out, {reason}" for name, reason in self.failures.items())])


@dataclass(frozen=True)
class Verification:
    """What puts answers in the order of their verified matches, and says how probably the first is right.

    Attributes:
        matches: of every query with every image found for it.
        calibration: None for the order alone.
    """

    matches: VerifiedMatches
    calibration: Calibration | None = None

    @classmethod
    def open(
        cls, matches: Path | None, calibration: Path | None, space: str, k: int, *, trust: bool = False
    ) -> Verification | None:
        """Open both files of a search, see :class:`VerifiedMatches` and :class:`Calibration`; None without either.

        Args:
            matches, calibration: the files.
            space: of the index; k: images a query.
            trust: see :meth:`VerifiedMatches.open`.

        Raises:
            UsageError: a calibration without matches.
            IncompatibleError: a calibration of another space, of other matches or another number of images.
            DataError, ModelError: files that cannot be read.
        """
        if matches is None:
            if calibration is None:
                return None
            raise UsageError("--calibrated counts verified matches; add --matches, which `gloam match --verify` writes")
        learned = None if calibration is None else Calibration.load(calibration)
        opened = VerifiedMatches.open(matches, trust=trust)
        if learned is not None:
            learned.expect(space, k, opened.kind, str(calibration))
        return cls(opened, learned)

    def apply(self, found: Answers) -> VerifiedAnswers:
        """Re-rank, and say how probably the first is right where there is a calibration.

        Raises:
            DataError: a query and an image that was found for it were not matched.
        """
        ranked = rerank(found.results, self.matches.count)
        results = {query: [(each.image, each.score) for each in images] for query, images in ranked.items()}
        own = self.calibration
        said = {} if own is None else {query: own.probability(images) for query, images in ranked.items()}
        return VerifiedAnswers(results, found.failures, found.about, ranked, said)


def gathered(ranked: Sequence[Ranked], evidence: Sequence[str]) -> npt.NDArray[np.float64]:
    """The evidence of some queries.

    Args:
        ranked: of each query its images, one at least.
        evidence: names in :data:`EVIDENCE`.

    Returns:
        float64 ``[q, e]``.
    """
    rows = [[EVIDENCE[name](found) for name in evidence] for found in ranked]
    return np.array(rows, np.float64).reshape(len(ranked), len(evidence))


def sigmoid(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """``1 / (1 + exp(-x))`` of any shape, without overflow."""
    x = np.asarray(values, np.float64)
    small = np.exp(-np.abs(x))
    found: npt.NDArray[np.float64] = np.where(x >= 0, 1.0, small) / (1 + small)
    return found


def _named(path: str | Path) -> Path:
    if Path(path).suffix != SUFFIX:
        raise UsageError(f"{path}: a calibration's file ends in {SUFFIX}")
    return Path(path)
