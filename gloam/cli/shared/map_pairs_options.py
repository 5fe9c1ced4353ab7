"""How the pairs of a map are chosen: options of the verbs that match its images."""

from __future__ import annotations

import argparse

RULES = ("exhaustive", "covisibility", "pose")


def add_map_pairs(parser: argparse._ActionsContainer) -> None:
    """Add the rule of pairs, and its limits."""
    parser.add_argument(
        "--map-pairs",
        choices=RULES,
        help="by which rule (default: neighbours by covisibility where the map has points, else by pose)",
    )
    add_limits(parser)


def add_limits(parser: argparse._ActionsContainer) -> None:
    """Add the limits of a rule."""
    parser.add_argument(
        "--map-neighbours", type=int, metavar="N", help="of a map image (default: 20 by covisibility, 10 by pose)"
    )
    parser.add_argument(
        "--map-distance",
        type=float,
        metavar="UNITS",
        help="of neighbours by pose, in the map's unit (default: 15 m; where over half of the images have none so "
        "near, twice the usual distance of an image's last neighbour)",
    )
    parser.add_argument(
        "--map-angle", type=float, metavar="DEGREES", help="between neighbours by pose (default: 60 degrees)"
    )
