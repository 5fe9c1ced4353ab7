"""``gloam edges``: edge maps of photographs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from gloam.cli.shared.backend_options import placement
from gloam.cli.shared.image_runs import add_run_arguments, run_pictures
from gloam.cli.shared.report import Report

if TYPE_CHECKING:
    from gloam.runtime.models.image_model import ImageOperation

HELP = "detect edges in a folder, list or kapture dataset of images; 8-bit grey PNG, 255 = certain"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    add_run_arguments(parser)
    parser.add_argument("--model", type=Path, required=True, help="exported edge detector (.onnx)")


def run(arguments: argparse.Namespace) -> Report:
    """Detect and report."""

    def load() -> ImageOperation:
        from gloam.runtime.models.edge_detector import EdgeDetector

        return EdgeDetector.load(arguments.model, placement(arguments))

    return run_pictures(arguments, load, "png", "turned to edges")
