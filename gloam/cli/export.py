"""``gloam export``: weights to a self-describing ONNX file."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.report import Report
from gloam.errors import UsageError

HELP = "export an embedder's weights to one ONNX file with its model card and self-test"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("weights", type=Path, nargs="?", help="native .safetensors, or a .pth/.pt state dict")
    parser.add_argument("-o", "--output", type=Path, required=True, help=".onnx file to write")
    parser.add_argument("--network", help="network name, for weights that do not say it themselves")
    parser.add_argument("--random-init", type=int, metavar="SEED", help="random weights instead of a file: a control")
    parser.add_argument("--profile", choices=("dynamic", "fixed"), default="dynamic", help="native or padded sizes")
    parser.add_argument(
        "--sides",
        type=_integers,
        default=(256, 512, 768, 1024),
        help="fixed profile: padded heights and widths, pixels",
    )
    parser.add_argument("--max-batch", type=int, default=64, help="largest batch the file accepts")
    parser.add_argument("--padding", choices=("symmetric", "tf"), help="MobileNetV2: padding of layers of stride 2")
    parser.add_argument("--p", type=float, default=3.0, help="GeM's power, for weights that do not hold one")
    parser.add_argument("--mean", type=_floats, help="normalisation mean on [0, 1], three numbers (default: ImageNet)")
    parser.add_argument("--std", type=_floats, help="normalisation std on [0, 1], three numbers (default: ImageNet)")
    parser.add_argument("--photometric", choices=("none", "clahe"), default="none", help="normalisation of the light")
    parser.add_argument("--licence", default="unknown", help="licence of the weights, kept in the card")


def run(arguments: argparse.Namespace) -> Report:
    """Load, export, and state the identities."""
    if (arguments.weights is None) == (arguments.random_init is None):
        raise UsageError("give either a weights file or --random-init SEED with --network NAME")
    import torch

    from gloam.artifact import Photometric
    from gloam.export.onnx import export_embedder
    from gloam.files import sha256_file
    from gloam.padding import PaddingProfile
    from gloam.training.networks.checkpoints import load_checkpoint
    from gloam.training.networks.embedders import create_embedder

    own = {"p": arguments.p} if arguments.network else {}
    chosen = {"padding": arguments.padding, "mean": arguments.mean, "std": arguments.std}
    options = own | {key: value for key, value in chosen.items() if value is not None}
    notes: list[str] = []
    if arguments.weights is None:
        if arguments.network is None:
            raise UsageError("--random-init needs --network NAME")
        torch.manual_seed(arguments.random_init)
        model = create_embedder(arguments.network, **options)
        provenance = {
            "recipe": f"random weights, seed {arguments.random_init}",
            "data": "none",
            "licence": "Apache-2.0",
        }
    else:
        checkpoint = load_checkpoint(arguments.weights, arguments.network, **options)
        model, provenance = checkpoint.model, checkpoint.provenance
        if arguments.licence != "unknown":
            provenance = {**provenance, "licence": arguments.licence}
        if checkpoint.dropped:
            notes.append(f"left out (no part of a descriptor): {', '.join(checkpoint.dropped)}")
        if checkpoint.defaulted:
            notes.append(f"not in the file, initial value kept: {', '.join(checkpoint.defaulted)}")
    batch = (1, arguments.max_batch)
    profile = (
        PaddingProfile.fixed(arguments.sides, arguments.sides, batch)
        if arguments.profile == "fixed"
        else PaddingProfile.dynamic(batch)
    )
    card = export_embedder(
        model,
        arguments.output,
        profile=profile,
        photometric=Photometric(arguments.photometric),
        provenance=provenance,
    )
    fingerprint = card.fingerprint(sha256_file(arguments.output))
    data = {
        "model": str(arguments.output),
        "name": card.name,
        "dimension": card.dimension,
        "profile": card.profile.kind,
        "space": card.space(),
        "fingerprint": fingerprint,
        "notes": notes,
    }
    text = "\n".join(
        [
            f"{arguments.output}: {card.name}, {card.dimension}-D, {card.profile.kind} profile, {card.precision}",
            f"space       {card.space()}",
            f"fingerprint {fingerprint}",
            *notes,
            f"next: gloam check {arguments.output}",
        ]
    )
    return Report(data, text)


def _integers(text: str) -> tuple[int, ...]:
    return tuple(int(item) for item in text.split(","))


def _floats(text: str) -> tuple[float, ...]:
    values = tuple(float(item) for item in text.split(","))
    if len(values) != 3:
        raise argparse.ArgumentTypeError("three numbers separated by commas are needed, one per channel")
    return values
