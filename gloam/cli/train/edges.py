"""``gloam train edges``: an edge detector on procedural streets, whose edges are exact."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from gloam.cli.shared.report import Report

HELP = "an edge detector on procedural streets, whose edges are exact; the same command carries on after a kill"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for weights, record and state")
    parser.add_argument("--recipe", default="town_hed", help="recipe that comes with gloam")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML whose keys replace the recipe's")
    parser.add_argument("--epochs", type=int, help="epochs, instead of the recipe's")
    parser.add_argument("--seed", type=int, help="seed of weights and sampling, instead of the recipe's")


def run(arguments: argparse.Namespace) -> Report:
    """Train and print what validation says beside its controls."""
    from gloam.errors import require

    require("torch", "train", "train")
    from gloam.training.edges.config import read_detector_config, read_detector_recipe

    config = read_detector_recipe(arguments.recipe)
    if arguments.config is not None:
        config = read_detector_config(arguments.config, config)
    chosen = {key: getattr(arguments, key) for key in ("epochs", "seed") if getattr(arguments, key) is not None}
    config = dataclasses.replace(config, **chosen)

    from gloam.training.edges.train import train_detector

    summary = train_detector(
        config, arguments.output, recipe=arguments.recipe, say=lambda line: print(line, file=sys.stderr)
    )
    data = {
        "weights": str(summary.weights),
        "weights_sha256": summary.weights_sha256,
        "best_epoch": summary.best_epoch,
        "validation_f": summary.scores,
        "seconds": round(summary.seconds, 1),
        "cpu_seconds": round(summary.cpu_seconds, 1),
    }
    lines = [f"{summary.weights}: best of {config.epochs} epochs is {summary.best_epoch}"]
    for condition, scores in summary.scores.items():
        controls = ", ".join(f"{name} {value:.3f}" for name, value in scores.items() if name != "trained")
        lines.append(f"F-score by {condition} on a held-out street: {scores['trained']:.3f} ({controls})")
    return Report(data, "\n".join(lines))
