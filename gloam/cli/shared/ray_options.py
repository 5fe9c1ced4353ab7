"""Workers of a Ray cluster: the options that the verbs share which can give work to them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from gloam.errors import UsageError
from gloam.runtime.backends.placement import ON_GPU

if TYPE_CHECKING:
    from gloam.runtime.bulk.on_ray.cluster import Cluster

OF_RAY = ("address", "cpus_per_worker", "gpus_per_worker")


def add_cluster(parser: argparse._ActionsContainer, threads: str) -> None:
    """Add ``--on``, ``--address``, ``--cpus-per-worker`` and ``--gpus-per-worker``.

    Args:
        parser: or a group of it.
        threads: what the number of cores stands for as well.
    """
    parser.add_argument(
        "--on", choices=("local", "ray"), default="local", help="this process, or workers that Ray schedules"
    )
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="head of a running cluster, or auto (default: $RAY_ADDRESS, else a Ray of this machine's own)",
    )
    parser.add_argument(
        "--cpus-per-worker", type=int, metavar="C", help=f"cores that a worker takes, and {threads} (default: 1)"
    )
    parser.add_argument(
        "--gpus-per-worker",
        type=float,
        metavar="G",
        help="GPUs that a worker takes, e.g. 0.5 for two workers on each (default: 1 with a GPU's --device, else 0)",
    )


def add_workers(parser: argparse._ActionsContainer) -> None:
    """Add ``--workers``, where their number is not that of something else."""
    parser.add_argument("--workers", type=int, metavar="N", help="number of workers (default: as many as fit)")


def expect_cluster(arguments: argparse.Namespace, *more: str) -> None:
    """Refuse options of Ray without it, and workers without the GPU that they need.

    Args:
        arguments: of the verb.
        more: names of further options of Ray.

    Raises:
        UsageError: see above.
    """
    given = [name for name in (*OF_RAY, *more) if getattr(arguments, name) is not None]
    if arguments.on != "ray" and given:
        raise UsageError(f"--{given[0].replace('_', '-')} goes with --on ray")
    if arguments.on == "ray" and arguments.device in ON_GPU and arguments.gpus_per_worker == 0:
        raise UsageError(f"--device {arguments.device} needs a GPU in every worker; leave out --gpus-per-worker 0")


def ray_cluster(arguments: argparse.Namespace, workers: int | None) -> Cluster | None:
    """The cluster that was asked for; None for this process.

    Args:
        arguments: of the verb.
        workers: their number; None for as many as fit.
    """
    if arguments.on != "ray":
        return None
    from gloam.runtime.bulk.on_ray.cluster import Cluster

    gpus = arguments.gpus_per_worker
    return Cluster(
        address=arguments.address,
        workers=workers,
        cpus_per_worker=1 if arguments.cpus_per_worker is None else arguments.cpus_per_worker,
        gpus_per_worker=float(arguments.device in ON_GPU) if gpus is None else gpus,
        debug=arguments.debug,
    )
