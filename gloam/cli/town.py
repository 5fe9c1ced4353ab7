"""``gloam town``: render a procedural town as a kapture dataset, or drives through streets as weak pairs."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from gloam.cli.shared.report import Report
from gloam.cli.shared.unread import refuse
from gloam.cli.shared.values import seed
from gloam.errors import UsageError

HELP = "render a procedural town by day, dusk, night and in rain, as a kapture dataset or as weak pairs of domains"
KEPT = ("**/*.png", "**/*.jpg")
PARTS = ("train", "val", "test")
DRIVES = (*PARTS, "pair_distance", "pair_heading")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "output", metavar="OUT", type=Path, help="folder to write; a town that was begun there is finished"
    )
    parser.add_argument("--seed", type=seed, help="of everything in the town (default 7)")
    parser.add_argument(
        "--look",
        type=int,
        help="1 or 2; each renders the same for ever, and the second as cameras see by night (default 1)",
    )
    parser.add_argument(
        "--conditions",
        help="of the queries, separated by commas (default day,dusk,night,night-rain); look 2 has sun, overcast, snow "
        "and rain too",
    )
    parser.add_argument(
        "--domains",
        metavar="LIST",
        help="write weak pairs instead: drives through streets of look 2 under these conditions, separated by commas, "
        "or 'all' for sun, overcast, dusk, snow, rain, night and night-rain",
    )
    for part, default, use in (
        ("train", "101,102,103,104", "to train on"),
        ("val", "201", "held out while training"),
        ("test", "71,83", "to be judged on"),
    ):
        parser.add_argument(
            f"--{part}", metavar="SEEDS", help=f"--domains: streets {use}; 'none' for none (default {default})"
        )
    parser.add_argument(
        "--pair-distance", type=float, metavar="M", help="--domains: metres between the images of a pair (default 3)"
    )
    parser.add_argument(
        "--pair-heading", type=float, metavar="DEG", help="--domains: degrees between their directions (default 15)"
    )
    parser.add_argument(
        "--size",
        metavar="WxH",
        help="image size in pixels; the focal length follows (default 512x384; 256x192 with --domains)",
    )
    parser.add_argument("--length", type=float, default=60.0, help="of the main street, metres")
    parser.add_argument(
        "--spacing",
        type=float,
        help="between views of one lane, metres: of the map 2.5, at least 2; of drives 2 (defaults)",
    )
    parser.add_argument("--queries", type=int, help="query poses per condition (default 24)")
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
    width, height = parse_size(arguments.size or ("256x192" if arguments.domains else "512x384"))
    common = {
        "length": arguments.length,
        "width": width,
        "height": height,
        "focal": 420.0 * width / 512,
        "noise": arguments.noise,
        "motion_blur": arguments.motion_blur,
        "defocus": arguments.defocus,
        **_given(arguments, {"spacing": "spacing"}),
    }
    return _drives(arguments, common) if arguments.domains else _town(arguments, common)


def _town(arguments: argparse.Namespace, common: dict[str, Any]) -> Report:
    from gloam.data.town.config import TownConfig
    from gloam.data.town.render import TownRequest, render_town

    refuse(arguments, DRIVES, "is of weak pairs; give --domains")
    changes = _given(arguments, {"seed": "seed", "look": "look", "queries": "queries"})
    if arguments.conditions is not None:
        changes["conditions"] = _words(arguments.conditions)
    config = TownConfig(depth=arguments.depth, **common, **changes)
    request = TownRequest(arguments.output, config, arguments.workers, arguments.contact_sheet)
    rendered = render_town(request, progress=not arguments.json)
    return Report(rendered.to_dict(), str(rendered))


def _drives(arguments: argparse.Namespace, common: dict[str, Any]) -> Report:
    from gloam.data.town.config import WEATHER
    from gloam.data.town.drives.config import LOOK, DrivesConfig
    from gloam.data.town.drives.write import DrivesRequest, write_drives

    refuse(arguments, ("seed", "conditions", "queries", "depth"), "is not of weak pairs; leave it out with --domains")
    if arguments.look not in (None, LOOK):
        raise UsageError(f"--look {arguments.look}: --domains renders look {LOOK}; leave --look out")
    changes = _given(arguments, {"pair_distance": "distance", "pair_heading": "heading"})
    changes |= {part: _seeds(part, text) for part, text in _given(arguments, {part: part for part in PARTS}).items()}
    domains = WEATHER if arguments.domains == "all" else _words(arguments.domains)
    config = DrivesConfig(domains=domains, **common, **changes)
    request = DrivesRequest(arguments.output, config, arguments.workers, arguments.contact_sheet)
    drives = write_drives(request, progress=not arguments.json)
    return Report(drives.to_dict(), str(drives))


def _given(arguments: argparse.Namespace, names: dict[str, str]) -> dict[str, Any]:
    """Values of options that were given, by the config's names; the config has the defaults."""
    found = {field: getattr(arguments, option) for option, field in names.items()}
    return {field: value for field, value in found.items() if value is not None}


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _seeds(part: str, text: str) -> tuple[int, ...]:
    try:
        return () if text == "none" else tuple(seed(word) for word in _words(text))
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"--{part}: {error}") from None
