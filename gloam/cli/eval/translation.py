"""``gloam eval translation``: how night-like translated images are, beside their controls."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.report import Report
from gloam.cli.shared.request import filled
from gloam.cli.shared.values import seed
from gloam.errors import UsageError

HELP = "FID, KID, MMD, PRD, SSIM, SIFT distance and cycle error of translated images, beside their controls"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("real", type=Path, metavar="REAL", help="real images of the target domain: folder or list")
    parser.add_argument("fake", type=Path, metavar="FAKE", help="translated images: folder or list")
    parser.add_argument(
        "--features",
        required=True,
        metavar="MODEL",
        help="an exported embedder that was not trained on the judged places; a DINOv2 checkpoint (.safetensors), for "
        "FD-DINOv2; or 'inception'",
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help="Inception weights, instead of a download")
    parser.add_argument(
        "--control",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="another set for the same table, e.g. the untouched day images; repeatable",
    )
    pairs = parser.add_argument_group("pairs, matched by name without suffix")
    pairs.add_argument("--day", type=Path, metavar="FOLDER", help="what FAKE was made of: adds SSIM and SIFT distance")
    pairs.add_argument(
        "--target", type=Path, metavar="FOLDER", help="real night photographs of FAKE's places: the same against those"
    )
    pairs.add_argument("--day-cycle", type=Path, metavar="FOLDER", help="--day after day to night to day: cycle L1")
    pairs.add_argument("--real-cycle", type=Path, metavar="FOLDER", help="REAL after night to day to night: cycle L1")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--max-side", type=int, default=512, help="longer side in pixels, 0 keeps native sizes")
    size.add_argument("--size", metavar="WxH", help="stretch every image to exactly this; pairs need equal sizes")
    parser.add_argument("--seed", type=seed, default=0, help="of subsets, clusterings and drawn pairs")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the features are computed")


def run(arguments: argparse.Namespace) -> Report:
    """Score and print one table."""
    from gloam.workflows.evaluation.translation import TranslationOptions, evaluate_translation

    controls = [_control(text) for text in arguments.control]
    size = _size(arguments.size) if arguments.size else None
    found = evaluate_translation(filled(TranslationOptions, arguments, controls=controls, size=size))
    return Report(found.to_dict(), found.to_text())


def _control(text: str) -> tuple[str, Path]:
    name, separator, folder = text.partition("=")
    if not (name and separator and folder):
        raise UsageError(f"--control is NAME=FOLDER, not '{text}'")
    return name, Path(folder)


def _size(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdigit() and int(side) > 0 for side in sides):
        raise UsageError(f"--size is WIDTHxHEIGHT in pixels, not '{text}'")
    return int(sides[0]), int(sides[1])
