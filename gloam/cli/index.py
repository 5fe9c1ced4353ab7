"""``gloam index``: a store of descriptors to a FAISS index."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from gloam.cli.report import Report

HELP = "build a FAISS index from a store of descriptors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("store", type=Path, help="folder written by `gloam extract`")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the index")
    parser.add_argument(
        "--factory", default="Flat", help="FAISS factory string; Flat is exact and right below 200 000 images"
    )
    parser.add_argument("--train-samples", type=int, default=100_000, help="vectors that a factory is trained with")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of those vectors")


def run(arguments: argparse.Namespace) -> Report:
    """Build the index."""
    from gloam.runtime.index import build_index
    from gloam.runtime.store import DescriptorStore

    store = DescriptorStore.open(arguments.store)
    card = build_index(
        store, arguments.output, arguments.factory, train_samples=arguments.train_samples, seed=arguments.seed
    )
    text = f"{arguments.output}: {card.count} vectors of {card.dimension} values, {card.factory}\nspace {card.space}"
    return Report({"index": str(arguments.output), **asdict(card)}, text)
