"""What a service tells Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SIZES = (1, 2, 4, 8, 16, 32)
TYPE = CONTENT_TYPE_LATEST


class Meters:
    """Counters of one service, in a registry of its own.

    Args:
        waiting: images that wait for the model at this moment.
    """

    def __init__(self, waiting: Callable[[], int] = lambda: 0) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("gloam_requests", "Requests answered", ["route", "status"], registry=self.registry)
        self.seconds = Histogram(
            "gloam_request_seconds", "Seconds of a request", ["route"], buckets=SECONDS, registry=self.registry
        )
        self.batches = Histogram(
            "gloam_batch_images", "Images that the model was given at once", buckets=SIZES, registry=self.registry
        )
        self.open = Gauge("gloam_requests_open", "Requests being read, waiting or answered", registry=self.registry)
        self.body = Gauge("gloam_body_bytes", "Bytes of the bodies of open requests", registry=self.registry)
        waits = Gauge("gloam_queue_length", "Images that wait for the model", registry=self.registry)
        waits.set_function(waiting)
        ProcessCollector(registry=self.registry)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def told(self) -> bytes:
        """Prometheus's text."""
        return generate_latest(self.registry)
