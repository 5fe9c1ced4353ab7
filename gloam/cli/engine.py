"""``gloam engine``: an exported model to a TensorRT engine, for this machine's GPU or ahead of time for RTX."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.report import Report
from gloam.errors import UsageError

HELP = "build a TensorRT engine of an exported model, for this machine's GPU or ahead of time, or find that it is there"
TARGETS = ("tensorrt", "rtx")
HARDWARE = ("same-gpu", "compute-capability", "ampere-plus")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("model", type=Path, help=".onnx file; of the dynamic profile for stated sizes")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="folder to write: engine, card, build log, timing cache"
    )
    parser.add_argument(
        "--for",
        dest="target",
        choices=TARGETS,
        default="tensorrt",
        help="tensorrt: the GPU of this machine, a cache; rtx: TensorRT for RTX, ahead of time and without a GPU, "
        "portable over the architectures that --gpu names",
    )
    parser.add_argument(
        "--gpu",
        type=_names,
        metavar="NAMES",
        help="with --for rtx: GPUs that may run the engine, e.g. sm80,sm86,sm89,sm120 (default: all from Ampere "
        "on; more take no longer)",
    )
    parser.add_argument(
        "--heights",
        type=_integers,
        help="padded heights to build, e.g. 512,768 (default: the model's); of a dynamic file those of your images",
    )
    parser.add_argument("--widths", type=_integers, help="padded widths to build (default: the model's)")
    parser.add_argument(
        "--batch", type=_integers, metavar="MIN,OPT,MAX", help="batch range (default: the model's, preferring 16)"
    )
    parser.add_argument("--tf32", action="store_true", help="let fp32 layers use TensorFloat-32: faster, less exact")
    parser.add_argument(
        "--workspace", type=float, metavar="GIB", help="memory that a layer may use (default: no limit)"
    )
    parser.add_argument("--level", type=int, default=3, help="0 builds quickest, 5 looks longest for a faster engine")
    parser.add_argument(
        "--hardware", choices=HARDWARE, default="same-gpu", help="GPUs that may run the engine; not for RTX"
    )
    parser.add_argument(
        "--version-compatible", action="store_true", help="later TensorRT of the same major version may run the engine"
    )
    parser.add_argument(
        "--timing-cache", type=Path, metavar="FILE", help="timings to share between builds (default: in the folder)"
    )


def run(arguments: argparse.Namespace) -> Report:
    """Build, and say what for."""
    from gloam.export.engine.build import build_engine
    from gloam.export.engine.options import BuildOptions

    options = BuildOptions(
        heights=arguments.heights,
        widths=arguments.widths,
        batch=_batch(arguments.batch),
        tf32=arguments.tf32,
        workspace=None if arguments.workspace is None else int(arguments.workspace * 2**30),
        level=arguments.level,
        hardware=arguments.hardware,
        version_compatible=arguments.version_compatible,
        target=arguments.target,
        architectures=arguments.gpu,
    )
    built = build_engine(
        arguments.model,
        arguments.output,
        options,
        timing_cache=arguments.timing_cache,
        progress=not arguments.json,
    )
    return Report(built.to_dict(), str(built))


def _integers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(item) for item in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers, e.g. 512,768") from None


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.lower().split(","))


def _batch(given: tuple[int, ...] | None) -> tuple[int, int, int] | None:
    if given is None:
        return None
    if len(given) != 3:
        raise UsageError(f"--batch is MIN,OPT,MAX, e.g. 1,16,64, not {','.join(map(str, given))}")
    return given[0], given[1], given[2]
