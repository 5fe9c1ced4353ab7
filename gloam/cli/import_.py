"""``gloam import``: a public checkpoint to gloam's own format."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from gloam.cli.report import Report
from gloam.errors import UsageError, require

HELP = "convert a public translator or edge detector checkpoint to gloam's own format"
FAMILIES = ("auto", "resnet", "unet", "cyeda", "hed", "rcf", "todaygan", "drit")  # equal to imports.FORMATS, by a test


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("weights", type=Path, help=".pth, .pt, .pytorch or .safetensors file")
    parser.add_argument("-o", "--output", type=Path, required=True, help=".safetensors file to write")
    parser.add_argument(
        "--as",
        dest="family",
        choices=FAMILIES,
        default="auto",
        help="what the file holds: resnet (CycleGAN, CUT), unet (pix2pix), cyeda, hed, rcf, todaygan, drit; auto for "
        "gandtr's files, which say it themselves",
    )
    parser.add_argument(
        "--decoder", type=Path, help="todaygan: decoder of the target domain (released night-to-day: 2)"
    )
    parser.add_argument("--direction", choices=("a2b", "b2a"), default="a2b", help="drit: which way to translate")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        type=_option,
        metavar="KEY=VALUE",
        help="option of the network in place of what the file shows, e.g. padding=replicate, input_scale=1; repeatable",
    )
    parser.add_argument("--licence", default="unknown", help="licence of the weights, kept in the checkpoint")


def run(arguments: argparse.Namespace) -> Report:
    """Convert and list what was decided and left out."""
    require("torch", "train", "convert a checkpoint")
    require("safetensors", "train", "write a checkpoint")
    if arguments.output.suffix != ".safetensors":
        raise UsageError(f"{arguments.output}: gloam's checkpoints end in .safetensors")
    from gloam.training.networks.checkpoints import checkpoint_kind, save_checkpoint
    from gloam.training.networks.imports import import_network

    found = import_network(
        arguments.weights,
        arguments.family,
        decoder=arguments.decoder,
        direction=arguments.direction,
        options=dict(arguments.option),
        licence=arguments.licence,
    )
    provenance = save_checkpoint(arguments.output, found.model, found.provenance)
    parameters = sum(parameter.numel() for parameter in found.model.parameters())
    data = {
        "checkpoint": str(arguments.output),
        "kind": checkpoint_kind(arguments.output),
        "network": found.model.name,
        "options": found.model.options,
        "parameters": parameters,
        "dropped": found.dropped,
        "notes": found.notes,
        "source_sha256": provenance["source_sha256"],
        "weights_sha256": provenance["weights_sha256"],
    }
    said = ", ".join(f"{key}={value}" for key, value in found.model.options.items())
    lines = [
        f"{arguments.output}: {found.model.name} ({said}), {parameters:,} parameters",
        f"source  {provenance['source_sha256']}",
        f"weights {provenance['weights_sha256']}",
    ]
    if found.dropped:
        lines.append(f"left out (no use): {', '.join(found.dropped)}")
    lines += [f"note: {note}" for note in found.notes]
    lines.append(f"next: gloam export {arguments.output} -o {arguments.output.with_suffix('.onnx')}")
    return Report(data, "\n".join(lines))


def _option(text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not key or not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
