"""``gloam eval localization``: errors and recalls of estimated poses."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from gloam.cli.shared.report import Report

HELP = "errors and recalls of the poses of `gloam localize`, or of kapture, LTVL2020 or COLMAP files, per condition"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument(
        "--results",
        type=Path,
        required=True,
        help="output of `gloam localize`, one kapture dataset or COLMAP model with poses, or an LTVL2020 file",
    )
    parser.add_argument(
        "--ground-truth", type=Path, required=True, help="kapture dataset or COLMAP model with the queries' true poses"
    )
    parser.add_argument("--conditions", type=Path, help="folder of <condition>.txt image lists")
    parser.add_argument(
        "--threshold",
        type=_threshold,
        action="append",
        metavar="M,DEG",
        help="recall bin in metres and degrees, repeatable (default: 0.25,2 0.5,5 5,10)",
    )


def run(arguments: argparse.Namespace) -> Report:
    """Score every method found below the results."""
    from gloam.eval.localization.scores import THRESHOLDS
    from gloam.workflows.evaluation.localization import LocalizationOptions, evaluate_localization

    thresholds = arguments.threshold or THRESHOLDS
    options = LocalizationOptions(arguments.results, arguments.ground_truth, arguments.conditions, thresholds)
    found = evaluate_localization(options)
    return Report(found.to_dict(), found.to_text())


def _threshold(text: str) -> tuple[float, float]:
    try:
        metres, degrees = (float(item) for item in text.replace(" ", "").split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not METRES,DEGREES, e.g. 0.25,2") from None
    if not (0 <= metres < math.inf and 0 <= degrees < math.inf):
        raise argparse.ArgumentTypeError(f"{text!r}: metres and degrees are finite and not below 0")
    return metres, degrees
