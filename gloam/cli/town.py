"""``gloam town``: render a procedural town as a kapture dataset."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from gloam.cli.shared.report import Report
from gloam.cli.shared.values import seed
from gloam.errors import UsageError

HELP = "render a procedural town by day, dusk, night and in rain, as a kapture dataset"
KEPT = ("**/*.png", "**/*.jpg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "output", metavar="OUT", type=Path, help="folder to write; a town that was begun there is finished"
    )
    parser.add_argument("--seed", type=seed, default=7, help="of everything in the town")
    parser.add_argument(
        "--look",
        type=int,
        default=1,
        help="1 or 2; each renders the same for ever, and the second as cameras see by night (default 1)",
    )
    parser.add_argument("--conditions", default="day,dusk,night,night-rain", help="of the queries, separated by commas")
    parser.add_argument(
        "--size", default="512x384", metavar="WxH", help="image size in pixels; the focal length follows"
    )
    parser.add_argument("--length", type=float, default=60.0, help="of the main street, metres")
    parser.add_argument(
        "--spacing", type=float, default=2.5, help="between mapping views of one lane, metres, at least 2"
    )
    parser.add_argument("--queries", type=int, default=24, help="query poses per condition")
    parser.add_argument("--noise", type=float, default=1.0, help="look 2: factor on the camera's noise (default 1)")
    parser.add_argument("--motion-blur", type=float, default=0.0, help="look 2: streaks by night, pixels (default 0)")
    parser.add_argument("--defocus", type=float, default=0.0, help="look 2: diameter of blur, pixels (default 0)")
    parser.add_argument("--workers", type=int, default=0, help="rendering processes; 0 is one per core")
    parser.add_argument("--depth", action="store_true", help="also write depth maps, float32 metres, as .npy")
    parser.add_argument("--contact-sheet", type=Path, metavar="PNG", help="also write one picture of the town")


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of ``512x384``.

    Raises:
        UsageError: the text is not of that form.
    """
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise UsageError(f"--size {text!r}: must be WIDTHxHEIGHT in pixels, such as 512x384")
    return int(match[1]), int(match[2])


def run(arguments: argparse.Namespace) -> Report:
    """Render, and say what was written."""
    from gloam.data.town.config import TownConfig
    from gloam.data.town.render import TownRequest, render_town

    width, height = parse_size(arguments.size)
    config = TownConfig(
        seed=arguments.seed,
        length=arguments.length,
        width=width,
        height=height,
        focal=420.0 * width / 512,
        spacing=arguments.spacing,
        queries=arguments.queries,
        conditions=tuple(part.strip() for part in arguments.conditions.split(",") if part.strip()),
        depth=arguments.depth,
        look=arguments.look,
        noise=arguments.noise,
        motion_blur=arguments.motion_blur,
        defocus=arguments.defocus,
    )
    rendered = render_town(TownRequest(arguments.output, config, arguments.workers, arguments.contact_sheet))
    return Report(rendered.to_dict(), str(rendered))
