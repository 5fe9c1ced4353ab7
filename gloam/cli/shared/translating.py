"""What ``gloam translate`` and ``gloam extract --translate`` share: where a translator of many ways leads."""

from __future__ import annotations

import argparse

from gloam.cli.shared.values import zeros_or_seed


def add_direction(parser: argparse._ActionsContainer, of: str = "") -> None:
    """Add ``--to``, ``--like``, ``--appearance`` and ``--noise``.

    Args:
        of: put before what they say, where the translator itself is an option.
    """
    parser.add_argument(
        "--to",
        metavar="DOMAIN",
        help=f"{of}of a model of several domains, the one to translate into (default: the file's)",
    )
    parser.add_argument(
        "--like",
        action="append",
        default=[],
        metavar="IMAGE",
        help=f"{of}of a model that takes the appearance of an example: translate into this image's, or the mean of "
        "several; repeatable, with --appearance",
    )
    parser.add_argument(
        "--appearance", metavar="MODEL", help="--like: the appearance encoder exported from the model's weights"
    )
    parser.add_argument(
        "--noise",
        type=zeros_or_seed,
        metavar="zeros|SEED",
        help=f"{of}of a model that takes noise: none, or drawn for each image from this seed and its pixels, so that "
        "an image gives the same picture in any batch and under any name (default: zeros)",
    )
