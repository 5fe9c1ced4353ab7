"""``gloam train vocabulary``: AnyLoc's centres, learned from a map's images."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.report import Report
from gloam.cli.shared.request import filled
from gloam.cli.shared.values import seed
from gloam.errors import require

HELP = "AnyLoc's vocabulary of a map: DINOv2 as it is, with centres of the map's own patches"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.description = (
        "learn AnyLoc's centres from a map's images, and write DINOv2 up to a block with VLAD behind it"
    )
    parser.add_argument("weights", type=Path, metavar="DINOV2", help=".safetensors of `gloam import`")
    parser.add_argument("source", type=Path, metavar="SOURCE", help="the map's images: folder, text list or kapture")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".safetensors to write")
    parser.add_argument("--root", type=Path, help="folder that a list's names are relative to (default: the list's)")
    parser.add_argument(
        "--facet", choices=("token", "query", "key", "value"), default="value", help="of the patches, what is read"
    )
    parser.add_argument("--block", type=int, metavar="N", help="block that is read, from 0 (default: 9; 20 of ViT-L)")
    parser.add_argument("--clusters", type=int, default=32, metavar="K", help="centres")
    parser.add_argument(
        "--soft",
        dest="assignment",
        action="store_const",
        const="soft",
        default="hard",
        help="a patch belongs to all centres by the softmax of its cosines, not to the nearest alone",
    )
    parser.add_argument("--samples", type=int, default=1000, metavar="N", help="most images learned from, drawn")
    parser.add_argument("--cells", type=int, default=100, metavar="N", help="most patches of each image, drawn")
    parser.add_argument("--seed", type=seed, default=0, help="of the draws and of k-means")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where DINOv2 runs")


def run(arguments: argparse.Namespace) -> Report:
    """Learn and write."""
    require("torch", "train", "run DINOv2")
    require("safetensors", "train", "read and write a checkpoint")
    require("faiss", "cpu", "learn a vocabulary")
    from gloam.training.embedders.vocabulary import VocabularyRequest, learn_vocabulary

    learned = learn_vocabulary(filled(VocabularyRequest, arguments))
    return Report(learned.to_dict(), str(learned))
