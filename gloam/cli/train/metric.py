"""``gloam train metric``: an embedder on tuples of any image set, with made nights."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gloam.cli.shared.recipe_arguments import add_recipe_arguments, changes, listed, trained
from gloam.cli.shared.report import Report
from gloam.cli.shared.values import seed

HELP = "an embedder by metric learning on mined tuples, some of their images made night"
KEPT = ("state/newest.json",)
# option -> dotted name in the recipe
DIRECT = {
    "network": "network",
    "weights": "weights",
    "maker": "maker",
    "maker_domain": "maker_domain",
    "seed": "seed",
    "epochs": "epochs",
    "device": "device",
    "threads": "threads",
    "max_minutes": "max_minutes",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.description = (
        "train an embedder on tuples of an anchor, a positive and mined negatives; the same command carries on after a "
        "kill, bit for bit on a CPU. FOLDER gets embedder.safetensors, train.json, report.html, samples, the state and "
        "the made nights"
    )
    add_recipe_arguments(parser, "town_clahe", "night.share=0.5 or data.train.path=set.json")
    parser.add_argument("--data", type=Path, metavar="DIR", help="what {root} in the recipe's paths stands for")
    parser.add_argument("--train", type=Path, metavar="SET.json", help="training set that `gloam dataset build` wrote")
    parser.add_argument("--validation", type=Path, metavar="SET.json", help="validation set, likewise")
    parser.add_argument("--network", help="name of the embedder; its options are then the defaults")
    parser.add_argument("--weights", metavar="FILE", help="initial weights")
    parser.add_argument(
        "--maker",
        metavar="MODEL",
        help="what makes nights: a translator (.safetensors, .onnx or the folder of a run), or lab-inversion, "
        "gamma[:MEAN], none, clahe",
    )
    parser.add_argument(
        "--maker-domain", metavar="DOMAIN", help="of a maker of several domains, the one to translate into, e.g. night"
    )
    parser.add_argument(
        "--nights", type=Path, metavar="FOLDER", help="where made nights are kept, to be shared by runs"
    )
    parser.add_argument("--seed", type=seed, help="seed of initial weights and of every choice")
    parser.add_argument("--epochs", type=int, help="epochs, instead of the recipe's")
    parser.add_argument("--max-minutes", type=float, metavar="M", help="no epoch starts after this time")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where to train")
    parser.add_argument("--threads", type=int, metavar="N", help="torch threads")


def run(arguments: argparse.Namespace) -> Report:
    """Train and print what validation says beside the initial weights."""
    recipes = listed(arguments, "metric")
    if recipes is not None:
        return recipes
    return trained("metric", arguments, DIRECT, _changes(arguments), data=arguments.data, nights=arguments.nights)


def _changes(arguments: argparse.Namespace) -> dict[str, Any]:
    from gloam.training.config_changes import merge

    found = changes(arguments, DIRECT)
    for name in ("train", "validation"):
        file = getattr(arguments, name)
        if file is not None:
            found = merge(found, {"data": {name: {"kind": "json", "path": str(file)}}})
    if arguments.network is not None:
        found.setdefault("network_options", {})
    return found
