"""``gloam train embedder``: contrastive training on procedural streets of all hours."""

from __future__ import annotations

import argparse

from gloam.cli.shared.recipe_arguments import add_town_arguments, changes, say
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
    from gloam.training.train import train

    summary = train(
        "embedder",
        arguments.recipe,
        changes(arguments, DIRECT),
        arguments.output,
        changes_from=str(arguments.config) if arguments.config is not None else None,
        say=say,
    )
    mean, untrained, chance = summary.validation["mAP"], summary.untrained["mAP"], summary.validation["chance_mAP"]
    data = {
        "weights": str(summary.weights),
        "weights_sha256": summary.weights_sha256,
        "best_epoch": summary.best_epoch,
        "validation_mAP": mean,
        "untrained_mAP": untrained,
        "chance_mAP": chance,
        "seconds": round(summary.seconds, 1),
    }
    config = summary.config
    text = (
        f"{summary.weights}: best of {summary.epochs} epochs is {summary.best_epoch}\n"
        f"validation mAP, {config.query_condition} against {config.map_condition} on a held-out street: "
        f"{mean:.3f} (untrained {untrained:.3f}, chance {chance:.3f})"
    )
    return Report(data, text)
