"""A search by local features as it is asked for: ranked, written, and scored where the truth is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.errors import UsageError
from gloam.eval.retrieval.ground_truth import read_ground_truth
from gloam.eval.retrieval.scores import RetrievalScores, evaluate_scores
from gloam.files import write_json
from gloam.runtime.search.asmk import AsmkIndex
from gloam.runtime.search.asmk_images import LocalImages, said_failures, search_images


@dataclass(frozen=True)
class AsmkSearch:
    """What to search for.

    Attributes:
        index: file that :func:`~gloam.runtime.search.asmk_images.build_asmk` wrote.
        images: of the queries.
        output: JSON file to write, ranking and scores of each query; None for scores alone.
        k: images of the map in the output for each query.
        ground_truth: file to score by; None for the ranking alone.
        set: of a ground-truth file that holds several.

    Raises:
        UsageError: neither an output nor a ground truth, or k below 1.
    """

    index: Path
    images: LocalImages
    output: Path | None = None
    k: int = 100
    ground_truth: Path | None = None
    set: str | None = None

    def __post_init__(self) -> None:
        if self.output is None and self.ground_truth is None:
            raise UsageError("give -o FILE.json, --ground-truth FILE, or both")
        if self.set is not None and self.ground_truth is None:
            raise UsageError(f"--set {self.set} is of a ground truth; add --ground-truth FILE, or leave it out")
        if self.k < 1:
            raise UsageError(f"-k {self.k}: must be at least 1")


@dataclass(frozen=True)
class AsmkAnswers:
    """How a search came out.

    Attributes:
        queries, images: numbers of queries and of indexed images.
        k: images written for each query.
        output: file that was written, or None.
        scores: by the ground truth, or None.
        failures: name and reason of each query that gave no features.
    """

    queries: int
    images: int
    k: int
    output: Path | None
    scores: RetrievalScores | None
    failures: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        found = {"queries": self.queries, "images": self.images, "failures": dict(self.failures)}
        return found if self.scores is None else found | {"scores": self.scores.to_dict()}

    def __str__(self) -> str:
        """Lines for people."""
        lines = [f"{self.queries} queries against {self.images} images"]
        if self.output is not None:
            lines.append(f"{self.output}: the best {self.k} of each")
        if self.scores is not None:
            recalls = ", ".join(f"R@{k} {value:.3f}" for k, value in self.scores.recall.items())
            lines.append(
                f"mAP {self.scores.mAP:.4f} (chance {self.scores.chance_mAP:.4f}), {recalls}; {self.scores.queries} "
                f"queries count, {self.scores.failed} of them failed, {self.scores.failed_map} map images are missed"
            )
        return "\n".join([*lines, *said_failures(self.failures)])


def search_asmk(request: AsmkSearch) -> AsmkAnswers:
    """Rank the map for each query, write the ranking, and score it.

    Raises:
        IncompatibleError: features of another space than the index's.
        ModelError, DataError: a file that cannot be read.
        StoreError: not writable.
    """
    index = AsmkIndex.load(request.index)
    images = request.images.open()
    scores = search_images(images, index)
    if request.output is not None:
        best = ranking(scores, index.names, request.k)
        write_json(request.output, {"space": index.codebook.space, "ranking": best})
    found = None
    if request.ground_truth is not None:
        truth = read_ground_truth(request.ground_truth, request.set)
        found = evaluate_scores(scores, index.names, truth, failed={*images.failures, *index.failures})
    return AsmkAnswers(
        len(scores), len(index), min(request.k, len(index)), request.output, found, dict(images.failures)
    )


def ranking(
    scores: Mapping[str, npt.NDArray[np.float64]], names: Sequence[str], k: int
) -> dict[str, list[tuple[str, float]]]:
    """The ``k`` best images of each query, of equal ones the first indexed.

    Args:
        scores: of :func:`search_images`.
        names: of the index.
        k: images of each query.
    """
    best = {query: np.argsort(-row, kind="stable")[:k] for query, row in scores.items()}
    return {query: [(names[at], float(scores[query][at])) for at in rows] for query, rows in best.items()}
