"""``gloam whiten``: a store of descriptors to a smaller or whitened one."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.report import Report
from gloam.cli.shared.request import filled
from gloam.cli.shared.store_options import add_trust
from gloam.cli.shared.values import seed

HELP = "whiten the descriptors of a finished store into a new store, by PCA learned from them or by a whitening's file"
KEPT = ("shards/*.npy",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("store", type=Path, metavar="STORE", help="folder written by `gloam extract`")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="of the new store")
    parser.add_argument(
        "--whitening",
        type=Path,
        metavar="FILE",
        help=".npz or .safetensors of `gloam train whitening`, or whitening.npz of a store that this verb made, for "
        "queries are whitened as their map was (default: PCA is learned)",
    )
    parser.add_argument("--dimension", type=int, metavar="D", help="values to keep; all by default")
    learn = parser.add_argument_group("learning")
    learn.add_argument("--learn-from", type=Path, metavar="STORE", help="learn from this store of the same space")
    learn.add_argument("--samples", type=int, metavar="N", help="images to learn from (default: 20 000)")
    learn.add_argument("--exponent", type=float, metavar="E", help="1 whitens, 0 only rotates (default: 1)")
    learn.add_argument("--shrinkage", type=int, metavar="K", help="index of the eigenvalue to shrink towards")
    learn.add_argument("--seed", type=seed, default=0, help="of the draw of those images")
    add_trust(parser)


def run(arguments: argparse.Namespace) -> Report:
    """Learn, where nothing is given, and write."""
    from gloam.training.embedders.whitened_store import WhitenRequest, whiten

    written = whiten(filled(WhitenRequest, arguments), progress=not arguments.json)
    return Report(written.to_dict(), str(written))
