"""``gloam pair``: which images of two domains show one place, for translators that learn from weak pairs."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.report import Report
from gloam.cli.shared.request import filled
from gloam.cli.shared.unread import refuse, refuse_others
from gloam.cli.shared.values import seed
from gloam.errors import UsageError

HELP = "pair images of different domains (night, snow, ...) by where and which way they were taken; draw a map of it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument(
        "source",
        type=Path,
        nargs="?",
        help="table of domains (YAML: RobotCar traversals, kapture datasets, CSV tables), CSV with a column domain, or "
        "kapture dataset whose conditions/ has a list for each domain",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="JSON", help="pair file to write; its map is a .png beside"
    )
    parser.add_argument(
        "--template", type=Path, metavar="YAML", help="write the paper's eleven domains to fill in, only"
    )
    parser.add_argument(
        "--domains", nargs="+", default=[], metavar="NAME", help="pair these alone, labels in this order"
    )
    parser.add_argument("--distance", type=float, default=3.0, help="of a pair at most, metres (default 3)")
    parser.add_argument(
        "--heading",
        type=float,
        default=10.0,
        help="between a pair's directions at most, degrees (default 10; 180: any)",
    )
    parser.add_argument(
        "--rule",
        choices=("mutual", "nearest"),
        default="mutual",
        help="mutual: images that are each other's nearest, each in one pair of two domains (default); nearest: every "
        "image with its nearest",
    )
    parts = parser.add_argument_group("training and test images by where they were taken")
    parts.add_argument(
        "--test-regions", type=Path, metavar="FILE", help="YAML or JSON: rectangles and polygons, metres"
    )
    parts.add_argument(
        "--blocks", type=float, metavar="METRES", help="draw squares of this side as test regions instead"
    )
    parts.add_argument(
        "--test-share", type=float, default=0.2, help="of the images that the squares hold (default 0.2)"
    )
    parts.add_argument("--seed", type=seed, default=0, help="of the draw (default 0)")
    parts.add_argument(
        "--gap", type=float, default=25.0, help="around test regions, metres; its images are left out (default 25)"
    )
    robotcar = parser.add_argument_group("RobotCar's traversals")
    robotcar.add_argument(
        "--spacing",
        type=float,
        default=1.0,
        help="leave out images nearer to the one before, metres (default 1; 0: none)",
    )
    robotcar.add_argument(
        "--ins-gap",
        type=float,
        default=0.2,
        help="leave out images between rows of the INS this far apart, s (default 0.2)",
    )
    robotcar.add_argument(
        "--extremes",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="leave out this share of a traversal's darkest and of its brightest images, as 0.01; decodes all (0)",
    )


def run(arguments: argparse.Namespace) -> Report:
    """Pair and write, or write the template."""
    if arguments.template is not None:
        from gloam.data.weak_pairs.domains import write_paper_table

        if arguments.source is not None or arguments.output is not None:
            raise UsageError("--template writes a table to fill in; pair its domains by another call")
        refuse_others(arguments, ("template",), "is of pairs; --template writes a table to fill in, and reads nothing")
        write_paper_table(arguments.template)
        return Report({"template": str(arguments.template)}, f"{arguments.template}: name each domain's sources in it")
    if arguments.source is None or arguments.output is None:
        raise UsageError("give a table of domains and -o PAIRS.json, or --template FILE for one to fill in")
    if arguments.blocks is None:
        refuse(arguments, ("test_share", "seed"), "is of regions that are drawn; add --blocks METRES, or leave it out")
    from gloam.data.weak_pairs.build import PairRequest, pair_domains

    paired = pair_domains(filled(PairRequest, arguments, domains=tuple(arguments.domains)))
    return Report(paired.to_dict(), paired.to_text())
