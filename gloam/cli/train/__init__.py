"""``gloam train``: one sub-verb per kind of model."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from gloam.cli.shared.help_format import HelpFormatter
from gloam.cli.shared.report import Report
from gloam.cli.train import edges as train_edges
from gloam.cli.train import metric as train_metric
from gloam.cli.train import translator as train_translator
from gloam.cli.train import whitening as train_whitening

HELP = "train a model: embedder, metric, whitening, translator, edges"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-verbs."""
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    embedder = kinds.add_parser(
        "embedder",
        help="contrastive training on procedural streets",
        description="contrastive training on procedural streets; the same command carries on after a kill",
        formatter_class=HelpFormatter,
    )
    embedder.add_argument("-o", "--output", type=Path, required=True, help="folder for weights, record and state")
    embedder.add_argument("--recipe", default="town", help="recipe that comes with gloam")
    embedder.add_argument("--config", type=Path, metavar="FILE", help="YAML whose keys replace the recipe's")
    embedder.add_argument("--network", help="name of the embedder, instead of the recipe's")
    embedder.add_argument("--epochs", type=int, help="epochs, instead of the recipe's")
    embedder.add_argument("--seed", type=int, help="seed of weights and sampling, instead of the recipe's")
    embedder.set_defaults(run=run)
    metric = kinds.add_parser("metric", help=train_metric.HELP, formatter_class=HelpFormatter)
    train_metric.add_arguments(metric)
    metric.set_defaults(run=train_metric.run)
    whitening = kinds.add_parser("whitening", help=train_whitening.HELP, formatter_class=HelpFormatter)
    train_whitening.add_arguments(whitening)
    whitening.set_defaults(run=train_whitening.run)
    translator = kinds.add_parser("translator", help=train_translator.HELP, formatter_class=HelpFormatter)
    train_translator.add_arguments(translator)
    translator.set_defaults(run=train_translator.run)
    edges = kinds.add_parser(
        "edges",
        help=train_edges.HELP,
        description=train_edges.HELP,
        formatter_class=HelpFormatter,
    )
    train_edges.add_arguments(edges)
    edges.set_defaults(run=train_edges.run)


def run(arguments: argparse.Namespace) -> Report:
    """Train and print what validation says."""
    from gloam.errors import require
    from gloam.training.embedders.street_config import read_config, read_recipe

    require("torch", "train", "train")
    config = read_recipe(arguments.recipe)
    if arguments.config is not None:
        config = read_config(arguments.config, config)
    if arguments.network is not None and arguments.network != config.network:
        config = dataclasses.replace(config, network=arguments.network, network_options={})
    chosen = {key: getattr(arguments, key) for key in ("epochs", "seed") if getattr(arguments, key) is not None}
    config = dataclasses.replace(config, **chosen)

    from gloam.training.embedders.street_train import train_embedder

    summary = train_embedder(
        config, arguments.output, recipe=arguments.recipe, say=lambda line: print(line, file=sys.stderr)
    )
    data = {
        "weights": str(summary.weights),
        "weights_sha256": summary.weights_sha256,
        "best_epoch": summary.best_epoch,
        "validation_mAP": summary.validation_mAP,
        "untrained_mAP": summary.untrained_mAP,
        "chance_mAP": summary.chance_mAP,
        "seconds": round(summary.seconds, 1),
    }
    text = (
        f"{summary.weights}: best of {config.epochs} epochs is {summary.best_epoch}\n"
        f"validation mAP, {config.query_condition} against {config.map_condition} on a held-out street: "
        f"{summary.validation_mAP:.3f} (untrained {summary.untrained_mAP:.3f}, chance {summary.chance_mAP:.3f})"
    )
    return Report(data, text)
