"""``gloam eval retrieval``: mAP, mP@k and recall of one descriptor store against another, by a protocol."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gloam.cli.shared.report import Report

if TYPE_CHECKING:
    from gloam.eval.retrieval.recall_distance import DistanceRecall
    from gloam.eval.retrieval.scores import Scores
    from gloam.workflows.reports.retrieval import RetrievalEvaluation

HELP = "mAP, mP@k and recall@k by a benchmark's protocol, per condition, beside chance"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("--query", type=Path, required=True, metavar="STORE", help="descriptor store of the queries")
    parser.add_argument("--map", type=Path, required=True, metavar="STORE", help="descriptor store of the database")
    parser.add_argument(
        "--protocol",
        default="sets",
        choices=("sets", "revisited", "tokyo", "clusters", "vpr-bench", "distance"),
        help="sets: ok and junk; revisited: Easy, Medium, Hard; tokyo: Tokyo 24/7; clusters: what shares a folder or "
        "a label; vpr-bench: its numbers; distance: recall within metres",
    )
    parser.add_argument("--ground-truth", type=Path, metavar="FILE", help=".pkl, .json, .json.gz; clusters: .csv")
    parser.add_argument("--set", metavar="NAME", help="set of a ground-truth file that holds several")
    parser.add_argument(
        "--distractors", type=Path, nargs="+", default=[], metavar="STORE", help="more images, right for no query"
    )
    parser.add_argument(
        "--conditions", type=Path, metavar="DIR", help="folder of CONDITION.txt lists of queries, instead of the file's"
    )
    parser.add_argument(
        "--map-conditions", type=Path, metavar="DIR", help="the same of the map: adds every condition against every"
    )
    parser.add_argument(
        "--order",
        metavar="A,B,C",
        help="tokyo: lightings of a scene's images in the order of their names, for the six combinations of day, "
        "sunset and night; or give --conditions",
    )
    parser.add_argument("--query-positions", type=Path, metavar="PATH", help="distance: kapture or CSV image,x,y[,z]")
    parser.add_argument("--map-positions", type=Path, metavar="PATH", help="distance: kapture or CSV image,x,y[,z]")
    parser.add_argument("--distances", type=float, nargs="+", metavar="METRES", help="distance: 1 to 50 m by default")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write report.html, per_query.csv, scores.json")
    parser.add_argument("--images", type=Path, metavar="DIR", help="query images, for the report's worst queries")
    parser.add_argument("--map-images", type=Path, metavar="DIR", help="map images, where they lie elsewhere")


def run(arguments: argparse.Namespace) -> Report:
    """Score, write the report where asked, print one row per set and condition."""
    from gloam.eval.retrieval.recall_distance import DISTANCES
    from gloam.workflows.reports.retrieval import write_retrieval_report
    from gloam.workflows.retrieval_evaluation import RetrievalOptions, evaluate_retrieval

    options = RetrievalOptions(
        query=arguments.query,
        map=arguments.map,
        protocol=arguments.protocol,
        ground_truth=arguments.ground_truth,
        set=arguments.set,
        distractors=arguments.distractors,
        conditions=arguments.conditions,
        map_conditions=arguments.map_conditions,
        order=arguments.order.split(",") if arguments.order else None,
        query_positions=arguments.query_positions,
        map_positions=arguments.map_positions,
        distances=arguments.distances or DISTANCES,
        query_images=arguments.images,
        map_images=arguments.map_images,
    )
    evaluation = evaluate_retrieval(options)
    lines = _distance_lines(evaluation.distance) if evaluation.distance else _score_lines(evaluation)
    if arguments.report is not None:
        page = write_retrieval_report(evaluation, arguments.report)
        lines.append(f"report: {page}")
    return Report(_data(evaluation), "\n".join(lines))


def _data(evaluation: RetrievalEvaluation) -> dict[str, Any]:
    """The first set's scores at the top, all sets below."""
    data: dict[str, Any] = {"identity": dict(evaluation.identity)}
    if evaluation.distance:
        return data | {"distance": evaluation.distance.to_dict()}
    name, scores = next(iter(evaluation.scores.items()))
    data |= scores.to_dict() | {
        "set": name,
        "sets": {name: item.to_dict() for name, item in evaluation.scores.items()},
        "space": evaluation.queries.space,
        "fingerprints": {"query": evaluation.queries.fingerprint, "map": evaluation.database.fingerprint},
        "map_images": len(evaluation.truths[name].map_names),
    }
    if evaluation.matrix:
        data["matrix"] = {name: item.to_dict() for name, item in evaluation.matrix.items()}
    return data


def _score_lines(evaluation: RetrievalEvaluation) -> list[str]:
    first = next(iter(evaluation.scores.values()))
    ks = list(first.recall)
    single = len(evaluation.scores) == 1
    rows: list[tuple[str, Scores]] = []
    for name, item in evaluation.scores.items():
        rows.append(("all" if single else name, item))
        rows += [(part if single else f"{name} {part}", group) for part, group in item.conditions.items()]
    rows += list(evaluation.matrix.items())
    width = max(14, *(len(name) + 2 for name, _ in rows))
    heads = [*(f"R@{k}" for k in ks), *(f"mP@{k}" for k in ks)]
    lines = [f"{'queries':<{width}}{'n':>6}{'mAP':>8}{'chance':>8}" + "".join(f"{head:>8}" for head in heads)]
    for name, part in rows:
        values = "".join(f"{value:>8.3f}" for value in (*part.recall.values(), *part.precision.values()))
        lines.append(f"{name:<{width}}{part.queries:>6}{part.mAP:>8.3f}{part.chance_mAP:>8.3f}{values}")
    images = len(next(iter(evaluation.truths.values())).map_names)
    distractors = evaluation.identity["distractors"]
    also = f" and {distractors} distractors" if distractors != "0" else ""
    lines.append(f"{images} map images{also}; {first.skipped} queries without a positive were skipped")
    return lines


def _distance_lines(found: DistanceRecall) -> list[str]:
    heads = "".join(f"{f'{metres:g} m':>8}" for metres in found.distances)
    lines = [f"{'queries':<14}{'n':>6}  {'score':<10}{heads}"]
    for name, item in {"all": found, **found.conditions}.items():
        rows = {f"R@{k}": values for k, values in item.recall.items()}
        rows |= {"reachable": item.reachable, "chance R@1": item.chance}
        for score, values in rows.items():
            lines.append(f"{name:<14}{item.queries:>6}  {score:<10}" + "".join(f"{value:>8.3f}" for value in values))
    return lines
