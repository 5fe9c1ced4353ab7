"""``gloam pairs``: which images of the map to match each query with."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.report import Report
from gloam.cli.shared.request import filled
from gloam.cli.shared.store_options import add_trust

HELP = "list the most similar images of the map for each query, in kapture's or hloc's text format"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("--query", type=Path, required=True, help="store of query descriptors")
    parser.add_argument("--map", type=Path, required=True, help="store of the map's descriptors")
    parser.add_argument("-k", type=int, default=20, help="pairs per query")
    parser.add_argument("-o", "--output", type=Path, required=True, help="text file to write")
    parser.add_argument("--format", choices=("kapture", "hloc"), default="kapture", help="hloc's has no scores")
    parser.add_argument("--exclude-self", action="store_true", help="never pair an image with its own name")
    parser.add_argument("--min-score", type=float, help="leave out pairs below this cosine (default: keep all)")
    add_trust(parser)
    rules = parser.add_argument_group("pairs to leave out by what is known of the images")
    rules.add_argument(
        "--exclude-same",
        action="append",
        default=[],
        metavar="COLUMN",
        help="leave out pairs of one camera, location, cluster, ...: a column of --groups, or camera with --kapture; "
        "may be repeated",
    )
    rules.add_argument("--only-same", action="append", default=[], metavar="COLUMN", help="keep these pairs alone")
    rules.add_argument("--groups", type=Path, help="CSV with a header image,COLUMN,...; images of both sides")
    rules.add_argument("--kapture", type=Path, nargs="+", default=[], help="datasets of the queries and the map")
    rules.add_argument(
        "--min-distance",
        type=float,
        metavar="METRES",
        help="leave out what was taken nearer; needs --kapture with poses",
    )


def run(arguments: argparse.Namespace) -> Report:
    """Retrieve and write, both streamed."""
    from gloam.runtime.search.pair_rules import PairRules
    from gloam.runtime.search.pairs import PairsRequest, list_pairs

    listed = list_pairs(filled(PairsRequest, arguments, rules=filled(PairRules, arguments)))
    return Report(listed.to_dict(), str(listed))
