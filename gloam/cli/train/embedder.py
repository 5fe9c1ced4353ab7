"""``gloam train embedder``: contrastive training on procedural streets of all hours."""

from __future__ import annotations

import argparse

from gloam.cli.shared.recipe_arguments import add_town_arguments, changes
from gloam.cli.shared.report import Report
from gloam.heartbeat import to_stderr

HELP = "contrastive training on procedural streets"
KEPT = ("state/newest.json",)
# option -> name in the recipe
DIRECT = {"network": "network", "epochs": "epochs", "seed": "seed"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.description = f"{HELP}; the same command carries on after a kill"
    add_town_arguments(parser, "town")
    parser.add_argument("--network", help="name of the embedder, instead of the recipe's")


def run(arguments: argparse.Namespace) -> Report:
    """Train and print what validation says."""
    from gloam.training.train import train

    summary = train(
        "embedder",
        arguments.recipe,
        changes(arguments, DIRECT),
        arguments.output,
        changes_from=str(arguments.config) if arguments.config is not None else None,
        say=to_stderr,
    )
    return Report(summary.to_dict(), str(summary))
