"""``gloam eval submission``: what is wrong with a file before it is sent to an evaluation server."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.report import Report

HELP = "look for faults in a file of poses before it goes to visuallocalization.net: names, columns, conventions"
BENCHMARKS = ("auto", "aachen-v1.1", "robotcar-v1", "robotcar-v2")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("file", type=Path, metavar="FILE", help="lines of 'name qw qx qy qz tx ty tz'")
    parser.add_argument(
        "--benchmark",
        choices=BENCHMARKS,
        default="auto",
        help="that the file is for; told from --data where it is auto",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="PATH", help="folder of the benchmark")


def run(arguments: argparse.Namespace) -> Report:
    """Read the benchmark's names and the file; exit code 1 where something is wrong."""
    from gloam.eval.localization.submission import check_submission

    found = check_submission(arguments.file, arguments.benchmark, arguments.data)
    return Report(found.to_dict(), found.to_text(), exit_code=1 if found.faults else 0)
