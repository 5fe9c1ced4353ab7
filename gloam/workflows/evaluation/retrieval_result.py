"""What a retrieval evaluation gives: the scores of every set and condition, and what they are of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gloam.eval.retrieval.ground_truth import GroundTruth
from gloam.eval.retrieval.recall_distance import DistanceRecall
from gloam.eval.retrieval.scores import RetrievalScores, Scores
from gloam.runtime.descriptors.source import DescriptorSource


@dataclass(frozen=True)
class RetrievalEvaluation:
    """What was scored and how it came out.

    Attributes:
        title: of the page.
        queries, database: the descriptors.
        truths: sets by name; the first is the one whose worst queries are shown.
        scores: of every set.
        benchmark: column of the papers' tables that the first set fills: ``Tokyo``, ``ROxf``, ``RPar``, or "".
        matrix: sets named ``query>map`` and their scores.
        distance: recall within a distance, where positions were given.
        query_images, map_images: folders of the images; without them no gallery.
        identity: name -> value of what was run.
    """

    title: str
    queries: DescriptorSource
    database: DescriptorSource
    truths: Mapping[str, GroundTruth] = field(default_factory=dict)
    scores: Mapping[str, RetrievalScores] = field(default_factory=dict)
    benchmark: str = ""
    matrix: Mapping[str, RetrievalScores] = field(default_factory=dict)
    distance: DistanceRecall | None = None
    query_images: Path | None = None
    map_images: Path | None = None
    identity: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: the first set's scores at the top, all sets below."""
        data: dict[str, Any] = {"identity": dict(self.identity)}
        if self.distance:
            return data | {"distance": self.distance.to_dict()}
        name, scores = next(iter(self.scores.items()))
        data |= scores.to_dict() | {
            "set": name,
            "sets": {name: item.to_dict() for name, item in self.scores.items()},
            "space": self.queries.space,
            "fingerprints": {"query": self.queries.fingerprint, "map": self.database.fingerprint},
            "map_images": len(self.truths[name].map_names),
        }
        if self.matrix:
            data["matrix"] = {name: item.to_dict() for name, item in self.matrix.items()}
        return data

    def to_text(self) -> str:
        """A row for every set and condition."""
        return "\n".join(_distance_lines(self.distance) if self.distance else self._score_lines())

    def _score_lines(self) -> list[str]:
        first = next(iter(self.scores.values()))
        ks = list(first.recall)
        single = len(self.scores) == 1
        rows: list[tuple[str, Scores]] = []
        for name, item in self.scores.items():
            rows.append(("all" if single else name, item))
            rows += [(part if single else f"{name} {part}", group) for part, group in item.conditions.items()]
        rows += list(self.matrix.items())
        width = max(14, *(len(name) + 2 for name, _ in rows))
        heads = [*(f"R@{k}" for k in ks), *(f"mP@{k}" for k in ks)]
        lines = [
            f"{'queries':<{width}}{'n':>6}{'failed':>8}{'skipped':>8}{'mAP':>8}{'chance':>8}"
            + "".join(f"{head:>8}" for head in heads)
        ]
        for name, part in rows:
            values = "".join(f"{value:>8.3f}" for value in (*part.recall.values(), *part.precision.values()))
            counts = f"{part.queries:>6}{part.failed:>8}{part.skipped:>8}"
            lines.append(f"{name:<{width}}{counts}{part.mAP:>8.3f}{part.chance_mAP:>8.3f}{values}")
        images = len(next(iter(self.truths.values())).map_names)
        distractors = self.identity["distractors"]
        also = f" and {distractors} distractors" if distractors != "0" else ""
        lines.append(f"{images} map images{also}; queries without a positive are skipped")
        return [*lines, *failure_lines(first)]


def failure_lines(found: Scores | DistanceRecall) -> list[str]:
    """What images that could not be described have done to the scores; nothing where there are none."""
    if not found.failed and not found.failed_map:
        return []
    return [
        f"{found.failed} queries and {found.failed_map} map images could not be described: such a query has found "
        "nothing, such a map image is never found"
    ]


def _distance_lines(found: DistanceRecall) -> list[str]:
    heads = "".join(f"{f'{metres:g} m':>8}" for metres in found.distances)
    lines = [f"{'queries':<14}{'n':>6}  {'score':<10}{heads}"]
    for name, item in {"all": found, **found.conditions}.items():
        rows = {f"R@{k}": values for k, values in item.recall.items()}
        rows |= {"reachable": item.reachable, "chance R@1": item.chance}
        for score, values in rows.items():
            lines.append(f"{name:<14}{item.queries:>6}  {score:<10}" + "".join(f"{value:>8.3f}" for value in values))
    return [*lines, *failure_lines(found)]
