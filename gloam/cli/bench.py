"""``gloam bench``: what runs a model fastest on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.report import Report
from gloam.cli.shared.request import filled
from gloam.cli.shared.values import place
from gloam.errors import UsageError
from gloam.runtime.backends.placement import BACKENDS, CPU_PRECISIONS, Placement

HELP = "measure images per second of a model by every backend, number of threads and precision of this machine's CPU"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("model", type=Path, help="embedder, translator or edge detector (.onnx)")
    parser.add_argument("--images", type=place, help="folder or list of photographs (default: four made ones)")
    parser.add_argument("--count", type=int, default=8, help="images to use, evenly from all that are given")
    parser.add_argument(
        "--max-side",
        type=int,
        help="longer side in pixels, 0 keeps native sizes (default: an embedder's input rule, else native)",
    )
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds; the median counts")
    parser.add_argument("--threads", type=int, help="only so many threads (default: all cores, and half of them)")
    parser.add_argument("--backend", choices=BACKENDS, help="only this one, beside the default")
    parser.add_argument("--cpu-precision", choices=CPU_PRECISIONS, help="only this one, beside the default")
    parser.add_argument(
        "--tune",
        action="store_true",
        help="write the fastest to MODEL.tune.json: every later run of the model on this machine uses it, unless "
        "--backend, --threads or --cpu-precision say otherwise",
    )
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        choices=("bf16",),
        help="with --tune: may be chosen, too, although it changes the answers a little",
    )


def run(arguments: argparse.Namespace) -> Report:
    """Measure, and with ``--tune`` write the profile."""
    if arguments.allow and not arguments.tune:
        raise UsageError("--allow goes with --tune")
    from gloam.runtime.bench.run import BenchRequest, run_bench

    only = Placement("cpu", arguments.threads, arguments.backend, arguments.cpu_precision)
    done = run_bench(filled(BenchRequest, arguments, only=only, allow=tuple(arguments.allow)))
    return Report(done.to_dict(), str(done))
