"""``gloam eval domains``: translators between many domains, domain by domain, beside the untouched sources."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.report import Report
from gloam.cli.shared.request import filled
from gloam.cli.shared.values import named, seed, width_height, zeros_or_seed

HELP = "FID, MMD and SIFT distance of translators between many domains, by domain, beside the untouched sources"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument(
        "pairs",
        type=Path,
        metavar="PAIRS",
        help="file of weak pairs that `gloam pair` writes (or a .csv), or a folder with a folder for each domain, in "
        "which images of one name show one place",
    )
    parser.add_argument(
        "--method",
        action="append",
        default=[],
        type=named,
        metavar="NAME=MODEL",
        help="a translator: native .safetensors, the folder of a run, an exported .onnx, or a formula as a control, "
        "e.g. clahe; repeatable",
    )
    parser.add_argument(
        "--features",
        required=True,
        metavar="MODEL",
        help="an exported embedder that was not trained on the judged places; a DINOv2 checkpoint (.safetensors), for "
        "FD-DINOv2; or 'inception'",
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help="Inception weights, instead of a download")
    parser.add_argument("--domains", nargs="+", default=[], metavar="DOMAIN", help="judge these alone (default: all)")
    parser.add_argument(
        "--from",
        dest="origins",
        nargs="+",
        default=[],
        metavar="DOMAIN",
        help="translate images of these alone (default: every other domain that a pair has)",
    )
    parser.add_argument(
        "--part", choices=("test", "train", "all"), default="test", help="pairs of this part of the file"
    )
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="what a pair file's names are relative to")
    parser.add_argument("--limit", type=int, metavar="N", help="most pairs, and most real images, of a domain")
    parser.add_argument(
        "--size", type=width_height, metavar="WxH", default=(256, 192), help="stretch every image to this first, pixels"
    )
    parser.add_argument(
        "--noise",
        type=zeros_or_seed,
        metavar="zeros|SEED",
        help="models that take noise: none, or drawn from this seed (default: zeros)",
    )
    parser.add_argument("--seed", type=seed, default=0, help="of what --limit draws")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where everything is computed")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="also write domains.csv and domains.json into it"
    )


def run(arguments: argparse.Namespace) -> Report:
    """Score and print one table."""
    from gloam.workflows.evaluation.domains import DomainOptions, evaluate_domains

    part = None if arguments.part == "all" else arguments.part
    found = evaluate_domains(filled(DomainOptions, arguments, methods=arguments.method, part=part, untouched=True))
    return Report(found.to_dict(), found.to_text())
