"""``gloam pairs``: which images of the map to match each query, or one another, with."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.map_pairs_options import add_map_pairs
from gloam.cli.shared.report import Report
from gloam.cli.shared.request import filled
from gloam.cli.shared.store_options import add_trust
from gloam.cli.shared.unread import refuse
from gloam.errors import UsageError

HELP = "list the most similar images of the map for each query, or the pairs of a map, as kapture's or hloc's text"
OF_MAP = ("map_pairs", "map_neighbours", "map_distance", "map_angle")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("--query", type=Path, help="store of query descriptors")
    parser.add_argument("--map", type=Path, help="store of the map's descriptors")
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
    mapped = parser.add_argument_group("pairs of a map's own images, instead of --query and --map")
    mapped.add_argument("--mapping", type=Path, help="kapture dataset with poses, or folder of a COLMAP model")
    add_map_pairs(mapped)


def run(arguments: argparse.Namespace) -> Report:
    """Choose and write."""
    if arguments.mapping is not None:
        return _of_map(arguments)
    if arguments.query is None or arguments.map is None:
        raise UsageError("give --query and --map, the two stores, or --mapping for the pairs of a map")
    if any(getattr(arguments, name) is not None for name in OF_MAP):
        raise UsageError("--map-pairs, --map-neighbours, --map-distance and --map-angle are for --mapping")
    from gloam.runtime.search.pair_rules import PairRules
    from gloam.runtime.search.pairs import PairsRequest, list_pairs

    request = filled(PairsRequest, arguments, rules=filled(PairRules, arguments))
    listed = list_pairs(request, progress=not arguments.json)
    return Report(listed.to_dict(), str(listed))


def _of_map(arguments: argparse.Namespace) -> Report:
    from gloam.runtime.localization.maps.pair_list import MapPairsRequest, list_map_pairs

    rules = ("exclude_same", "only_same", "groups", "kapture", "min_distance", "min_score", "exclude_self", "trust")
    if arguments.query is not None or arguments.map is not None or any(getattr(arguments, name) for name in rules):
        raise UsageError("--mapping lists the pairs of a map by its poses or points; leave the options of stores out")
    refuse(arguments, ("k",), "is of the pairs of stores; pairs of a map have --map-neighbours")
    listed = list_map_pairs(filled(MapPairsRequest, arguments))
    return Report(listed.to_dict(), str(listed))
