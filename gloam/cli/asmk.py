"""``gloam asmk``: search by local features, as HOW is evaluated."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from gloam.cli.shared.backend_options import add_backend, placement
from gloam.cli.shared.report import Report
from gloam.cli.shared.request import filled
from gloam.cli.shared.values import seed

if TYPE_CHECKING:
    from gloam.runtime.search.asmk_images import LocalImages

HELP = "build and search an ASMK index of HOW's local features"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-verbs."""
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    build = verbs.add_parser("build", help="codebook and index of a map's images")
    _add_images(build, "the map")
    build.add_argument("-o", "--output", type=Path, required=True, metavar="INDEX.npz", help="index to write")
    build.add_argument(
        "--train", type=Path, metavar="SOURCE", help="images that the codebook is learned from; the map's by default"
    )
    build.add_argument(
        "--codebook", type=Path, metavar="FILE", help="codebook to use; where it is missing, the learned one is kept"
    )
    build.add_argument("--words", type=int, help="visual words of a codebook to learn (default: 65536)")
    build.add_argument("--seed", type=seed, default=0, help="of the codebook")
    build.set_defaults(run=run_build)
    search = verbs.add_parser("search", help="rank the map for each query")
    search.add_argument("index", type=Path, metavar="INDEX.npz", help="what `gloam asmk build` wrote")
    _add_images(search, "the queries")
    search.add_argument("-o", "--output", type=Path, metavar="FILE.json", help="ranking and scores of each query")
    search.add_argument("-k", type=int, default=100, help="images of the map in the output for each query")
    search.add_argument("--ground-truth", type=Path, metavar="FILE", help="print mAP and recall")
    search.add_argument("--set", metavar="NAME", help="set of a ground-truth file that holds several")
    search.set_defaults(run=run_search)


def _add_images(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("source", type=Path, help=f"images of {what}: folder, text list or kapture dataset")
    parser.add_argument("--model", type=Path, required=True, metavar="MODEL.onnx", help="of kind local_features")
    parser.add_argument("--root", type=Path, help="folder that a list's names are relative to (default: the list's)")
    parser.add_argument(
        "--max-side", type=int, help="longer side in pixels, 0 keeps native sizes (default: the model's input rule)"
    )
    parser.add_argument("--strongest", type=int, default=1000, help="local features of each image")
    add_backend(parser)


def run_build(arguments: argparse.Namespace) -> Report:
    """Learn or read the codebook, index the map, write."""
    from gloam.runtime.search.asmk_images import AsmkRequest, build_asmk

    built = build_asmk(filled(AsmkRequest, arguments, images=_images(arguments)))
    return Report(built.to_dict(), str(built))


def run_search(arguments: argparse.Namespace) -> Report:
    """Rank, write the ranking, and score it where the truth is given."""
    from gloam.eval.retrieval.asmk import AsmkSearch, search_asmk

    found = search_asmk(filled(AsmkSearch, arguments, images=_images(arguments)))
    return Report(found.to_dict(), str(found))


def _images(arguments: argparse.Namespace) -> LocalImages:
    from gloam.runtime.search.asmk_images import LocalImages

    return filled(LocalImages, arguments, placement=placement(arguments))
