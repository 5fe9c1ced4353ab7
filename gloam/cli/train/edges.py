"""``gloam train edges``: an edge detector on procedural streets, whose edges are exact."""

from __future__ import annotations

import argparse

from gloam.cli.shared.recipe_arguments import add_town_arguments, changes, listed, trained
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
    recipes = listed(arguments, "edges")
    if recipes is not None:
        return recipes
    return trained("edges", arguments, DIRECT, changes(arguments, DIRECT))
