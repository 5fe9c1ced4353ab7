"""``gloam export``: weights to a self-describing ONNX file."""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gloam.cli.shared.export_report import export_report
from gloam.cli.shared.report import Report
from gloam.cli.shared.values import key_value
from gloam.errors import UsageError

if TYPE_CHECKING:
    from gloam.export.precision.convert import Conversion
    from gloam.model_card import ModelCard, Photometric
    from gloam.padding import PaddingProfile

HELP = "export the weights of an embedder, translator or edge detector to one ONNX file with its card and self-test"
PRECISIONS = ("fp16", "bf16", "int8")
PRECISION_ONLY = ("calibrate", "tolerance", "accept_loss")
EMBEDDERS_ONLY = (
    "padding",
    "p",
    "mean",
    "std",
    "photometric",
    "ensemble",
    "scales",
    "whitening",
    "bake_clahe",
    "translate",
    "resize",
    "local_features",
)
FRONT = ("translate", "resize")
UNSET = (None, "none", False)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument(
        "weights",
        type=Path,
        nargs="?",
        help="native .safetensors, an embedder's .pth/.pt state dict, or with --precision, --translate or --resize an "
        "exported float32 .onnx",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help=".onnx file to write")
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
        default=(256, 512, 768, 1024),
        help="fixed profile: padded heights and widths, pixels",
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
        help="embedders: normalisation of the light by whoever calls the file",
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
        "--resize",
        type=int,
        metavar="MAX_SIDE",
        help="embedders, dynamic profile: reduce larger images to this longer side inside the graph, as decoding would",
    )
    parser.add_argument(
        "--local-features",
        action="store_true",
        help="HOW: local features and their attention at seven scales, for ASMK, instead of one descriptor",
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


@dataclass(frozen=True)
class _Loaded:
    """A network, what it is, and what is to be said about how it was loaded."""

    kind: str
    model: Any
    provenance: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def run(arguments: argparse.Namespace) -> Report:
    """Load, export by what the weights are, and state the identities."""
    if (arguments.weights is None) == (arguments.random_init is None):
        raise UsageError("give either a weights file or --random-init SEED with --network NAME")
    if arguments.bake_clahe and arguments.photometric != "none":
        raise UsageError("give --photometric clahe (callers normalise) or --bake-clahe (the graph does), not both")
    if arguments.precision == "fp32":
        for name in PRECISION_ONLY:
            if getattr(arguments, name) not in (None, False):
                raise UsageError(f"--{name.replace('_', '-')} goes with --precision {', '.join(PRECISIONS)}")
    _refuse_before_loading(arguments)
    if arguments.weights is not None and arguments.weights.suffix == ".onnx":
        return _finished(arguments.weights, None, arguments, [])
    if arguments.option and arguments.random_init is None:
        raise UsageError("--option goes with --random-init; a checkpoint states its own options")
    from gloam.padding import PaddingProfile

    loaded = _random(arguments) if arguments.weights is None else _from_file(arguments)
    if loaded.kind == "embedder" and arguments.ensemble:
        loaded = _ensemble(loaded, arguments.ensemble)
    if loaded.kind != "embedder":
        unused = [name for name in EMBEDDERS_ONLY if getattr(arguments, name) not in UNSET]
        if unused:
            option = unused[0].replace("_", "-")
            raise UsageError(f"--{option} is for embedders, but {loaded.model.name} is of kind '{loaded.kind}'")
    batch = (1, arguments.max_batch)
    profile = (
        PaddingProfile.fixed(arguments.sides, arguments.sides, batch)
        if arguments.profile == "fixed"
        else PaddingProfile.dynamic(batch)
    )
    with tempfile.TemporaryDirectory(prefix="gloam-export-") as folder:
        more = arguments.precision != "fp32" or _fronted(arguments)
        exact = Path(folder) / "model.onnx" if more else arguments.output
        return _finished(exact, _export(loaded, arguments, exact, profile), arguments, loaded.notes)


def _fronted(arguments: argparse.Namespace) -> bool:
    return any(getattr(arguments, name) is not None for name in FRONT)


def _refuse_before_loading(arguments: argparse.Namespace) -> None:
    """Options that do not go together, whatever the weights are."""
    if arguments.weights is not None and arguments.weights.suffix == ".onnx":
        if arguments.precision == "fp32" and not _fronted(arguments):
            raise UsageError(f"{arguments.weights}: is exported already; give --precision {', '.join(PRECISIONS)}")
        late = [name for name in EMBEDDERS_ONLY if name not in FRONT and getattr(arguments, name) not in UNSET]
        if late:
            option = late[0].replace("_", "-")
            raise UsageError(f"{arguments.weights}: is exported already; give --{option} when its weights are exported")
    elif _fronted(arguments):
        if arguments.photometric != "none":
            raise UsageError("--translate and --resize take --bake-clahe; callers cannot normalise behind them")
        if arguments.local_features:
            raise UsageError("--translate and --resize are for one descriptor of an image, not for --local-features")
        if arguments.resize is not None and arguments.profile == "fixed":
            raise UsageError("--resize goes with the dynamic profile; a fixed profile has its sizes already")


def _finished(exact: Path, card: ModelCard | None, arguments: argparse.Namespace, notes: list[str]) -> Report:
    """What is still to be done to an exported float32 file: something in front, another precision, the report."""
    with tempfile.TemporaryDirectory(prefix="gloam-export-") as folder:
        if _fronted(arguments):
            from gloam.export.front.put import put_in_front

            whole = arguments.output if arguments.precision == "fp32" else Path(folder) / "whole.onnx"
            card = put_in_front(exact, whole, translator=arguments.translate, max_side=arguments.resize)
            exact = whole
        if card is None or arguments.precision != "fp32":
            return export_report(*_converted(exact, arguments), arguments, notes)
        return export_report(card, None, arguments, notes)


def _converted(exact: Path, arguments: argparse.Namespace) -> tuple[ModelCard, Conversion]:
    from gloam.data.sources import find_images
    from gloam.export.precision.convert import convert_precision

    return convert_precision(
        exact,
        arguments.output,
        arguments.precision,
        items=find_images(arguments.calibrate) if arguments.calibrate is not None else (),
        tolerance=arguments.tolerance,
        accept=arguments.accept_loss,
    )


def _export(loaded: _Loaded, arguments: argparse.Namespace, output: Path, profile: PaddingProfile) -> ModelCard:
    from gloam.export.edges import export_edges
    from gloam.export.embedder import export_embedder
    from gloam.export.translator import export_translator
    from gloam.model_card import Photometric

    if loaded.kind == "translator":
        return export_translator(loaded.model, output, profile, loaded.provenance)
    if loaded.kind == "edges":
        return export_edges(loaded.model, output, profile, loaded.provenance)
    photometric = Photometric(arguments.photometric)
    if arguments.local_features:
        return _export_local(loaded, arguments, output, profile, photometric)
    return export_embedder(
        _with_pipeline(loaded.model, arguments),
        output,
        profile=profile,
        photometric=photometric,
        provenance=loaded.provenance,
    )


def _export_local(
    loaded: _Loaded, arguments: argparse.Namespace, output: Path, profile: PaddingProfile, photometric: Photometric
) -> ModelCard:
    from gloam.export.local_features import export_local_features
    from gloam.networks.local_features.how import HOW, SCALES

    if not isinstance(loaded.model, HOW):
        raise UsageError(f"--local-features is for HOW networks, not for {loaded.model.name}")
    if arguments.whitening is not None or arguments.bake_clahe:
        raise UsageError(
            "--local-features takes neither --whitening nor --bake-clahe; ASMK needs the features as they are"
        )
    return export_local_features(
        loaded.model,
        output,
        scales=arguments.scales or SCALES,
        profile=profile,
        photometric=photometric,
        provenance=loaded.provenance,
    )


def _ensemble(first: _Loaded, files: list[Path]) -> _Loaded:
    from gloam.networks.checkpoints import load_checkpoint
    from gloam.networks.embedders.ensemble import Ensemble

    others = [load_checkpoint(file) for file in files]
    members = [first.provenance, *(other.provenance for other in others)]
    model = Ensemble([first.model, *(other.model for other in others)])
    joined = {key: ", ".join(str(member.get(key, "unknown")) for member in members) for key in ("recipe", "data")}
    licences = ", ".join(dict.fromkeys(str(member.get("licence", "unknown")) for member in members))
    return _Loaded("embedder", model, {**joined, "licence": licences, "members": members}, first.notes)


def _with_pipeline(model: Any, arguments: argparse.Namespace) -> Any:
    if arguments.scales is None and arguments.whitening is None and not arguments.bake_clahe:
        return model
    from gloam.networks.embedders import DescriptorPipeline
    from gloam.runtime.descriptors.whitening import Whitening

    clahe = None
    if arguments.bake_clahe:
        from gloam.networks.clahe import ClaheLayer

        clahe = ClaheLayer()
    whitening = None if arguments.whitening is None else Whitening.load(arguments.whitening)
    return DescriptorPipeline(model, scales=arguments.scales or (1.0,), whitening=whitening, clahe=clahe)


def _from_file(arguments: argparse.Namespace) -> _Loaded:
    from gloam.networks.checkpoints import (
        checkpoint_kind,
        load_checkpoint,
        load_detector,
        load_generator,
    )
    from gloam.networks.edges import DETECTORS
    from gloam.networks.translators import GENERATORS

    kind = checkpoint_kind(arguments.weights) or "embedder"
    if kind == "embedder" and arguments.network in {**GENERATORS, **DETECTORS}:
        raise UsageError(
            f"{arguments.weights}: convert it first: gloam import {arguments.weights} --as {arguments.network} "
            "-o FILE.safetensors"
        )
    if kind == "embedder":
        checkpoint: Any = load_checkpoint(arguments.weights, arguments.network, **_embedder_options(arguments))
    else:
        if arguments.network:
            raise UsageError(f"{arguments.weights}: the checkpoint says its network itself; drop --network")
        checkpoint = (load_generator if kind == "translator" else load_detector)(arguments.weights)
    provenance = checkpoint.provenance
    if arguments.licence != "unknown":
        provenance = {**provenance, "licence": arguments.licence}
    notes = []
    if checkpoint.dropped:
        notes.append(f"left out (no part of a descriptor): {', '.join(checkpoint.dropped)}")
    if checkpoint.defaulted:
        notes.append(f"not in the file, initial value kept: {', '.join(checkpoint.defaulted)}")
    return _Loaded(kind, checkpoint.model, provenance, notes)


def _random(arguments: argparse.Namespace) -> _Loaded:
    if arguments.network is None:
        raise UsageError("--random-init needs --network NAME")
    import torch

    from gloam.networks.edges import DETECTORS, create_detector
    from gloam.networks.embedders import create_embedder
    from gloam.networks.translators import GENERATORS, create_generator

    torch.manual_seed(arguments.random_init)
    options = dict(arguments.option)
    recipe = f"random weights, seed {arguments.random_init}"
    provenance = {"recipe": recipe, "data": "none", "licence": "Apache-2.0"}
    if arguments.network in GENERATORS:
        return _Loaded("translator", create_generator(arguments.network, **options), provenance)
    if arguments.network in DETECTORS:
        return _Loaded("edges", create_detector(arguments.network, **options), provenance)
    embedder = create_embedder(arguments.network, **options, **_embedder_options(arguments))
    return _Loaded("embedder", embedder, provenance)


def _embedder_options(arguments: argparse.Namespace) -> dict[str, Any]:
    chosen = {"padding": arguments.padding, "p": arguments.p, "mean": arguments.mean, "std": arguments.std}
    return {key: value for key, value in chosen.items() if value is not None}


def _integers(text: str) -> tuple[int, ...]:
    return tuple(int(item) for item in text.split(","))


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(item) for item in text.split(","))


def _floats(text: str) -> tuple[float, ...]:
    values = _numbers(text)
    if len(values) != 3:
        raise argparse.ArgumentTypeError("three numbers separated by commas are needed, one per channel")
    return values
