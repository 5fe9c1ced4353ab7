"""``gloam import``: a public checkpoint to gloam's own format."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gloam.cli.shared.report import Report
from gloam.cli.shared.values import key_value
from gloam.errors import IncompatibleError, UsageError, require

HELP = "convert a public embedder, translator or edge detector checkpoint, or a whitening, to gloam's own format"
# Equal to imports.FORMATS, by a test.
FAMILIES = (
    *("auto", "resnet", "unet", "cyeda", "hed", "rcf", "todaygan", "drit"),
    *("cirtorch", "how", "netvlad", "ciconv"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("weights", type=Path, help=".pth, .pt, .tar, .pytorch, .mat, .safetensors or *_lw.pkl file")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help=".safetensors file to write; .npz for a whitening"
    )
    parser.add_argument(
        "--as",
        dest="family",
        choices=FAMILIES,
        default="auto",
        help="what the file holds: resnet (CycleGAN, CUT), unet (pix2pix), cyeda, hed, rcf, todaygan, drit, or an "
        "embedder: cirtorch, how, netvlad, ciconv; auto for gandtr's files and embedders, which say it themselves",
    )
    parser.add_argument(
        "--decoder", type=Path, help="todaygan: decoder of the target domain (released night-to-day: 2)"
    )
    parser.add_argument("--direction", choices=("a2b", "b2a"), default="a2b", help="drit: which way to translate")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        type=key_value,
        metavar="KEY=VALUE",
        help="option of the network in place of what the file shows, e.g. padding=replicate, input_scale=1; repeatable",
    )
    parser.add_argument(
        "--whitening", type=Path, metavar="FILE", help="embedders: its whitening (*_lw.pkl), written beside as .npz"
    )
    parser.add_argument("--licence", default="unknown", help="licence of the weights, kept in the checkpoint")


def run(arguments: argparse.Namespace) -> Report:
    """Convert and list what was decided and left out."""
    require("torch", "train", "convert a checkpoint")
    require("safetensors", "train", "write a checkpoint")
    if arguments.output.suffix == ".npz":
        return _import_whitening(arguments)
    if arguments.output.suffix != ".safetensors":
        raise UsageError(f"{arguments.output}: gloam's checkpoints end in .safetensors, its whitenings in .npz")
    from gloam.networks.checkpoints import checkpoint_kind, save_checkpoint
    from gloam.networks.foreign.read import import_network

    found = import_network(
        arguments.weights,
        arguments.family,
        decoder=arguments.decoder,
        direction=arguments.direction,
        options=dict(arguments.option),
        licence=arguments.licence,
    )
    whitenings = dict(found.whitenings)
    if arguments.whitening is not None:
        whitenings["lw"] = _whitening_for(found.model, arguments.whitening)
    provenance = save_checkpoint(arguments.output, found.model, found.provenance)
    written = [
        str(whitening.save(arguments.output.with_name(f"{arguments.output.stem}.{word}.npz")))
        for word, whitening in whitenings.items()
    ]
    parameters = sum(parameter.numel() for parameter in found.model.parameters())
    data = {
        "checkpoint": str(arguments.output),
        "kind": checkpoint_kind(arguments.output),
        "network": found.model.name,
        "options": found.model.options,
        "parameters": parameters,
        "dropped": found.dropped,
        "notes": found.notes,
        "whitenings": written,
        "source_sha256": provenance["source_sha256"],
        "weights_sha256": provenance["weights_sha256"],
    }
    said = ", ".join(f"{key}={value}" for key, value in found.model.options.items())
    lines = [
        f"{arguments.output}: {found.model.name}{f' ({said})' if said else ''}, {parameters:,} parameters",
        f"source  {provenance['source_sha256']}",
        f"weights {provenance['weights_sha256']}",
    ]
    if found.dropped:
        lines.append(f"left out (no use): {', '.join(found.dropped)}")
    lines += [f"note: {note}" for note in found.notes]
    lines += [f"whitening {path}" for path in written]
    following = f"next: gloam export {arguments.output} -o {arguments.output.with_suffix('.onnx')}"
    if "photometric" in found.provenance:
        following += " --photometric clahe"
    if written:  # learned from descriptors of several scales, as the papers evaluate
        chosen = next((path for path in written if path.endswith("-ms.npz")), written[-1])
        following += f" --scales 1,0.70710678,0.5 --whitening {chosen}"
    lines.append(following)
    return Report(data, "\n".join(lines))


def _import_whitening(arguments: argparse.Namespace) -> Report:
    from gloam.networks.foreign.embedders import load_whitening

    whitening = load_whitening(arguments.weights)
    whitening.save(arguments.output)
    data = {
        "whitening": str(arguments.output),
        "input_dimension": whitening.input_dimension,
        "dimension": whitening.dimension,
        "sha256": whitening.sha256,
    }
    text = f"{arguments.output}: whitening of {whitening.input_dimension} to {whitening.dimension} dimensions"
    return Report(data, f"{text}\nsha256 {whitening.sha256}")


def _whitening_for(model: Any, path: Path) -> Any:
    from gloam.networks.foreign.embedders import load_whitening

    dimension = getattr(model, "dimension", None)
    if dimension is None:
        raise UsageError(f"--whitening is for embedders, but the weights are of {model.name}")
    whitening = load_whitening(path)
    if whitening.input_dimension != dimension:
        raise IncompatibleError(
            f"{path}: takes descriptors of {whitening.input_dimension} dimensions, but {model.name} gives {dimension}; "
            "take the whitening that was learned with these weights"
        )
    return whitening
