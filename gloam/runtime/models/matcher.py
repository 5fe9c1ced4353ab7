"""Matcher: the local features of two images in, which of them are of one point out. And what every matcher offers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from gloam.errors import DataError, GloamError, IncompatibleError, ModelError, UsageError
from gloam.model_card import FeatureRule
from gloam.runtime.backends.facts import BackendFacts
from gloam.runtime.backends.placement import Placement
from gloam.runtime.backends.selftest import open_tested
from gloam.runtime.backends.session import Session, run_together
from gloam.runtime.models.local_features import LocalFeatures, OrientedFeatures

LEAST = 2  # keypoints of an image; one has no other to be told from
GPU_BATCH = 8  # pairs; on a CPU batching gains nothing, and padding costs
UNIT = 1e-2  # that the length of a descriptor may differ from 1, as halves and bytes make it

Floats = npt.NDArray[np.float32]
Matched = tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]]


class FeatureMatcher(Protocol):
    """What every matcher offers, learned or not.

    Attributes:
        key: identity, for caches: equal ones give equal matches.
    """

    @property
    def key(self) -> str:
        """See above."""
        ...

    def __call__(self, first: Any, second: Any) -> Matched:
        """Matches of two images: uint32 ``[m, 2]`` of rows, ascending in the first, each row at most once; and float32
        ``[m]``, how sure each is."""
        ...

    def match_pairs(self, pairs: Sequence[tuple[Any, Any]]) -> list[Matched]:
        """Matches of many pairs, in their order, each as it is alone."""
        ...


class Matcher:
    """An exported matcher.

    Args:
        session: a loaded model of kind ``matcher``.
        batch_size: pairs of a run; 1 on a CPU, where batching gains nothing.
        min_score: probability that a match exceeds; the model's own threshold by default, which is the least.

    Attributes:
        card: the model's card.
        takes: the local features that it is for.
        min_score: see above; 0 where the model's own threshold alone decides.
    """

    def __init__(self, session: Session, batch_size: int | None = None, min_score: float = 0.0) -> None:
        session.card.expect_kind("matcher", session.card.name)
        most = session.card.profile.batch[1]
        if batch_size is not None and not 1 <= batch_size <= most:
            raise UsageError(f"matcher: a batch of {batch_size} pairs; the model takes 1 to {most}")
        if not 0 <= min_score < 1:
            raise UsageError(f"matcher: a score above {min_score:g} is asked for; scores are probabilities, 0 to 1")
        assert session.card.takes is not None  # of every card of this kind
        self.session = session
        self.card = session.card
        self.takes: FeatureRule = session.card.takes
        self.batch_size = batch_size or min(1 if session.backend.on_cpu else GPU_BATCH, most)
        self.min_score = min_score

    @classmethod
    def load(
        cls,
        path: str | Path,
        placement: Placement | None = None,
        *,
        batch_size: int | None = None,
        min_score: float = 0.0,
    ) -> Self:
        """Load an ``.onnx`` file.

        Args:
            path: the model.
            placement: where and how it runs; on the CPU by default.
            batch_size, min_score: see :class:`Matcher`.

        Raises:
            ModelError: unreadable, a checkpoint, of another kind, or its self-test fails here.
        """
        session = open_tested(path, placement, lambda card, where: card.expect_kind("matcher", where))
        return cls(session, batch_size, min_score)

    @property
    def key(self) -> str:
        """Identity, for caches."""
        return f"{self.session.fingerprint} {self.min_score:g}"

    @property
    def backend(self) -> BackendFacts:
        """What runs it, as it is at the moment."""
        return self.session.backend

    def __call__(self, first: LocalFeatures, second: LocalFeatures) -> Matched:
        """Match two images.

        Args:
            first, second: their features, any number each; of fewer than 2 no match comes.

        Returns:
            uint32 ``[m, 2]`` of rows, ascending in the first, each row at most once; and float32 ``[m]``, the
            probability of each.

        Raises:
            IncompatibleError: other features than the model is for, or descriptors of another length.
            DataError: arrays that do not belong together, or values that no feature has.
            UsageError: more keypoints than a fixed profile holds.
        """
        return self.match_pairs([(first, second)])[0]

    def match_pairs(self, pairs: Sequence[tuple[LocalFeatures, LocalFeatures]]) -> list[Matched]:
        """Match many pairs of images, as many at once as the session takes; each gives what it gives alone.

        Raises:
            see :meth:`__call__`.
        """
        for features in {id(each): each for pair in pairs for each in pair}.values():
            self._expect(features)
        found: list[Matched] = [(np.zeros((0, 2), np.uint32), np.zeros(0, np.float32))] * len(pairs)
        filled = [at for at, pair in enumerate(pairs) if min(len(pair[0]), len(pair[1])) >= LEAST]
        filled.sort(key=lambda at: (len(pairs[at][0]), len(pairs[at][1])))  # like beside like: little padding
        batches = [filled[start : start + self.batch_size] for start in range(0, len(filled), self.batch_size)]
        answers = run_together(lambda rows: self._run([pairs[at] for at in rows]), batches, self.session.backend)
        for rows, matched in zip(batches, answers, strict=True):
            for at, each in zip(rows, matched, strict=True):
                found[at] = each
        return found

    def _expect(self, features: LocalFeatures) -> None:
        """Refuse features that the model is not for, or that are none."""
        takes, name = self.takes, self.card.name
        shape = features.descriptors.shape
        if features.name != takes.name or len(shape) != 2 or shape[1] != takes.dimension:
            values, own = shape[-1] if len(shape) == 2 else list(shape), features.name or "unnamed"
            raise IncompatibleError(
                f"{name}: is for {takes.name} features of {takes.dimension} values, but these are {own} features of "
                f"{values}; extract those, or take the matcher of {own} features"
            )
        count = len(features.keypoints)
        if features.keypoints.shape != (count, 2) or shape[0] != count:
            raise DataError(
                f"{name}: keypoints {list(features.keypoints.shape)} and descriptors {list(shape)} do not belong "
                "together; [n, 2] and [n, D] are needed"
            )
        if min(features.size) < 1:
            raise DataError(f"{name}: features of an image of {features.size[0]}x{features.size[1]} px; give its size")
        for what, values in (("keypoints", features.keypoints), *self._oriented(features).items()):
            if len(values) != count:
                raise DataError(f"{name}: {len(values)} {what} of {count} keypoints; extract the features again")
            if not np.isfinite(values).all():
                raise DataError(f"{name}: {what} that are not finite; extract the features again")
        length = np.linalg.norm(features.descriptors, axis=1)
        if not (np.abs(length - 1) <= UNIT).all():
            raise DataError(f"{name}: descriptors that are not of unit length; divide them by their L2 norm")

    def _oriented(self, features: LocalFeatures) -> dict[str, Floats]:
        """Scales and orientations, where the model takes them."""
        if not self.takes.oriented:
            return {}
        if not isinstance(features, OrientedFeatures):
            raise DataError(
                f"{self.card.name}: needs scales and orientations of the keypoints; give it OrientedFeatures"
            )
        return {"scales": features.scales, "orientations": features.orientations}

    def _run(self, pairs: Sequence[tuple[LocalFeatures, LocalFeatures]]) -> list[Matched]:
        counts = [max(len(pair[at]) for pair in pairs) for at in (0, 1)]
        profile = self.card.profile
        if profile.kind == "fixed":
            counts = [self._side(counts[at], sides) for at, sides in enumerate((profile.heights, profile.widths))]
        inputs: dict[str, npt.NDArray[Any]] = {
            "counts": np.array([[len(first), len(second)] for first, second in pairs], np.int32)
        }
        for at, count in enumerate(counts):
            side = [pair[at] for pair in pairs]
            shifted = [each.keypoints + np.float32(self.takes.origin - each.origin) for each in side]
            inputs[f"keypoints{at}"] = _padded(shifted, count)
            inputs[f"descriptors{at}"] = _padded([each.descriptors for each in side], count)
            inputs[f"sizes{at}"] = np.array([each.size[::-1] for each in side], np.int32)
            oriented = [self._oriented(each) for each in side]
            for what in oriented[0]:
                inputs[f"{what}{at}"] = _padded([each[what] for each in oriented], count)
        try:
            outputs = self.session.run(inputs)
        except GloamError:
            raise
        except Exception as error:  # the backends' exceptions share no base class
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelError(
                f"{self.card.name}: the model failed on {len(pairs)} pairs of {counts[0]} and {counts[1]} keypoints "
                f"({reason[:200]})"
            ) from error
        matches, scores = (outputs[spec.name] for spec in self.card.outputs)
        return [self._kept(*each) for each in zip(matches, scores, strict=True)]

    def _kept(self, matches: npt.NDArray[Any], scores: npt.NDArray[Any]) -> Matched:
        rows = np.flatnonzero((matches >= 0) & (scores > self.min_score))
        return np.stack((rows, matches[rows]), 1).astype(np.uint32), scores[rows].astype(np.float32, copy=False)

    def _side(self, count: int, sides: tuple[int, ...]) -> int:
        """The padded number of keypoints of a fixed profile."""
        if count > sides[-1]:
            raise UsageError(
                f"{self.card.name}: {count} keypoints of an image, and the model's fixed profile holds {sides[-1]}; "
                "keep fewer, or export the model with larger --sides"
            )
        return next(side for side in sides if side >= count)


def _padded(rows: Sequence[Floats], count: int) -> Floats:
    """Arrays of unequal lengths as one, zeros behind them."""
    padded = np.zeros((len(rows), count, *rows[0].shape[1:]), np.float32)
    for row, values in enumerate(rows):
        padded[row, : len(values)] = values
    return padded
