"""``gloam train calibration``: how probably a search's first image is right, learned from maps with ground truth."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.report import Report
from gloam.cli.shared.request import filled
from gloam.cli.shared.store_options import add_trust

HELP = "the probability that a search's first image is right, from scores and verified matches"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.description = (
        "learn from searches whose answers are known how probably the first image is right, for `gloam search "
        "--calibrated`; every map has its index, its queries' store, their verified matches and its ground truth, "
        "given in one order"
    )
    parser.add_argument("--index", type=Path, nargs="+", required=True, metavar="INDEX", help="folders of indexes")
    parser.add_argument("--store", type=Path, nargs="+", required=True, metavar="STORE", help="stores of the queries")
    parser.add_argument(
        "--matches",
        type=Path,
        nargs="+",
        required=True,
        metavar="MATCHES",
        help="what `gloam match --verify` wrote: .h5 files, or folders of kapture's matches",
    )
    parser.add_argument(
        "--ground-truth",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help=".pkl, .json or .json.gz, ok and junk",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".json")
    parser.add_argument("-k", type=int, default=20, help="images a query; a search must ask for as many (default 20)")
    parser.add_argument(
        "--ridge", type=float, default=1.0, help="penalty on the squares of the standardised weights (default 1)"
    )
    add_trust(parser, "stores, indexes and matches")


def run(arguments: argparse.Namespace) -> Report:
    """Learn and write."""
    from gloam.training.calibration import CalibrationRequest, learn_calibration

    learned = learn_calibration(filled(CalibrationRequest, arguments))
    return Report(learned.to_dict(), str(learned))
