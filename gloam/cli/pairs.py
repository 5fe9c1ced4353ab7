"""``gloam pairs``: which images of the map to match each query with."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.report import Report

HELP = "list the most similar images of the map for each query, in kapture's or hloc's text format"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("--query", type=Path, required=True, help="store of query descriptors")
    parser.add_argument("--map", type=Path, required=True, help="store of the map's descriptors")
    parser.add_argument("-k", type=int, default=20, help="pairs per query")
    parser.add_argument("-o", "--output", type=Path, required=True, help="text file to write")
    parser.add_argument("--format", choices=("kapture", "hloc"), default="kapture", help="hloc's has no scores")
    parser.add_argument("--exclude-self", action="store_true", help="never pair an image with its own name")
    parser.add_argument("--min-score", type=float, help="leave out pairs below this cosine (default: keep all)")


def run(arguments: argparse.Namespace) -> Report:
    """Retrieve and write, both streamed."""
    from gloam.data.pairs import write_pairs
    from gloam.runtime.pairs import retrieve_pairs
    from gloam.runtime.store import DescriptorStore

    queries, mapping = DescriptorStore.open(arguments.query), DescriptorStore.open(arguments.map)
    pairs = retrieve_pairs(
        queries, mapping, arguments.k, exclude_self=arguments.exclude_self, min_score=arguments.min_score
    )
    count = write_pairs(arguments.output, pairs, arguments.format)
    data = {"pairs": count, "queries": len(queries), "map_images": len(mapping), "output": str(arguments.output)}
    text = f"{arguments.output}: {count} pairs of {len(queries)} queries with {len(mapping)} images of the map"
    return Report(data, text)
