"""``gloam train translator``: pix2pix, CycleGAN, CUT, CyEDA, HEDGAN and their kin, from a recipe."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.recipe_arguments import add_recipe_arguments, changes, listed, trained
from gloam.cli.shared.report import Report
from gloam.cli.shared.values import seed

HELP = "train a day-to-night image translator from a recipe"
KEPT = ("state/newest.json",)
# option -> dotted name in the recipe
DIRECT = {
    "seed": "seed",
    "max_minutes": "max_minutes",
    "device": "device",
    "processes": "processes",
    "threads": "threads",
    "precision": "precision",
    "detector": "options.detector_weights",
    "judge": "judge",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the sub-verb."""
    parser.description = (
        "train a translator; the same command carries on after a kill, bit for bit on a CPU. FOLDER gets the networks, "
        "losses.csv, held_out.csv, sample strips, TensorBoard events, report.html and train.json"
    )
    add_recipe_arguments(parser, "town_cyclegan", "data.root=/photos or options.cycle_weight=5")
    parser.add_argument("--seed", type=seed, help="seed of weights and sampling")
    parser.add_argument("--epochs", type=int, help="epochs; the learning rate falls in the same share of them")
    parser.add_argument(
        "--max-minutes", type=float, metavar="M", help="end after this time by the recipe's clock (cpu unless it says)"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where to train")
    parser.add_argument("--processes", type=int, metavar="N", help="processes that share each batch, one per GPU")
    parser.add_argument("--threads", type=int, metavar="N", help="torch threads of each process")
    parser.add_argument("--precision", choices=("32", "bf16", "fp16", "64"), help="of the forwards")
    parser.add_argument("--detector", type=Path, metavar="FILE", help="edge detector of the HEDGAN family")
    parser.add_argument("--judge", type=Path, metavar="MODEL.onnx", help="embedder in whose space KID is logged")
    parser.add_argument("--views", type=Path, metavar="FOLDER", help="rendered town views, to be shared by runs")


def run(arguments: argparse.Namespace) -> Report:
    """Train and print what was reached."""
    recipes = listed(arguments, "translator")
    if recipes is not None:
        return recipes
    return trained(
        "translator", arguments, DIRECT, changes(arguments, DIRECT), epochs=arguments.epochs, views=arguments.views
    )
