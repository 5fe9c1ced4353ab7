"""``gloam pairs``: which images of the map to match each query with."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gloam.cli.shared.report import Report
from gloam.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gloam.runtime.search.pair_masks import PairMask

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
    rules = parser.add_argument_group("pairs to leave out by what is known of the images")
    rules.add_argument(
        "--exclude-same",
        action="append",
        default=[],
        metavar="COLUMN",
        help="leave out pairs of one camera, location, cluster, ...: a column of --groups, or camera with --kapture; "
        "may be repeated",
    )
    rules.add_argument("--only-same", action="append", default=[], metavar="COLUMN", help="keep these pairs alone")
    rules.add_argument("--groups", type=Path, help="CSV with a header image,COLUMN,...; images of both sides")
    rules.add_argument("--kapture", type=Path, nargs="+", default=[], help="datasets of the queries and the map")
    rules.add_argument(
        "--min-distance",
        type=float,
        metavar="METRES",
        help="leave out what was taken nearer; needs --kapture with poses",
    )


def run(arguments: argparse.Namespace) -> Report:
    """Retrieve and write, both streamed."""
    _refuse_rules_without_source(arguments)
    from gloam.data.pairs import write_pairs
    from gloam.runtime.descriptors.store import DescriptorStore
    from gloam.runtime.search.pairs import retrieve_pairs

    queries, mapping = DescriptorStore.open(arguments.query), DescriptorStore.open(arguments.map)
    masks, unknown = _masks(arguments, queries.names, mapping.names)
    pairs = retrieve_pairs(
        queries,
        mapping,
        arguments.k,
        exclude_self=arguments.exclude_self,
        min_score=arguments.min_score,
        masks=masks,
    )
    count = write_pairs(arguments.output, pairs, arguments.format)
    data: dict[str, Any] = {
        "pairs": count,
        "queries": len(queries),
        "map_images": len(mapping),
        "output": str(arguments.output),
    }
    text = f"{arguments.output}: {count} pairs of {len(queries)} queries with {len(mapping)} images of the map"
    if unknown:
        data["images_without"] = unknown
        text += "".join(f"\n{number} images without a {what}" for what, number in unknown.items() if number)
    return Report(data, text)


def _refuse_rules_without_source(arguments: argparse.Namespace) -> None:
    for column in (*arguments.exclude_same, *arguments.only_same):
        if arguments.groups is None and not (column == "camera" and arguments.kapture):
            hint = "--groups FILE or --kapture DATASET" if column == "camera" else "--groups FILE"
            raise UsageError(f"a rule by {column!r} needs {hint}")
    if arguments.min_distance is not None and not arguments.kapture:
        raise UsageError("--min-distance needs the poses of --kapture DATASET")


def _masks(
    arguments: argparse.Namespace, queries: Sequence[str], images: Sequence[str]
) -> tuple[list[PairMask], dict[str, int]]:
    """The masks, and how many images of the two sides are not known to each."""
    from gloam.data.groups import cameras, group_numbers, position_rows, positions, read_groups
    from gloam.data.kapture_io import read_scene
    from gloam.runtime.search.pair_masks import DistanceMask, GroupMask

    scenes = [read_scene(root) for root in arguments.kapture]
    masks: list[PairMask] = []
    unknown: dict[str, int] = {}
    for columns, only in ((arguments.exclude_same, False), (arguments.only_same, True)):
        for column in columns:
            groups = cameras(scenes) if arguments.groups is None else read_groups(arguments.groups, column)
            first, second = group_numbers(groups, queries, images)
            masks.append(GroupMask(first, second, only))
            unknown[column] = int((first < 0).sum() + (second < 0).sum())
    if arguments.min_distance is not None:
        found = positions(scenes)
        rows = [position_rows(found, names) for names in (queries, images)]
        masks.append(DistanceMask(rows[0], rows[1], arguments.min_distance))
        unknown["pose"] = sum(name not in found for names in (queries, images) for name in names)
    for what, number in unknown.items():
        if number == len(queries) + len(images):
            raise DataError(f"none of the images has a {what}: their names are not those of {_sources(arguments)}")
    return masks, unknown


def _sources(arguments: argparse.Namespace) -> str:
    return " or ".join(str(path) for path in (arguments.groups, *arguments.kapture) if path is not None)
