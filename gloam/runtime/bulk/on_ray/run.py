"""The shards of one output made by the workers of a Ray cluster.

Each shard is a task of Ray's. A worker loads the model at its first one, reads its images from the source itself and
writes whole shards into the output's folder, which every node must share; what travels is the list of the images, once
a worker, and a line of figures per shard. A shard whose worker died, or whose node is gone, is given to another that
has room; tasks, for an actor's work would wait until its node is back.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gloam.data.sources import ImageItem
from gloam.heartbeat import progress_bar
from gloam.runtime.bulk.metrics import served_metrics
from gloam.runtime.bulk.on_ray.cluster import Cluster, connected, one_line_errors
from gloam.runtime.bulk.on_ray.travel import TRIES, of_worker, run_folder
from gloam.runtime.bulk.on_ray.worker import ShardReport, Start, Work, look, make_shard, readable
from gloam.runtime.bulk.stages import RunSummary

SETTLE_SECONDS = 90.0  # for a network file system to show what others wrote; NFS looks again after 60 at most
WITNESSES = 10  # images, of which one should be readable


@dataclass
class OfWorkers(RunSummary):
    """What a run of workers did and where its time went; reading, inference and writing are of the average worker.

    Attributes:
        workers: how many; 0 where every shard was there already.
    """

    workers: int = 0

    def count(self, report: ShardReport) -> None:
        """Count a shard.

        Raises:
            GloamError: it was not made; of the kind that the worker met.
        """
        if report.error:
            raise of_worker(report.kind, report.node, report.error)
        self.failed += report.failed
        for stage in ("read", "infer", "write"):
            self.seconds[stage] += report.seconds[stage] / self.workers
        self.add(report)

    def said_workers(self) -> str:
        """How many, behind a rate in a line for people."""
        return f" by {self.workers} Ray worker{'s' * (self.workers != 1)}"

    def add(self, report: ShardReport) -> None:
        """Count what succeeded."""
        raise NotImplementedError  # each kind of run counts its own


class Crew:
    """The workers of a cluster, as far as a run knows them.

    Args:
        ray: connected.
        cluster: how large they are.
        start: see :class:`Start`.

    Attributes:
        told: what the first look at the model said: the ``job``, the ``backend``, the ``name``.

    Raises:
        UsageError: no worker fits the cluster.
        GloamError: the model cannot be loaded.
    """

    def __init__(self, ray: Any, cluster: Cluster, start: Start) -> None:
        self._ray, self._cluster, self._start = ray, cluster, start
        self._room = cluster.room(node["Resources"] for node in ray.nodes() if node["Alive"])
        self._asked = {"num_cpus": cluster.cpus_per_worker, "num_gpus": cluster.gpus_per_worker}
        self.told = self._first_look()

    def _first_look(self) -> dict[str, Any]:
        """By a worker: the process that begins the run may have no GPU."""
        with one_line_errors():
            task = self._ray.remote(**self._asked)(look)
            said: dict[str, Any] = json.loads(self._ray.get(task.remote(self._start)))
        if "error" in said:
            raise of_worker(said["kind"], said["node"], said["error"])
        return said

    @contextlib.contextmanager
    def making(
        self,
        items: Sequence[ImageItem],
        folder: Path,
        missing: Sequence[int],
        shard_size: int,
        summary: OfWorkers,
        *,
        decode_threads: int | None,
        metrics_port: int | None,
        progress: bool,
    ) -> Iterator[Iterator[ShardReport]]:
        """The shards of an output made, told one by one as they are; the summary counts them.

        Args:
            items: all images of the output.
            folder: of the output, absolute; its job has been begun.
            missing: numbers of the shards to make.
            shard_size: images of a shard.
            summary: of the run; its total is the time of the block.
            decode_threads: of each worker; ``cpus_per_worker`` by default.
            metrics_port: serve the state of the run for Prometheus, from this process.
            progress: show a bar on stderr where that is a terminal.
        """
        most = min(self._cluster.workers or self._room, len(missing))
        summary.workers = most
        threads = decode_threads or self._cluster.cpus_per_worker
        witness = next((item for item in items[:WITNESSES] if readable(item)), None)
        with (
            served_metrics(metrics_port, summary, None),
            progress_bar(len(items), shown=progress) as bar,
            run_folder(folder) as place,
            summary.timed("total"),
        ):
            bar.update(summary.reused)
            work = Work(self._start, self.told["job"], folder, place, shard_size, threads, witness)

            def reports() -> Generator[ShardReport]:
                with contextlib.closing(self._made(work, items, missing, most)) as found:
                    for report in found:
                        summary.count(report)
                        bar.update(report.succeeded + report.failed)
                        yield report

            with contextlib.closing(reports()) as counted:
                yield counted

    def _made(self, work: Work, items: Sequence[ImageItem], shards: Sequence[int], most: int) -> Generator[ShardReport]:
        if not shards:
            return
        ray, todo = self._ray, deque(shards)
        under_way: list[Any] = []
        with one_line_errors():
            # No worker of a GPU ends after one shard, which it would by default.
            task = ray.remote(**self._asked, max_retries=TRIES, max_calls=0)(make_shard)
            listed = [ray.put(items)]
            try:
                while todo or under_way:
                    while todo and len(under_way) < most:
                        under_way.append(task.remote(work, listed, todo.popleft()))
                    ready, under_way = ray.wait(under_way, num_returns=1)
                    for reference in ready:
                        yield ShardReport(**json.loads(ray.get(reference)))
            finally:
                for reference in under_way:
                    ray.cancel(reference, force=True)


@contextlib.contextmanager
def crew_of(cluster: Cluster, start: Start) -> Iterator[Crew]:
    """The workers, once they have looked at the model; the cluster is left when the block ends."""
    with connected(cluster) as ray:
        yield Crew(ray, cluster, start)


def settle(missing: Callable[[], Sequence[int]]) -> None:
    """Wait until this node sees the shards that others wrote.

    Args:
        missing: looks for them.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    while missing() and time.monotonic() < deadline:
        time.sleep(1)
