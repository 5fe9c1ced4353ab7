"""``gloam demo``: the main job on the embedded town."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from gloam.cli.shared.report import Report

HELP = "render a town, train, export, extract, index, retrieve, localize day and night queries, write the report"
KEPT = ("*/*",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("-o", "--output", type=Path, default=Path("gloam-demo"), help="folder for everything it makes")
    parser.add_argument("--seed", type=int, default=7, help="seed of the town that is localized")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes for rendering and poses")
    parser.add_argument("--top-k", type=int, default=5, help="map images retrieved per query")


def run(arguments: argparse.Namespace) -> Report:
    """Run the demo and print its tables."""
    from gloam.workflows.demo import DemoConfig, run_demo

    config = DemoConfig(seed=arguments.seed, workers=arguments.workers, top_k=arguments.top_k)
    result = run_demo(arguments.output, config, say=None if arguments.json else print)
    return Report(result.data, result.text)
