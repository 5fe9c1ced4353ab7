"""``gloam translate``: photographs of one condition to pictures of another."""

from __future__ import annotations

import argparse
from functools import partial

from gloam.cli.shared.backend_options import placement
from gloam.cli.shared.image_runs import add_run_arguments, report_pictures
from gloam.cli.shared.report import Report
from gloam.cli.shared.values import zeros_or_seed

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
    parser.add_argument(
        "--to",
        metavar="DOMAIN",
        help="of a model of several domains, the one to translate into (default: the file's)",
    )
    parser.add_argument(
        "--noise",
        type=zeros_or_seed,
        metavar="zeros|SEED",
        help="of a model that takes noise: none, or drawn for each image from this seed and its pixels, so that an "
        "image gives the same picture in any batch and under any name (default: zeros)",
    )
    parser.add_argument("--format", choices=("png", "jpg"), default="png", help="of the pictures; jpg has quality 95")


def run(arguments: argparse.Namespace) -> Report:
    """Translate and report."""
    from gloam.runtime.models.translator import load_translator

    load = partial(load_translator, arguments.model, placement(arguments), arguments.to, arguments.noise)
    return report_pictures(arguments, load, arguments.format, "translated")
