"""``gloam train edges``: an edge detector on procedural streets, whose edges are exact."""

from __future__ import annotations

import argparse

from gloam.cli.shared.recipe_arguments import add_town_arguments, changes, say
from gloam.cli.shared.report import Report

HELP = "an edge detector on procedural streets, whose edges are exact; the same command carries on after a kill"
KEPT = ("state/newest.json",)
# option -> name in the recipe
DIRECT = {"epochs": "epochs", "seed": "seed"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.description = HELP
    add_town_arguments(parser, "town_hed")


def run(arguments: argparse.Namespace) -> Report:
    """Train and print what validation says beside its controls."""
    from gloam.training.train import train

    summary = train(
        "edges",
        arguments.recipe,
        changes(arguments, DIRECT),
        arguments.output,
        changes_from=str(arguments.config) if arguments.config is not None else None,
        say=say,
    )
    data = {
        "weights": str(summary.weights),
        "weights_sha256": summary.weights_sha256,
        "best_epoch": summary.best_epoch,
        "validation_f": summary.scores,
        "seconds": round(summary.seconds, 1),
        "cpu_seconds": round(summary.cpu_seconds, 1),
    }
    lines = [f"{summary.weights}: best of {summary.config.epochs} epochs is {summary.best_epoch}"]
    for condition, scores in summary.scores.items():
        controls = ", ".join(f"{name} {value:.3f}" for name, value in scores.items() if name != "trained")
        lines.append(f"F-score by {condition} on a held-out street: {scores['trained']:.3f} ({controls})")
    return Report(data, "\n".join(lines))
