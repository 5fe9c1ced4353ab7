"""``gloam train embedder``: contrastive training on procedural streets of all hours."""

from __future__ import annotations

import argparse

from gloam.cli.shared.recipe_arguments import add_town_arguments, changes, listed, trained
from gloam.cli.shared.report import Report

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
    recipes = listed(arguments, "embedder")
    if recipes is not None:
        return recipes
    return trained("embedder", arguments, DIRECT, changes(arguments, DIRECT))
