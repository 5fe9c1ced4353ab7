"""``gloam demo``: the main job on the embedded town."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from gloam.cli.shared.report import Report
from gloam.cli.shared.values import seed
from gloam.heartbeat import to_stderr

HELP = "render a town, extract, index, retrieve, localize day and night queries, write the report; needs no torch"
KEPT = ("*/*",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("-o", "--output", type=Path, default=Path("gloam-demo"), help="folder for everything it makes")
    parser.add_argument("--seed", type=seed, default=7, help="seed of the town that is localized")
    parser.add_argument("--look", type=int, default=2, help="of the town, see `gloam town` (default 2)")
    parser.add_argument("--workers", type=int, help="processes for rendering and poses (default: all cores)")
    parser.add_argument("--top-k", type=int, default=5, help="map images retrieved per query")
    parser.add_argument(
        "--train", action="store_true", help="also train and export the embedder anew, and print its tables (minutes)"
    )


def run(arguments: argparse.Namespace) -> Report:
    """Run the demo and print its tables."""
    # Images are what runs on threads; BLAS's own, which NumPy starts when it is first imported, would spin beside them.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from gloam.data.town.config import TownConfig
    from gloam.workflows.demo import DemoConfig, run_demo

    town = TownConfig(look=arguments.look)
    workers = (os.cpu_count() or 1) if arguments.workers is None else arguments.workers
    config = DemoConfig(arguments.seed, workers, arguments.top_k, town, arguments.train)
    result = run_demo(arguments.output, config, say=None if arguments.json else to_stderr)
    return Report(result.data, result.text)
