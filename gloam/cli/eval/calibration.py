"""``gloam eval calibration``: whether the probabilities of ``gloam search --calibrated`` keep their word."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.report import Report
from gloam.cli.shared.request import filled
from gloam.cli.shared.store_options import add_trust

HELP = "expected calibration error and coverage of a calibration on a map with ground truth, per condition"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("calibration", type=Path, help="file of `gloam train calibration`")
    parser.add_argument("--index", type=Path, required=True, help="folder of the map's index")
    parser.add_argument("--store", type=Path, required=True, help="store of the queries")
    parser.add_argument("--matches", type=Path, required=True, help="what `gloam match --verify` wrote")
    parser.add_argument("--ground-truth", type=Path, required=True, metavar="FILE", help=".pkl, .json, .json.gz")
    parser.add_argument("--set", metavar="NAME", help="set of a ground-truth file that holds several")
    parser.add_argument(
        "--precision", type=float, default=0.95, help="share of right answers that coverage is for (default 0.95)"
    )
    parser.add_argument("--bins", type=int, default=10, help="of as many queries each (default 10)")
    add_trust(parser, "store, index and matches")


def run(arguments: argparse.Namespace) -> Report:
    """Search, judge, print one row per condition."""
    from gloam.eval.retrieval.judged import EvaluationRequest, evaluate_calibration

    evaluated = evaluate_calibration(filled(EvaluationRequest, arguments))
    return Report(evaluated.to_dict(), str(evaluated))
