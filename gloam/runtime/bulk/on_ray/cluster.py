"""A Ray cluster to run on: one that is there, or one of this machine's own for the time of a run; kept quiet.

Ray is imported here alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gloam.errors import ClusterError, GloamError, UsageError, require
from gloam.runtime.backends.placement import Placement

ANSWER_SECONDS = 10.0  # for the head node to take a connection


@dataclass(frozen=True)
class Cluster:
    """Where the workers run, and how large they are.

    Attributes:
        address: ``HOST:PORT`` of a running cluster's head, or ``auto``. None: what ``RAY_ADDRESS`` names, else a Ray of
            this machine's own, for the time of the run.
        workers: as many as the cluster has room for by default.
        cpus_per_worker: cores that a worker takes, and its threads where nothing else is said.
        gpus_per_worker: GPUs that a worker takes; a part of one lets several share it.
        debug: let Ray and the workers print what they have to say.
    """

    address: str | None = None
    workers: int | None = None
    cpus_per_worker: int = 1  # shards are independent: many workers of one thread do more than one of many threads
    gpus_per_worker: float = 0.0
    debug: bool = False

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UsageError("--workers must be 1 or more")
        if self.cpus_per_worker < 1:
            raise UsageError("--cpus-per-worker must be 1 or more")
        if self.gpus_per_worker < 0:
            raise UsageError("--gpus-per-worker must be 0 or more")

    def placed(self, placement: Placement) -> Placement:
        """Where a worker's model runs: with as many threads as cores, unless the placement names a number."""
        return replace(placement, threads=placement.threads or self.cpus_per_worker)

    def room(self, nodes: Iterable[Mapping[str, float]]) -> int:
        """How many workers fit.

        Args:
            nodes: each node's resources, as Ray names them.

        Raises:
            UsageError: not one.
        """
        listed = [(int(node.get("CPU", 0)), float(node.get("GPU", 0))) for node in nodes]
        fitting = sum(
            min(cpus // self.cpus_per_worker, int(gpus / self.gpus_per_worker) if self.gpus_per_worker else cpus)
            for cpus, gpus in listed
        )
        if not fitting:
            found = "; ".join(f"{cpus} CPUs, {gpus:g} GPUs" for cpus, gpus in sorted(set(listed), reverse=True)[:3])
            raise UsageError(
                f"a worker of {self.cpus_per_worker} CPUs and {self.gpus_per_worker:g} GPUs fits no node of the "
                f"cluster ({found or 'it has none'}); lower --cpus-per-worker or --gpus-per-worker"
            )
        return fitting


@contextlib.contextmanager
def connected(cluster: Cluster) -> Iterator[Any]:
    """Ray, connected to the cluster or started on this machine; left again when the block ends.

    Where the process is connected already, that connection is used, and stays.

    Raises:
        ClusterError: nothing answers at the address, or it cannot be used.
        MissingExtraError: Ray is not installed.
        UsageError: an address of another form, or one where the process is connected already.
    """
    address = cluster.address or os.environ.get("RAY_ADDRESS") or "local"
    if address not in ("local", "auto"):
        _expect_answer(address)
    if not cluster.debug:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    ray = import_ray()
    if ray.is_initialized():
        if cluster.address is not None:
            raise UsageError("Ray is connected in this process already; leave the address out")
        yield ray
        return
    try:
        with contextlib.nullcontext() if cluster.debug else _no_stderr():
            _connect(ray, cluster, address)
        yield ray
    finally:
        ray.shutdown()


def _connect(ray: Any, cluster: Cluster, address: str) -> None:
    level = logging.INFO if cluster.debug else logging.CRITICAL
    own: dict[str, Any] = {"num_cpus": _cores(cluster), "include_dashboard": False} if address == "local" else {}
    for attempt in (1, 2):  # a busy machine may miss the half minute that Ray gives itself to start
        try:
            ray.init(address=address, log_to_driver=cluster.debug, logging_level=level, **own)
            return
        except Exception as error:  # Ray's errors share no base class
            ray.shutdown()
            if attempt == 2 or address != "local":
                said = "leave --address out, or see `ray status`" if address != "local" else "run again with --debug"
                raise ClusterError(f"Ray at {address} cannot be used ({_last_line(error)}); {said}") from error


def import_ray() -> Any:
    """Ray.

    Raises:
        MissingExtraError: not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # a call too late would start a cluster of its own
    return require("ray", "ray", "work on Ray")


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """What Ray says when it gives up, as a ClusterError."""
    try:
        yield
    except GloamError:
        raise
    except Exception as error:  # Ray's errors share no base class
        raise ClusterError(f"Ray gave up: {_last_line(error)}; --debug shows what the workers said") from error


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Nothing reaches stderr, not from C++ either, which knows no other way to be quiet while it starts."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _expect_answer(address: str) -> None:
    """Ray itself would try for a quarter of an hour."""
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")  # attempts of half a minute each; 20 by default
    if "://" in address:
        raise UsageError(
            f"{address}: the run must begin on a node of the cluster; start it there (`ray job submit`) and give "
            "--address auto, or HOST:PORT of the head"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"{address}: write --address HOST:PORT of the cluster's head, or auto")
    try:
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"{address}: no Ray answers there ({error}); `ray status` on the head says whether it runs"
        ) from error


def _cores(cluster: Cluster) -> int:
    """CPUs of a Ray of this machine's own: room for the workers that are asked for, whatever they share."""
    return max(len(os.sched_getaffinity(0)), (cluster.workers or 1) * cluster.cpus_per_worker)


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
