"""``gloam train whitening``: Lw or PCA from a descriptor store."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.report import Report
from gloam.cli.shared.request import filled
from gloam.cli.shared.store_options import add_trust

HELP = "a whitening of descriptors, learned from a store: Lw from matching pairs, or PCA"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.description = (
        "learn a whitening from the descriptors that `gloam extract` wrote; they must come from the model, scales and "
        "normalisation that it will be used with"
    )
    parser.add_argument("store", type=Path, metavar="STORE", help="folder of descriptors")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".npz or .safetensors")
    parser.add_argument("--kind", choices=("lw", "pca"), default="lw", help="from matching pairs, or without them")
    parser.add_argument("--pairs", type=Path, metavar="FILE", help="for lw: a set.json, or a text of two names a line")
    parser.add_argument("--set", default=None, metavar="NAME", help="part of a set.json, such as train")
    parser.add_argument("--dimension", type=int, metavar="D", help="values to keep; all by default")
    parser.add_argument("--shrinkage", type=int, metavar="K", help="for pca: index of the eigenvalue to shrink towards")

    add_trust(parser)


def run(arguments: argparse.Namespace) -> Report:
    """Learn and write."""
    from gloam.training.embedders.whitening import WhiteningRequest, learn_whitening

    learned = learn_whitening(filled(WhiteningRequest, arguments))
    return Report(learned.to_dict(), str(learned))
