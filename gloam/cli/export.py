"""``gloam export``: weights to a self-describing ONNX file."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.report import Report
from gloam.cli.shared.request import filled
from gloam.cli.shared.values import key_value, width_height
from gloam.export.precision import PRECISIONS
from gloam.heartbeat import to_stderr

HELP = (
    "export the weights of an embedder, translator, edge detector, local features or matcher to one self-describing "
    "ONNX file"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument(
        "weights",
        type=Path,
        nargs="?",
        help="native .safetensors, the .pth/.pt state dict of an embedder or of public local features or matchers, or "
        "with --precision, --translate or --resize an exported float32 .onnx",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help=".onnx file to write")
    parser.add_argument(
        "--triton",
        action="store_true",
        help="make -o a model's folder in a repository of NVIDIA Triton: config.pbtxt and 1/model.onnx; an exported "
        ".onnx of any kind is copied as it is",
    )
    parser.add_argument("--network", help="network name, for weights that do not say it themselves")
    parser.add_argument("--random-init", type=int, metavar="SEED", help="random weights instead of a file: a control")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        type=key_value,
        metavar="KEY=VALUE",
        help="with --random-init: option of the network, e.g. width=32; repeatable",
    )
    parser.add_argument("--profile", choices=("dynamic", "fixed"), default="dynamic", help="native or padded sizes")
    parser.add_argument(
        "--sides",
        type=_integers,
        help="fixed profile: padded heights and widths, pixels (default: 256,512,768,1024; of a vision transformer the "
        "multiples of its patch below them)",
    )
    parser.add_argument("--max-batch", type=int, default=64, help="largest batch the file accepts")
    parser.add_argument("--padding", choices=("symmetric", "tf"), help="MobileNetV2: padding of layers of stride 2")
    parser.add_argument("--p", type=float, help="GeM's power, for weights that do not hold one (default: 3)")
    parser.add_argument("--mean", type=_floats, help="normalisation mean on [0, 1], three numbers (default: ImageNet)")
    parser.add_argument("--std", type=_floats, help="normalisation std on [0, 1], three numbers (default: ImageNet)")
    parser.add_argument(
        "--photometric",
        choices=("none", "clahe"),
        default="none",
        help="embedders and local features: normalisation of the light by whoever calls the file",
    )
    parser.add_argument(
        "--ensemble",
        action="append",
        type=Path,
        metavar="WEIGHTS",
        help="another native embedder whose descriptor is concatenated; repeatable",
    )
    parser.add_argument("--bake-clahe", action="store_true", help="embedders: CLAHE (clip 1, 8x8) inside the graph")
    parser.add_argument(
        "--scales", type=_numbers, help="embedders: image scales to average, inside the graph, e.g. 1,0.7071,0.5"
    )
    parser.add_argument(
        "--whitening", type=Path, metavar="FILE", help="embedders: learned whitening to apply inside the graph"
    )
    parser.add_argument(
        "--translate",
        type=Path,
        metavar="MODEL",
        help="embedders: every image passes this translator first, inside the graph; an exported float32 .onnx, or "
        "native weights, which pad images to the next multiple of 256",
    )
    parser.add_argument(
        "--domain",
        metavar="NAME",
        help="translators of several domains, exported or given with --translate: the one to translate into (default: "
        "the network's own choice, the last unless its training said otherwise)",
    )
    parser.add_argument(
        "--appearance",
        action="store_true",
        help="mduit, adain: the encoder that reads the appearance off an example image, instead of the translator",
    )
    parser.add_argument(
        "--resize",
        type=int,
        metavar="MAX_SIDE",
        help="embedders, dynamic profile: reduce larger images to this longer side inside the graph, as decoding would",
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--max-side",
        type=int,
        help="embedders and local features: the longer side in pixels that every caller reduces larger images to, kept "
        "in the card; 0 for native sizes (default: 1024, or the largest side of a fixed profile that is smaller)",
    )
    size.add_argument(
        "--stretch",
        type=width_height,
        metavar="WxH",
        help="embedders and local features: instead, the exact width and height in pixels that callers bring images to",
    )
    parser.add_argument(
        "--local-features",
        action="store_true",
        help="HOW: local features and their attention at seven scales, for ASMK, instead of one descriptor; DINOv2: "
        "patch tokens",
    )
    parser.add_argument(
        "--keypoints", type=int, metavar="K", help="local features: the most keypoints of an image (default: 2048)"
    )
    parser.add_argument(
        "--threshold",
        type=float,
        help="local features: least score of a keypoint; 0 for the strongest, whatever they score (default: the "
        "network's own)",
    )
    parser.add_argument(
        "--min-scale",
        type=float,
        metavar="S",
        help="R2D2: least scale at which an image is looked at, as its authors' program has it (default: 0.25)",
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", *PRECISIONS),
        default="fp32",
        help="of the file: fp16, bf16 (for TensorRT engines) or int8 where that is safe, float32 elsewhere; the "
        "release check decides whether it is written",
    )
    parser.add_argument(
        "--calibrate",
        type=Path,
        metavar="IMAGES",
        help="with --precision: photographs of the kind the model will see; every second is calibrated on (int8), the "
        "others are what the release check looks at",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        help="with --precision: largest loss, 1 - cosine of a descriptor (default: 1e-3) or absolute difference of "
        "a pixel in [-1, 1] (default: fp16 1e-2, bf16 and int8 1e-1)",
    )
    parser.add_argument(
        "--accept-loss", action="store_true", help="with --precision: write the file even where it loses more"
    )
    parser.add_argument("--licence", default="unknown", help="licence of the weights, kept in the card")


def run(arguments: argparse.Namespace) -> Report:
    """Export, and state the identities."""
    from gloam.export.weights import ExportRequest, export_weights

    exported = export_weights(filled(ExportRequest, arguments, options=dict(arguments.option)), to_stderr)
    return Report(exported.to_dict(), exported.to_text())


def _integers(text: str) -> tuple[int, ...]:
    return tuple(int(item) for item in text.split(","))


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(item) for item in text.split(","))


def _floats(text: str) -> tuple[float, ...]:
    values = _numbers(text)
    if len(values) != 3:
        raise argparse.ArgumentTypeError("three numbers separated by commas are needed, one per channel")
    return values
