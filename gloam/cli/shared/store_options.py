"""What the verbs that read stores share."""

from __future__ import annotations

import argparse


def add_trust(parser: argparse.ArgumentParser, what: str = "the descriptors of a store") -> None:
    """Add ``--trust``; ``what`` is read unchecked with it."""
    parser.add_argument(
        "--trust",
        action="store_true",
        help=f"do not compare {what} with their checksums, which reads every byte once more, about a second a gigabyte",
    )
