"""``gloam dataset``: a training set of one's own images, built and checked."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.report import Report
from gloam.cli.shared.values import seed

HELP = "build and check training sets for metric learning: images, clusters, and pairs"
KINDS = ("auto", "folder", "csv", "pairs", "kapture", "town", "sfm", "nd", "gld_csv", "json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the two sub-verbs."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    build = actions.add_parser("build", help="write set.json from folders, a table, pairs, poses or a public dataset")
    _add_build(build)
    build.set_defaults(run=run_build)
    check = actions.add_parser("check", help="name what is wrong with a set before training does; exit code 1 if so")
    check.add_argument("set", type=Path, help="set.json")
    check.add_argument("--set", dest="set_name", metavar="NAME", help="check this set of the file alone")
    check.add_argument("--images", type=Path, metavar="DIR", help="the images' folder, in place of the file's")
    check.add_argument("--decode", action="store_true", help="decode every image, not its header alone")
    check.add_argument("--contents", action="store_true", help="compare the files' bytes, to find copies")
    check.add_argument(
        "--negatives", type=int, default=5, help="per tuple; each needs a cluster of its own (default 5)"
    )
    check.set_defaults(run=run_check)


def _add_build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, nargs="+", help="folder of places, table, list, dataset or pickle")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="JSON", help="the set to write")
    parser.add_argument(
        "--from",
        dest="kind",
        choices=KINDS,
        default="auto",
        help="folder: PLACE/image.jpg or PLACE/CONDITION/image.jpg; csv: image,cluster[,condition]; pairs: a pair a "
        "line; kapture: by poses or 3D points; sfm, nd: pickles of Retrieval-SfM's schema; gld_csv: Google Landmarks; "
        "auto looks at the source (default)",
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder that names are relative to")
    parser.add_argument("--validation", type=float, metavar="SHARE", help="hold out this share of clusters as set val")
    parser.add_argument("--set", dest="set_name", metavar="NAME", help="sfm, nd, json: the part to read, as train, val")
    parser.add_argument("--day", type=Path, help="sfm, nd: list of ids taken by day")
    parser.add_argument("--night", type=Path, help="sfm, nd: list of ids taken by night")
    parser.add_argument("--pairs-per-image", type=int, help="pairs that an image is the query of (default 2)")
    parser.add_argument("--singles", choices=("refuse", "keep", "drop"), help="clusters of one image")
    parser.add_argument("--seed", type=seed, help="of drawn pairs (default 0)")
    parser.add_argument("--positives", choices=("distance", "covisibility"), help="kapture: rule (default distance)")
    parser.add_argument("--distance", type=float, help="between positives, metres (default 10; town 8)")
    parser.add_argument("--heading", type=float, help="between positives' viewing directions, degrees (default 40)")
    parser.add_argument("--shared-points", type=int, help="covisibility: 3D points in common (default 20)")
    parser.add_argument("--apart", type=float, help="from here images may be negatives, metres (default 25; town 6)")
    parser.add_argument("--side", type=float, help="cut the map into blocks of this side, metres, with gaps of --apart")
    parser.add_argument("--one-world", action="store_true", default=None, help="datasets share one coordinate system")


def run_build(arguments: argparse.Namespace) -> Report:
    """Read, write, and count."""
    from gloam.data.retrieval_sets.build import TAKES, build_set

    names = {name for options in TAKES.values() for name in options} - {"set_name"}
    built = build_set(
        arguments.source,
        arguments.output,
        arguments.kind,
        options={name: getattr(arguments, name) for name in names},
        set_name=arguments.set_name,
        validation=arguments.validation,
    )
    return Report(built.to_dict(), built.to_text())


def run_check(arguments: argparse.Namespace) -> Report:
    """Print the findings of every set."""
    from gloam.data.retrieval_sets.check import check_file

    checked = check_file(
        arguments.set,
        arguments.set_name,
        arguments.images,
        decode=arguments.decode,
        contents=arguments.contents,
        negatives=arguments.negatives,
    )
    return Report(checked.to_dict(), checked.to_text(), exit_code=int(not checked.passed))
