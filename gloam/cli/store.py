"""``gloam store``: look after a store of descriptors."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.report import Report

HELP = "read every byte of a store of descriptors and name what is damaged"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-verb."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    verify = actions.add_parser("verify", help="compare every file with the checksum of what was written; exit code 1")
    verify.description = (
        "compare every file of a store, finished or not, with the checksum of what was written, and name those that "
        "differ; exit code 1 if any does. The same `gloam extract` makes them again."
    )
    verify.add_argument("folder", type=Path, help="folder written by `gloam extract`")
    verify.set_defaults(run=run_verify)


def run_verify(arguments: argparse.Namespace) -> Report:
    """Read all, name what is damaged."""
    from gloam.runtime.descriptors.verify import verify_store

    found = verify_store(arguments.folder)
    return Report(found.to_dict(), str(found), exit_code=1 if found.damaged else 0)
