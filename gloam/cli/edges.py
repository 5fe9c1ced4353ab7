"""``gloam edges``: edge maps of photographs."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from gloam.cli.shared.image_runs import add_run_arguments, report_pictures
from gloam.cli.shared.report import Report

HELP = "detect edges in a folder, list or kapture dataset of images; 8-bit grey PNG, 255 = certain"
KEPT = ("progress.jsonl", "manifest.json", "*.tar")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    add_run_arguments(parser)
    parser.add_argument("--model", type=Path, required=True, help="exported edge detector (.onnx)")


def run(arguments: argparse.Namespace) -> Report:
    """Detect and report."""
    from gloam.runtime.models.edge_detector import EdgeDetector

    load = partial(EdgeDetector.load, arguments.model)
    return report_pictures(arguments, load, "png", "turned to edges")
