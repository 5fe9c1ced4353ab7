"""Bulk extraction on Ray: the shards of one store, made by the workers of a cluster.

Ray Data schedules the numbers of the shards that are not there yet. A worker loads the model once, reads its images
from the source itself and writes whole shards into the store's folder, which every node must share; what travels is
the list of the images, once, and a line of figures per shard. Ray starts a worker that dies again, and gives its shard
to another.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gloam.data.sources import ImageItem
from gloam.errors import DataError
from gloam.heartbeat import progress_bar
from gloam.runtime.backends.facts import BackendFacts
from gloam.runtime.bulk.extract import ExtractOptions, ExtractSummary, complete, stale_shards
from gloam.runtime.bulk.metrics import served_metrics
from gloam.runtime.bulk.on_ray.cluster import Cluster, closed, connected, one_line_errors
from gloam.runtime.bulk.on_ray.travel import Home, of_worker, run_folder
from gloam.runtime.bulk.on_ray.worker import ShardReport, ShardWorker, Start, Work, look, readable
from gloam.runtime.bulk.resume import Resuming
from gloam.runtime.bulk.stages import Queues, worker_threads
from gloam.runtime.descriptors.shard_writer import ShardWriter
from gloam.runtime.descriptors.store import Job
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.output_folder import names_sha256

IN_FLIGHT = 2  # shards at a worker: the one at work, and one that waits so that it never does
SETTLE_SECONDS = 90.0  # for a network file system to show what others wrote; NFS looks again after 60 at most
WITNESSES = 10  # images, of which one should be readable


@dataclass
class RaySummary(ExtractSummary):
    """What a run did and where its time went; reading, inference and writing are those of the average worker.

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
        self.described += report.described
        self.failed += report.failed
        for stage in ("read", "infer", "write"):
            self.seconds[stage] += report.seconds[stage] / self.workers


@dataclass(frozen=True)
class RayRun:
    """What a run on Ray did, and with what.

    Attributes:
        summary: counts and times; the total is from the first shard given out to the store complete.
        job: of the store.
        model: the model's name.
    """

    summary: RaySummary
    job: Job
    model: str


def extract_on_ray(
    items: Sequence[ImageItem],
    load: Callable[[], Embedder],
    folder: str | Path,
    options: ExtractOptions | None = None,
    *,
    cluster: Cluster | None = None,
    grow: bool = False,
    verify_sources: bool = False,
    decode_threads: int | None = None,
    metrics_port: int | None = None,
    progress: bool = False,
    on_shard: Callable[[ShardReport], None] | None = None,
) -> RayRun:
    """Describe images into a store; the bytes are those of
    :func:`gloam.runtime.bulk.extract.extract` with the same model.

    Args:
        items: images, in the order of the store; every node must be able to read them.
        load: gives the model, in each worker; picklable.
        folder: of the store, on storage that all nodes share.
        options: resizing, dtype, shard size.
        cluster: where the workers run; this machine by default.
        grow, verify_sources: see :func:`gloam.runtime.bulk.extract.extract`. This process looks at the images of an
            earlier run; those that failed and have the same bytes as then are not tried again.
        decode_threads: of each worker; ``cpus_per_worker`` by default.
        metrics_port: serve the state of the run for Prometheus, from this process.
        progress: show a bar on stderr where that is a terminal.
        on_shard: told of every shard that is made.

    Raises:
        ClusterError: the cluster cannot be reached, or its workers keep dying.
        MissingExtraError: Ray is not installed.
        UsageError: no worker fits the cluster.
        GloamError: everything that a local run may raise, after the name of the node.
    """
    options, cluster = options or ExtractOptions(), cluster or Cluster()
    if not items:
        raise DataError("no images to describe")
    start = Start(load, options, len(items), names_sha256(items), Home())
    with connected(cluster) as ray:
        room = cluster.room(node["Resources"] for node in ray.nodes() if node["Alive"])
        model = _first_look(ray, cluster, start)
        job, shards = Job(**model["job"]), range(options.shards(len(items)))
        writer = ShardWriter.begin(Path(folder).absolute(), job, len(shards), grow=grow)
        summary = RaySummary(images=len(items), backend=BackendFacts.from_dict(model["backend"]))
        resuming, threads = Resuming(grow, verify_sources, progress), worker_threads(decode_threads)
        missing = stale_shards(items, writer, options, shards, None, resuming, threads, summary, Queues())
        summary.workers = min(cluster.workers or room, len(missing))
        with (
            served_metrics(metrics_port, summary, None),
            progress_bar(len(items), shown=progress) as bar,
            run_folder(writer.folder) as place,
            summary.timed("total"),
        ):
            bar.update(summary.reused)
            witness = next((item for item in items[:WITNESSES] if readable(item)), None)
            work = Work(start, writer.job, writer.folder, place, decode_threads or cluster.cpus_per_worker, witness)
            run_pixels = valid_pixels = 0
            with contextlib.closing(_reports(ray, cluster, work, items, missing, room)) as reports:
                for report in reports:
                    summary.count(report)
                    run_pixels, valid_pixels = run_pixels + report.run_pixels, valid_pixels + report.valid_pixels
                    bar.update(report.described + report.failed)
                    if on_shard is not None:
                        on_shard(report)
            summary.padded_share = 1 - valid_pixels / run_pixels if run_pixels else 0.0
            _settle(writer)
            complete(writer, summary)
    return RayRun(summary, writer.job, model["name"])


def _first_look(ray: Any, cluster: Cluster, start: Start) -> dict[str, Any]:
    """The job and the model, said by a worker: the process that begins the run may have no GPU."""
    with one_line_errors():
        task = ray.remote(num_cpus=cluster.cpus_per_worker, num_gpus=cluster.gpus_per_worker)(look)
        said: dict[str, Any] = json.loads(ray.get(task.remote(start)))
    if "error" in said:
        raise of_worker(said["kind"], said["node"], said["error"])
    return said


def _reports(
    ray: Any, cluster: Cluster, work: Work, items: Sequence[ImageItem], shards: Sequence[int], room: int
) -> Generator[ShardReport]:
    """Make shards; every one's report, as they come."""
    if not shards:
        return
    most = min(cluster.workers or room, len(shards))
    pool = ray.data.ActorPoolStrategy(min_size=min(most, room), max_size=most, max_tasks_in_flight_per_actor=IN_FLIGHT)
    with one_line_errors():
        listed = ray.put(items)
        rows = ray.data.from_items([{"shard": shard} for shard in shards], override_num_blocks=len(shards)).map(
            ShardWorker,
            fn_constructor_args=(work, listed),
            compute=pool,
            num_cpus=cluster.cpus_per_worker,
            num_gpus=cluster.gpus_per_worker or None,
        )
        with closed(rows) as found:
            for row in found:
                yield ShardReport(**json.loads(row["report"]))


def _settle(writer: ShardWriter) -> None:
    """Wait until this node sees the shards of the others."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while writer.missing() and time.monotonic() < deadline:
        time.sleep(1)
