"""``gloam translate``: photographs of one condition to pictures of another."""

from __future__ import annotations

import argparse
from functools import partial

from gloam.cli.shared.backend_options import placement
from gloam.cli.shared.image_runs import add_run_arguments, report_pictures
from gloam.cli.shared.report import Report

HELP = "translate a folder, list or kapture dataset of images, for example from day to night"
KEPT = ("progress.jsonl", "manifest.json", "*.tar")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    add_run_arguments(parser)
    parser.add_argument(
        "--model",
        required=True,
        help="exported translator (.onnx), or a control without a network: none, lab-inversion, gamma[:MEAN] (darkens "
        "to the mean of the night, on 0..1), clahe",
    )
    parser.add_argument("--format", choices=("png", "jpg"), default="png", help="of the pictures; jpg has quality 95")


def run(arguments: argparse.Namespace) -> Report:
    """Translate and report."""
    from gloam.runtime.models.translator import load_translator

    load = partial(load_translator, arguments.model, placement(arguments))
    return report_pictures(arguments, load, arguments.format, "translated")
