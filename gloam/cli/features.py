"""``gloam features``: local features of a kapture dataset by an exported model."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.backend_options import add_backend, placement
from gloam.cli.shared.report import Report
from gloam.cli.shared.request import filled

HELP = "extract local features of a kapture dataset by an exported model, into the dataset or hloc's file"
KEPT = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("dataset", type=Path, help="kapture dataset with images")
    parser.add_argument(
        "--model", type=Path, required=True, help="of keypoints and descriptors: .onnx or engine folder"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        help="kapture dataset to write into (default: the one that is read), or hloc's .h5 file; the same command "
        "resumes: images that changed are extracted again, failed ones tried again",
    )
    parser.add_argument("--format", choices=("kapture", "hloc"), help="of the files (default: by the output's name)")
    parser.add_argument("--feature-type", help="kapture's name for these features (default: the network's name)")
    parser.add_argument(
        "--max-keypoints", type=int, help="strongest kept per image (default: all that the model gives)"
    )
    parser.add_argument("--photometric", choices=("none", "clahe"), help="of the light, instead of the model's own")
    parser.add_argument(
        "--pixel-origin",
        type=float,
        choices=(0.0, 0.5),
        help="where the intrinsics have the centre of the first pixel, 0 (kapture, OpenCV) or 0.5 (COLMAP); by default "
        "told from principal points in the middle of an image, else 0",
    )
    parser.add_argument("--workers", type=int, help="threads that read images (default: all cores)")
    add_backend(parser)


def run(arguments: argparse.Namespace) -> Report:
    """Extract, and say how many."""
    from gloam.runtime.localization.features.extraction import FeaturesRequest, extract_features

    done = extract_features(filled(FeaturesRequest, arguments, placement=placement(arguments)))
    return Report(done.to_dict(), str(done))
