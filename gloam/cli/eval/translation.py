"""``gloam eval translation``: how night-like translated images are, beside their controls."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gloam.cli.shared.report import Report
from gloam.errors import UsageError

if TYPE_CHECKING:
    from gloam.eval.translation.features import FeatureExtractor

HELP = "FID, KID, PRD, SSIM, SIFT distance and cycle error of translated images, beside their controls"
INCEPTION = "inception"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("real", type=Path, metavar="REAL", help="real images of the target domain: folder or list")
    parser.add_argument("fake", type=Path, metavar="FAKE", help="translated images: folder or list")
    parser.add_argument(
        "--features",
        required=True,
        metavar="MODEL",
        help="an exported embedder that was not trained on the judged places, or 'inception'",
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
    parser.add_argument("--seed", type=int, default=0, help="of subsets, clusterings and drawn pairs")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the features are computed")


def run(arguments: argparse.Namespace) -> Report:
    """Score and print one table."""
    from tqdm import tqdm

    from gloam.eval.translation.images import ImageSet, Resize
    from gloam.eval.translation.scores import Partners, score_translation, table

    if arguments.weights is not None and arguments.features != INCEPTION:
        raise UsageError(f"--weights belongs to --features {INCEPTION}; an exported embedder holds its own")
    if arguments.day_cycle is not None and arguments.day is None:
        raise UsageError("--day-cycle needs --day, the images that the cycle started from")
    controls = [_control(text) for text in arguments.control]
    if arguments.max_side < 0:
        raise UsageError(f"--max-side must be 0 or more, not {arguments.max_side}")
    resize = Resize(None, _size(arguments.size)) if arguments.size else Resize(arguments.max_side or None)

    def optional(name: str, folder: Path | None) -> ImageSet | None:
        return None if folder is None else ImageSet.open(name, folder, resize)

    real = ImageSet.open("real", arguments.real, resize)
    sets = [ImageSet.open(name, path, resize) for name, path in [("fake", arguments.fake), *controls]]
    partners = Partners(
        optional("day", arguments.day),
        optional("target", arguments.target),
        optional("day cycle", arguments.day_cycle),
        optional("real cycle", arguments.real_cycle),
    )
    extractor = _extractor(arguments)
    total = len(real) + sum(map(len, sets))
    with tqdm(total=total, unit="img", disable=not sys.stderr.isatty()) as bar:
        scores = score_translation(real, sets, extractor, partners, seed=arguments.seed, advance=bar.update)
    return Report(scores.to_dict() | {"seed": arguments.seed}, table(scores))


def _extractor(arguments: argparse.Namespace) -> FeatureExtractor:
    if arguments.features == INCEPTION:
        from gloam.errors import require

        require("torch", "fidelity", "compute Inception features")
        from gloam.networks.inception import InceptionFeatures

        return InceptionFeatures(arguments.weights, device=arguments.device)
    from gloam.eval.translation.features import EmbedderFeatures
    from gloam.runtime.backends.placement import Placement
    from gloam.runtime.models.embedder import Embedder

    return EmbedderFeatures(Embedder.load(arguments.features, Placement(arguments.device)))


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
