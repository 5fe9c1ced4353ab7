"""The state of a bulk run for Prometheus: images, seconds per stage, queue lengths."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from gloam.errors import UsageError, require
from gloam.runtime.bulk.stages import Queues, RunSummary


@contextlib.contextmanager
def served_metrics(port: int | None, summary: RunSummary, queues: Queues | None) -> Iterator[None]:
    """Answer ``GET /metrics`` on a port of all interfaces while the block runs.

    Args:
        port: of TCP; 0 takes a free one, None serves nothing.
        summary, queues: read at each request; no queues where they are on other machines.

    Raises:
        MissingExtraError: prometheus_client is not installed.
        UsageError: the port cannot be had.
    """
    if port is None:
        yield
        return
    client = require("prometheus_client", "metrics", "serve --metrics-port")
    registry = client.CollectorRegistry()
    core = require("prometheus_client.core", "metrics", "serve --metrics-port")
    registry.register(_Collector(core, summary, queues))
    try:
        server, thread = client.start_http_server(port, registry=registry)
    except (OSError, OverflowError) as error:
        raise UsageError(f"--metrics-port {port}: cannot be served ({error}); choose another port") from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Collector:
    """The figures of a run at the moment they are asked for."""

    def __init__(self, core: Any, summary: RunSummary, queues: Queues | None) -> None:
        self._core = core
        self._summary = summary
        self._queues = queues

    def collect(self) -> Iterator[Any]:
        """What prometheus_client asks for."""
        counter, gauge = self._core.CounterMetricFamily, self._core.GaugeMetricFamily
        yield gauge("gloam_images", "Images of this run, those of an earlier run included", self._summary.images)
        yield counter("gloam_images_done", "Images that are done", self._summary.succeeded)
        yield counter("gloam_images_failed", "Images that failed", self._summary.failed)
        yield counter("gloam_images_reused", "Images that an earlier run had done", self._summary.reused)
        seconds = counter("gloam_stage_seconds", "Wall time of the thread that runs the model", labels=["stage"])
        for stage in ("read", "infer", "write"):
            seconds.add_metric([stage], self._summary.seconds[stage])
        yield seconds
        if self._queues is None:
            return
        lengths = gauge("gloam_queue_length", "Images being read, waiting for a batch, or written", labels=["queue"])
        for queue in ("reading", "waiting", "writing"):
            lengths.add_metric([queue], getattr(self._queues, queue))
        yield lengths
