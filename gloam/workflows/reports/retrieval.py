"""One page about a retrieval evaluation: scores beside the paper's rows, a matrix of conditions, the worst queries.

Beside the page lie ``per_query.csv`` and ``scores.json``.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gloam.eval.retrieval.ground_truth import GroundTruth
from gloam.eval.retrieval.recall_distance import DistanceRecall
from gloam.eval.retrieval.scores import RetrievalScores, Scores
from gloam.eval.retrieval.streamed import gather
from gloam.files import plain_cell, write_json, write_text
from gloam.runtime.descriptors.source import DescriptorArray, search_space
from gloam.runtime.search.pairs import retrieve_pairs
from gloam.workflows.evaluation.retrieval_result import RetrievalEvaluation, failure_lines
from gloam.workflows.reports.page.data import (
    MAX_ROWS,
    Bar,
    DistanceCurve,
    GalleryResult,
    GalleryRow,
    Hero,
    RecallCurve,
    ReportData,
    Table,
)
from gloam.workflows.reports.page.gallery import MAX_RESULTS
from gloam.workflows.reports.page.template import three_digits
from gloam.workflows.reports.page.write import write_report
from gloam.workflows.reproduce.published import TABLES

LISTED = 3  # images that a table names for a query
REPORT_FILE, PER_QUERY_FILE, SCORES_FILE = "report.html", "per_query.csv", "scores.json"
ALL = "all queries"


def write_retrieval_report(evaluation: RetrievalEvaluation, folder: str | Path) -> Path:
    """Write the page, the table per query and the scores into a folder.

    Returns:
        path of the page.

    Raises:
        StoreError: the folder cannot be written.
    """
    place = Path(folder)
    write_json(place / SCORES_FILE, scores_data(evaluation))
    if evaluation.scores:
        write_text(place / PER_QUERY_FILE, per_query_csv(evaluation.truths, evaluation.scores))
    worst = worst_queries(evaluation)
    shown = evaluation.query_images is not None
    data = ReportData(
        title=evaluation.title,
        tables=[*tables(evaluation), *([] if shown or not worst else [_worst_table(worst)])],
        recall_curves=_recall_curves(evaluation.scores),
        distance_curves=_distance_curves(evaluation.distance),
        gallery=gallery(evaluation, worst) if shown else (),
        identity=dict(evaluation.identity),
        hero=_hero(evaluation),
    )
    write_report(data, place / REPORT_FILE)
    return place / REPORT_FILE


def scores_data(evaluation: RetrievalEvaluation) -> dict[str, object]:
    """All scores, JSON-ready."""
    return {
        "sets": {name: item.to_dict() for name, item in evaluation.scores.items()},
        "matrix": {name: item.to_dict() for name, item in evaluation.matrix.items()},
        "distance": evaluation.distance.to_dict() if evaluation.distance else None,
        "identity": dict(evaluation.identity),
    }


def per_query_csv(truths: Mapping[str, GroundTruth], scores: Mapping[str, RetrievalScores]) -> str:
    """Average precision of every query that counts: set, query, its conditions, positives, AP; worst first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["set", "query", "conditions", "positives", "ap"])
    for name, item in scores.items():
        truth = truths[name]
        count = {query: len(rows) for query, rows in zip(truth.query_names, truth.positives, strict=True)}
        conditions = _conditions_of(truth)
        for query, ap in sorted(item.per_query.items(), key=lambda entry: (entry[1], entry[0])):
            texts = map(plain_cell, (name, query, " ".join(conditions.get(query, ()))))
            writer.writerow([*texts, count[query], f"{ap:.6f}"])
    return text.getvalue()


def tables(evaluation: RetrievalEvaluation) -> list[Table]:
    """The page's tables: own scores, the papers' shape, the matrix, distances."""
    found = []
    if evaluation.scores:
        found.append(_score_table(evaluation.scores))
    found += _beside_the_papers(evaluation)
    if evaluation.matrix:
        found.append(matrix_table(evaluation.matrix))
    if evaluation.distance:
        found.append(_distance_table(evaluation.distance))
    return found


def matrix_table(matrix: Mapping[str, Scores]) -> Table:
    """mAP of sets named ``query>map``: a row per condition of the queries, a column per condition of the map."""
    asked = list(dict.fromkeys(name.split(">")[0] for name in matrix))
    shown = list(dict.fromkeys(name.split(">")[1] for name in matrix))

    def cell(query: str, right: str) -> float | None:
        item = matrix.get(f"{query}>{right}")
        return None if item is None else item.mAP

    return Table(
        "mAP by condition of the query (rows) and of what is right for it (columns)",
        ["query", *shown],
        [[query, *(cell(query, right) for right in shown)] for query in asked],
        "Images of the place in another condition than the column's are left out of the ranking.",
    )


@dataclass(frozen=True)
class WorstQuery:
    """A query of low average precision.

    Attributes:
        name: of the image; condition: its conditions.
        ap: average precision.
        described: whether it has a descriptor.
        found: map images, their similarity, and whether they show its place; best first, junk left out.
    """

    name: str
    condition: str
    ap: float
    described: bool
    found: Sequence[tuple[str, float, bool]]


def worst_queries(evaluation: RetrievalEvaluation) -> list[WorstQuery]:
    """The queries of lowest average precision in the first set, lowest first; of each condition so many as a page has
    room for."""
    if not evaluation.scores:
        return []
    name = next(iter(evaluation.scores))
    truth, per_query = evaluation.truths[name], evaluation.scores[name].per_query
    conditions = {query: " ".join(names) for query, names in _conditions_of(truth).items()}
    room = Counter[str]()
    worst = []
    for query in sorted(per_query, key=lambda query: (per_query[query], query)):
        condition = conditions.get(query, "")
        room[condition] += 1
        if room[condition] <= MAX_ROWS:
            worst.append(query)
    row_of = {query: row for row, query in enumerate(truth.query_names)}
    right = {query: {truth.map_names[index] for index in truth.positives[row_of[query]]} for query in worst}
    junk = {query: {truth.map_names[index] for index in truth.junk[row_of[query]]} for query in worst}
    space = search_space(evaluation.database.space, evaluation.queries)
    # The store may hold more than the ground truth ranks, the queries themselves for one; what failed it does not hold.
    shown, described = set(evaluation.database.names), set(evaluation.queries.names)
    images_shown = [image for image in truth.map_names if image in shown]
    ranked = DescriptorArray(images_shown, gather(evaluation.database, images_shown, "map"), evaluation.database.space)
    answered = [query for query in worst if query in described]
    asked = DescriptorArray(answered, gather(evaluation.queries, answered, "query"), space)
    depth = MAX_RESULTS + max((len(names) for names in junk.values()), default=0)
    found: dict[str, list[tuple[str, float, bool]]] = {query: [] for query in worst}
    for pair in retrieve_pairs(asked, ranked, depth) if answered else ():
        if pair.mapping not in junk[pair.query] and len(found[pair.query]) < MAX_RESULTS:
            found[pair.query].append((pair.mapping, float(pair.score or 0.0), pair.mapping in right[pair.query]))
    return [
        WorstQuery(query, conditions.get(query, ""), per_query[query], query in described, found[query])
        for query in worst
    ]


def gallery(evaluation: RetrievalEvaluation, worst: Sequence[WorstQuery]) -> list[GalleryRow]:
    """The worst queries and what was retrieved for them, with their images."""
    asked = evaluation.query_images
    if asked is None:
        return []
    images = evaluation.map_images or asked
    return [
        GalleryRow(
            asked / query.name,
            query.name,
            query.condition,
            [GalleryResult(images / image, score, right) for image, score, right in query.found],
            f"average precision {three_digits(query.ap)}{'' if query.described else ', not described'}",
        )
        for query in worst
    ]


def _worst_table(worst: Sequence[WorstQuery]) -> Table:
    """The worst queries without their images."""
    rows: list[list[str | int | float | None]] = []
    for query in worst[:MAX_ROWS]:
        found = [f"{'✓' if right else '✗'} {image} ({score:.3f})" for image, score, right in query.found[:LISTED]]
        found += [""] * (LISTED - len(found))
        rows.append([query.name, query.condition, query.ap, *found])
    return Table(
        "The queries of lowest AP, and what was retrieved for them",
        ["query", "condition", "AP", *(f"image {number}" for number in range(1, LISTED + 1))],
        rows,
        "✓ shows the query's place, ✗ another; the cosine of the two descriptors in brackets. With --images the report "
        "shows them. Every query is in per_query.csv.",
    )


def _hero(evaluation: RetrievalEvaluation) -> Hero | None:
    """mAP of the first set, and of each condition beside chance."""
    if not evaluation.scores:
        return None
    name, scores = next(iter(evaluation.scores.items()))
    bars = []
    for condition, item in scores.conditions.items() or ((ALL, scores),):
        if item.queries:
            shares = [[share, 1 - share] for share in (item.mAP, item.chance_mAP)]
            bars.append(
                Bar(
                    condition,
                    f"{item.queries} queries",
                    [("fine", shares[0][0], three_digits(item.mAP)), ("lost", shares[0][1], "")],
                    f"{condition}: mAP {item.mAP:.3f}, by chance {item.chance_mAP:.3f}",
                    [("coarse", shares[1][0], ""), ("lost", shares[1][1], "")],
                )
            )
    of_set = f", {name}" if len(evaluation.scores) > 1 else ""
    failed = f", {scores.failed} of them not described" if scores.failed else ""
    return Hero(
        [
            (three_digits(scores.mAP), "mAP", f"these descriptors{of_set}"),
            (three_digits(scores.chance_mAP), "mAP", "a random ranking"),
        ],
        f"over {scores.queries} queries{failed}. mAP, the mean average precision, is 1 where all right images come "
        "before all others.",
        bars=bars,
        legend=[("fine", "mAP"), ("coarse", "thin: of a random ranking")],
    )


def _score_table(scores: Mapping[str, RetrievalScores]) -> Table:
    ks = list(next(iter(scores.values())).recall)
    rows: list[list[str | int | float | None]] = []
    for name, item in scores.items():
        for condition, part in {ALL: item, **item.conditions}.items():
            recalls, precisions = ([values[k] for k in ks] for values in (part.recall, part.precision))
            counts = [part.queries, part.failed, part.skipped]
            rows.append([name, condition, *counts, part.mAP, part.chance_mAP, *recalls, *precisions])
    columns = [
        "set",
        "queries",
        "n",
        "failed",
        "skipped",
        "mAP",
        "chance",
        *(f"R@{k}" for k in ks),
        *(f"mP@{k}" for k in ks),
    ]
    note = "Skipped queries have no positive and do not count; failed ones could not be described and found nothing."
    return Table("Scores", columns, rows, " ".join([note, *failure_lines(next(iter(scores.values())))]))


def _beside_the_papers(evaluation: RetrievalEvaluation) -> list[Table]:
    ours = {}
    if evaluation.benchmark and evaluation.scores:
        ours[evaluation.benchmark] = 100 * next(iter(evaluation.scores.values())).mAP
    ours |= {name: 100 * item.mAP for name, item in evaluation.matrix.items()}
    found = []
    for (paper, number), table in TABLES.items():
        if not set(ours) & set(table.columns):
            continue
        rows: list[list[str | int | float | None]] = [[name, *values] for name, values in table.rows.items()]
        rows.append(["this run", *(ours.get(column) for column in table.columns)])
        found.append(Table(f"{paper}, table {number}: {table.title}", ["mAP", *table.columns], rows, table.note))
    return found


def _distance_table(found: DistanceRecall) -> Table:
    rows: list[list[str | int | float | None]] = []
    for condition, item in {ALL: found, **found.conditions}.items():
        rows += [[condition, f"R@{k}", *values] for k, values in item.recall.items()]
        rows += [[condition, "reachable", *item.reachable], [condition, "chance, R@1", *item.chance]]
    return Table(
        "Recall within a distance",
        ["queries", "score", *(f"{metres:g} m" for metres in found.distances)],
        rows,
        " ".join(
            [
                "Reachable: queries with any map image so near. A query without one counts as missed.",
                *failure_lines(found),
            ]
        ),
    )


def _recall_curves(scores: Mapping[str, RetrievalScores]) -> list[RecallCurve]:
    return [
        RecallCurve(name, condition, sorted(part.recall), [part.recall[k] for k in sorted(part.recall)])
        for name, item in scores.items()
        for condition, part in {ALL: item, **item.conditions}.items()
        if part.queries
    ]


def _distance_curves(found: DistanceRecall | None) -> list[DistanceCurve]:
    if found is None:
        return []
    curves = []
    for condition, item in {ALL: found, **found.conditions}.items():
        lines: dict[str, Sequence[float]] = {f"R@{k}": values for k, values in item.recall.items()}
        lines |= {"reachable": item.reachable, "chance": item.chance}
        curves += [DistanceCurve(label, condition, item.distances, values) for label, values in lines.items()]
    return curves


def _conditions_of(truth: GroundTruth) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for condition, names in truth.conditions.items():
        for name in names:
            found.setdefault(name, []).append(condition)
    return found
