"""``gloam eval retrieval``: mAP, mP@k and recall of one descriptor store against another, by a protocol."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.report import Report
from gloam.cli.shared.request import filled
from gloam.cli.shared.store_options import add_trust
from gloam.errors import UsageError

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
    add_trust(parser)


def run(arguments: argparse.Namespace) -> Report:
    """Score, write the report where asked, print one row per set and condition."""
    from gloam.workflows.evaluation.retrieval import RetrievalOptions, evaluate_retrieval
    from gloam.workflows.reports.retrieval import write_retrieval_report

    if arguments.report is None and (arguments.images is not None or arguments.map_images is not None):
        raise UsageError("--images and --map-images are shown in a report; add --report DIR, or leave them out")
    options = filled(
        RetrievalOptions,
        arguments,
        order=arguments.order.split(",") if arguments.order else None,
        query_images=arguments.images,
    )
    evaluation = evaluate_retrieval(options)
    text = evaluation.to_text()
    if arguments.report is not None:
        text += f"\nreport: {write_retrieval_report(evaluation, arguments.report)}"
    return Report(evaluation.to_dict(), text)
