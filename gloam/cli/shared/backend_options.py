"""Where a model runs: the options that the verbs which run one share."""

from __future__ import annotations

import argparse

from gloam.runtime.backends.placement import BACKENDS, CPU_PRECISIONS, DEVICES, Placement


def add_backend(parser: argparse._ActionsContainer) -> None:
    """Add ``--device``, ``--threads``, ``--backend`` and ``--cpu-precision``."""
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="where the model runs")
    add_cpu(parser)


def add_cpu(parser: argparse._ActionsContainer) -> None:
    """Add what decides how a model runs on the CPU."""
    parser.add_argument("--threads", type=int, help="threads of the model (default: all cores)")
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        help="what runs an .onnx file on the CPU (default: onnxruntime, or what `gloam bench --tune` found)",
    )
    parser.add_argument(
        "--cpu-precision",
        choices=CPU_PRECISIONS,
        help="what OpenVINO computes a float32 file in: f32 (default), or bf16 where the processor has it, quicker and "
        "a little off",
    )


def placement(arguments: argparse.Namespace) -> Placement:
    """The options that were given."""
    return Placement(arguments.device, arguments.threads, arguments.backend, arguments.cpu_precision)
