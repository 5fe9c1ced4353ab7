"""``--memory``, of the verbs that match pairs of images."""

from __future__ import annotations

import argparse

from gloam.cli.shared.values import nbytes

DEFAULT = "1GiB"


def add_memory(parser: argparse._ActionsContainer) -> None:
    """Add the option."""
    parser.add_argument(
        "--memory",
        type=nbytes,
        metavar="SIZE",
        default=nbytes(DEFAULT),
        help=f"of features and matches that are held at once (default: {DEFAULT}); others are read from the disk again",
    )
