"""``gloam match``: matches of a list of pairs, by stored local features."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.backend_options import add_backend, placement
from gloam.cli.shared.memory_option import add_memory
from gloam.cli.shared.report import Report
from gloam.cli.shared.request import filled
from gloam.cli.shared.unread import refuse
from gloam.cli.shared.values import seed

HELP = "match the pairs of a list by stored local features, into kapture's or hloc's files or a COLMAP database"
KEPT = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument(
        "datasets",
        type=Path,
        nargs="*",
        metavar="DATASET",
        help="kapture datasets of the images; hloc's features need none, unless cameras are needed",
    )
    parser.add_argument("--pairs", type=Path, required=True, help="list of pairs, hloc's or kapture's text")
    parser.add_argument(
        "--features",
        required=True,
        metavar="H5|FOLDER|TYPE",
        help="hloc's .h5 file, a folder of kapture local features, or the type of those that all datasets hold",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        help="kapture dataset to write into, hloc's .h5 file or a COLMAP .db; the same command resumes",
    )
    parser.add_argument("--format", choices=("kapture", "hloc", "colmap"), help="of the output (default: by its name)")
    parser.add_argument(
        "--matcher",
        default="mutual",
        metavar="mutual|MODEL",
        help="'mutual' nearest neighbours, or an exported matcher of the features",
    )
    parser.add_argument("--ratio", type=float, help="mutual: Lowe's test, e.g. 0.85 for SIFT (default: none)")
    parser.add_argument(
        "--verify", action="store_true", help="keep what agrees with a two-view geometry, estimated for each pair"
    )
    parser.add_argument("--feature-type", help="kapture's name of the features, for the folder (default: their own)")
    parser.add_argument(
        "--pixel-origin",
        type=float,
        choices=(0.0, 0.5),
        help="hloc's features: where the cameras have the centre of the first pixel; by default told from principal "
        "points in the middle of an image, else 0",
    )
    parser.add_argument(
        "--workspace", type=Path, help="folder of what is kept of pairs (default: OUTPUT.workspace beside the output)"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say what time, disk and memory it takes, by a few pairs",
    )
    add_memory(parser)
    parser.add_argument("--workers", type=int, help="threads (default: all cores); changes no result")
    parser.add_argument("--seed", type=seed, default=0, help="of the verification")
    add_backend(parser)


def run(arguments: argparse.Namespace) -> Report:
    """Match, and say how many."""
    if arguments.matcher == "mutual":
        refuse(arguments, ("device", "threads", "backend", "cpu_precision"), "is of a model that matches; leave it out")
    from gloam.runtime.localization.estimate import estimate_matching
    from gloam.runtime.localization.matches.match_files import MatchRequest, match_pairs

    request = filled(MatchRequest, arguments, placement=placement(arguments))
    done = estimate_matching(request) if arguments.dry_run else match_pairs(request)
    return Report(done.to_dict(), str(done))
