"""``gloam translate``: photographs of one condition to pictures of another."""

from __future__ import annotations

import argparse
from functools import partial

from gloam.cli.shared.image_runs import add_run_arguments, report_pictures
from gloam.cli.shared.ray_options import expect_cluster
from gloam.cli.shared.report import Report
from gloam.cli.shared.request import filled
from gloam.cli.shared.translating import add_direction
from gloam.cli.shared.unread import refuse, refuse_others
from gloam.cli.shared.values import named, width_height
from gloam.errors import UsageError

HELP = "translate a folder, list or kapture dataset of images, for example from day to night"
KEPT = ("progress.jsonl", "manifest.json", "*.tar")
OF_GRID = (
    *("grid", "source", "output", "root", "model", "to", "like", "appearance", "noise", "device"),
    *("beside", "compare", "rows", "cell"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    add_run_arguments(parser)
    parser.add_argument(
        "--model",
        required=True,
        help="exported translator (.onnx), or a control without a network: none, lab-inversion, gamma[:MEAN] (darkens "
        "to the mean of the night, on 0..1), clahe",
    )
    add_direction(parser)
    grid = parser.add_argument_group(
        "--grid: one picture instead of a folder",
        "each source beside its translation into every domain of the model, attention masks beneath where --model is a "
        "native checkpoint or the folder of a run; with --like, its translation into the appearance of each example; "
        "with --compare, what several translators make of it; or, where SOURCE is a file of weak pairs, for each "
        "domain a source, its translation by every method, and "
        "right-most the weakly paired image. -o is then a .png",
    )
    grid.add_argument("--grid", action="store_true", help="draw such a picture")
    grid.add_argument(
        "--beside",
        action="append",
        default=[],
        type=named,
        metavar="NAME=MODEL",
        help="weak pairs: another method; repeatable",
    )
    grid.add_argument(
        "--compare",
        action="append",
        default=[],
        type=named,
        metavar="NAME=MODEL",
        help="another translator of any kind on the same images, a column each; repeatable",
    )
    grid.add_argument(
        "--rows", type=int, metavar="N", help="sources (default: 6), or pairs of each domain (default: 1)"
    )
    grid.add_argument(
        "--cell", type=width_height, metavar="WxH", help="to which images are stretched first (default: 256x192)"
    )
    parser.add_argument("--format", choices=("png", "jpg"), default="png", help="of the pictures; jpg has quality 95")


def run(arguments: argparse.Namespace) -> Report:
    """Translate and report."""
    if arguments.grid:
        return _grid(arguments)
    refuse(arguments, ("beside", "compare", "rows", "cell"), "is of a picture of many; add --grid")
    from gloam.runtime.models.translator import load_translator

    load = partial(
        load_translator,
        arguments.model,
        domain=arguments.to,
        noise=arguments.noise,
        like=arguments.like,
        encoder=arguments.appearance,
    )
    return report_pictures(arguments, load, arguments.format, "translated")


def _grid(arguments: argparse.Namespace) -> Report:
    from gloam.workflows.translation_grid import GridRequest, draw_grid

    expect_cluster(arguments, "workers")
    if arguments.on == "ray":
        raise UsageError("--on ray is of a folder of pictures; leave it out, or --grid")
    refuse_others(arguments, OF_GRID, "is of a folder of pictures; leave it out, or --grid")
    size = arguments.cell or GridRequest.size
    found = draw_grid(filled(GridRequest, arguments, domain=arguments.to, size=size, seed=0))
    return Report(found.to_dict(), found.to_text())
