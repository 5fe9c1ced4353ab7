"""``gloam data``: public localization benchmarks: checked, and made alike from the town."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.report import Report
from gloam.cli.shared.values import seed

HELP = "check a public localization benchmark, or make a look-alike of one from the town"
NAMES = ("aachen-v1.1", "robotcar-v1", "robotcar-v2")
KEPT = ("set/**/*.png", "set/**/*.jpg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the two sub-verbs."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = actions.add_parser(
        "check", help="what is there, what is missing and where it is from, what is wrong; exit code 1 if so"
    )
    check.add_argument("name", choices=("auto", *NAMES), help="benchmark; auto tells it from the folder")
    check.add_argument("path", type=Path, help="its folder, as kapture's downloader or as its authors lay it")
    check.set_defaults(run=run_check)
    alike = actions.add_parser(
        "look-alike", help="render a benchmark's look-alike: its names, counts, cameras and rigs, and hidden true poses"
    )
    alike.add_argument("name", choices=NAMES, help="benchmark")
    alike.add_argument(
        "-o", "--output", type=Path, required=True, help="folder for set/ and truth/; the same command finishes it"
    )
    alike.add_argument("--size", choices=("toy", "real"), default="toy", help="how many images (default toy)")
    alike.add_argument("--layout", choices=("kapture", "original"), default="kapture", help="form (default kapture)")
    alike.add_argument(
        "--picture",
        type=int,
        metavar="PX",
        help="longer side of the largest image (default: 240 and 192 for toy Aachen and RobotCar, 160 for real)",
    )
    alike.add_argument("--no-images", action="store_true", help="write the lists alone")
    alike.add_argument("--seed", type=seed, default=7, help="of the town (default 7)")
    alike.add_argument("--workers", type=int, default=0, help="rendering processes; 0 is one per core")
    alike.set_defaults(run=run_look_alike, kept=KEPT)


def run_check(arguments: argparse.Namespace) -> Report:
    """Print what was found."""
    from gloam.data.localization_sets.check import check_localization_set
    from gloam.heartbeat import to_stderr

    found = check_localization_set(arguments.name, arguments.path, say=to_stderr)
    return Report(found.to_dict(), str(found), exit_code=int(not found.passed))


def run_look_alike(arguments: argparse.Namespace) -> Report:
    """Render, or finish what was begun."""
    from gloam.data.localization_sets.look_alike import write_look_alike
    from gloam.heartbeat import to_stderr

    made = write_look_alike(
        arguments.output,
        arguments.name,
        arguments.size,
        layout=arguments.layout,
        picture=arguments.picture,
        images=not arguments.no_images,
        seed=arguments.seed,
        workers=arguments.workers,
        say=to_stderr,
    )
    return Report(made.to_dict(), str(made))
