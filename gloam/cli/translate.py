"""``gloam translate``: photographs of one condition to pictures of another."""

from __future__ import annotations

import argparse
from functools import partial

from gloam.cli.shared.backend_options import placement
from gloam.cli.shared.image_runs import add_run_arguments, report_pictures
from gloam.cli.shared.report import Report
from gloam.cli.shared.request import filled
from gloam.cli.shared.values import named, width_height, zeros_or_seed
from gloam.errors import UsageError

HELP = "translate a folder, list or kapture dataset of images, for example from day to night"
KEPT = ("progress.jsonl", "manifest.json", "*.tar")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    add_run_arguments(parser)
    parser.add_argument(
        "--model",
        required=True,
        help="exported translator (.onnx), or a control without a network: none, lab-inversion, gamma[:MEAN] (darkens "
        "to the mean of the night, on 0..1), clahe",
    )
    parser.add_argument(
        "--to",
        metavar="DOMAIN",
        help="of a model of several domains, the one to translate into (default: the file's)",
    )
    parser.add_argument(
        "--like",
        action="append",
        default=[],
        metavar="IMAGE",
        help="of a model that takes the appearance of an example: translate into this image's, or the mean of several; "
        "repeatable, with --appearance",
    )
    parser.add_argument(
        "--appearance", metavar="MODEL", help="--like: the appearance encoder exported from the model's weights"
    )
    parser.add_argument(
        "--noise",
        type=zeros_or_seed,
        metavar="zeros|SEED",
        help="of a model that takes noise: none, or drawn for each image from this seed and its pixels, so that an "
        "image gives the same picture in any batch and under any name (default: zeros)",
    )
    grid = parser.add_argument_group(
        "--grid: one picture instead of a folder",
        "each source beside its translation into every domain of the model, attention masks beneath where --model is a "
        "native checkpoint or the folder of a run; with --like, its translation into the appearance of each example; "
        "or, where SOURCE is a file of weak pairs, for each domain a source, its translation by every method, and "
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
    for name in ("beside", "rows", "cell"):
        if getattr(arguments, name):
            raise UsageError(f"--{name} is of a picture of many; add --grid")
    from gloam.runtime.models.translator import load_translator

    load = partial(
        load_translator,
        arguments.model,
        placement(arguments),
        arguments.to,
        arguments.noise,
        arguments.like,
        arguments.appearance,
    )
    return report_pictures(arguments, load, arguments.format, "translated")


def _grid(arguments: argparse.Namespace) -> Report:
    from gloam.workflows.translation_grid import GridRequest, draw_grid

    for name in ("tar", "contact_sheet", "grow", "max_side"):
        if getattr(arguments, name):
            raise UsageError(f"--{name.replace('_', '-')} is of a folder of pictures; leave it out, or --grid")
    size = arguments.cell or GridRequest.size
    found = draw_grid(filled(GridRequest, arguments, domain=arguments.to, size=size, seed=0))
    return Report(found.to_dict(), found.to_text())
