"""``gloam adopt``: anyone's exported ONNX embedder to one with a model card."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.report import Report
from gloam.cli.shared.request import filled
from gloam.cli.shared.values import triple, width_height
from gloam.heartbeat import to_stderr

HELP = "give another program's ONNX embedder a model card, so that all of gloam runs it; its mistakes are named"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("model", type=Path, metavar="FILE", help=".onnx file of one image input; left as it is")
    parser.add_argument("-o", "--output", type=Path, required=True, help=".onnx file to write")
    parser.add_argument("--name", help="of the model (default: the file's)")
    parser.add_argument("--licence", default="unknown", help="licence of the weights, kept in the card")
    parser.add_argument(
        "--vector", metavar="NAME", help="output of the graph that is the descriptor, where it has several"
    )
    fed = parser.add_argument_group(
        "what the graph takes", "what it does not tell itself must be stated, or proven by references"
    )
    fed.add_argument("--layout", choices=("nchw", "nhwc"), help="channels first or last (default: found by running it)")
    fed.add_argument("--channels", choices=("rgb", "bgr"), help="order of the channels")
    fed.add_argument(
        "--range",
        type=int,
        choices=(1, 255),
        help="largest value of a pixel before --mean is taken off; 255 alone means that nothing is taken off",
    )
    fed.add_argument("--mean", type=triple, metavar="R,G,B", help="normalisation mean of red, green and blue")
    fed.add_argument("--std", type=triple, metavar="R,G,B", help="normalisation std, in the same range")
    fed.add_argument(
        "--reference",
        action="append",
        nargs=2,
        type=Path,
        default=[],
        metavar=("IMAGE", "VECTOR"),
        help="a photograph, and the descriptor (.npy) that the file's own program made of it: finds what is not "
        "stated, and refuses what is stated wrongly; repeatable",
    )
    size = parser.add_argument_group("sizes", "kept in the card, for every caller")
    exact = size.add_mutually_exclusive_group()
    exact.add_argument(
        "--max-side",
        type=int,
        help="the longer side in pixels that larger images are reduced to; 0 for native sizes (default: 1024)",
    )
    exact.add_argument(
        "--stretch",
        type=width_height,
        metavar="WxH",
        help="the exact width and height in pixels that images are brought to; needed where the graph takes one size",
    )
    size.add_argument(
        "--filter",
        choices=("area", "lanczos", "bilinear", "bicubic"),
        help="of the resizing (default: area with --stretch, else lanczos)",
    )


def run(arguments: argparse.Namespace) -> Report:
    """Adopt, and state what was found."""
    from gloam.export.adopt.adopt import AdoptRequest, adopt

    pairs = tuple((image, vector) for image, vector in arguments.reference)
    adopted = adopt(filled(AdoptRequest, arguments, reference=pairs), to_stderr)
    return Report(adopted.to_dict(), adopted.to_text())
