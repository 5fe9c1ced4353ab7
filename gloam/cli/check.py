"""``gloam check``: does a model still compute what it should?"""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.backend_options import add_backend, placement
from gloam.cli.shared.report import Report
from gloam.cli.shared.request import filled

HELP = "run a model's stored self-test here, and compare it with its PyTorch original"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("model", type=Path, help="embedder, translator or edge detector: .onnx file, or engine folder")
    parser.add_argument("--against", type=Path, metavar="WEIGHTS", help="the weights it was exported from")
    parser.add_argument("--network", help="network name of weights that do not say it (default: the model's)")
    parser.add_argument(
        "--whitening", type=Path, metavar="FILE", help="the whitening it was exported with, besides --against"
    )
    parser.add_argument(
        "--padding",
        choices=("symmetric", "tf"),
        help="MobileNetV2: padding of layers of stride 2, of weights that do not say it (default: the model's)",
    )
    add_backend(parser)


def run(arguments: argparse.Namespace) -> Report:
    """Check; exit code 1 where something differs."""
    from gloam.export.precision.check import CheckRequest, check_model

    request = filled(CheckRequest, arguments, weights=arguments.against, placement=placement(arguments))
    checked = check_model(request)
    return Report(checked.to_dict(), str(checked), exit_code=0 if checked.passed else 1)
