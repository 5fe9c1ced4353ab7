"""Bulk extraction on Ray: the shards of one store, made by the workers of a cluster."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from gloam.data.sources import ImageItem
from gloam.errors import DataError
from gloam.runtime.backends.facts import BackendFacts
from gloam.runtime.bulk.extract import ExtractOptions, ExtractSummary, ShardMaker, complete, make_job, stale_shards
from gloam.runtime.bulk.on_ray.cluster import Cluster
from gloam.runtime.bulk.on_ray.run import OfWorkers, crew_of, settle
from gloam.runtime.bulk.on_ray.travel import Home
from gloam.runtime.bulk.on_ray.worker import Loaded, Made, ShardReport
from gloam.runtime.bulk.resume import Resuming
from gloam.runtime.bulk.stages import Queues, worker_threads
from gloam.runtime.descriptors.shard_writer import ShardWriter
from gloam.runtime.descriptors.store import Job
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.output_folder import names_sha256


@dataclass
class RaySummary(OfWorkers, ExtractSummary):
    """See :class:`OfWorkers`."""

    def add(self, report: ShardReport) -> None:
        """See :class:`OfWorkers`."""
        self.described += report.succeeded


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


@dataclass(frozen=True)
class StoreStart:
    """What a worker needs to say what a store will be.

    Attributes:
        load: gives the model.
        options: of the job.
        images, images_sha256: see :func:`gloam.runtime.bulk.extract.make_job`.
        home: where the run began.
    """

    load: Callable[[], Embedder]
    options: ExtractOptions
    images: int
    images_sha256: str
    home: Home

    def loaded(self) -> Loaded:
        """In a worker: the model, and the store that it makes of the images."""
        embedder = self.load()
        embedder = embedder.reading(self.options.read_by(embedder.input_rule))
        job = make_job(embedder, self.options, self.images, self.images_sha256)
        stated = json.loads(json.dumps(asdict(job)))  # as in a manifest
        return Loaded(embedder.card.name, embedder.session.backend, stated, partial(self._maker, embedder, job))

    def _maker(
        self, embedder: Embedder, job: Job, items: Sequence[ImageItem], folder: Path, threads: int
    ) -> Callable[[int], Made]:
        def make(shard: int) -> Made:
            summary = ExtractSummary()
            writer = ShardWriter(folder, job, self.options.shards(len(items)))
            maker = ShardMaker(items, embedder, writer, self.options, summary)
            if (rows := writer.rows(shard)) is None:
                maker.make([shard], threads)
            else:
                summary.reuse(len(rows), writer.failed(shard), 0)
            return Made(summary, 0, maker.run_pixels, maker.valid_pixels)

        return make


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
    start = StoreStart(load, options, len(items), names_sha256(items), Home())
    with crew_of(cluster, start) as crew:
        job, shards = Job(**crew.told["job"]), range(options.shards(len(items)))
        writer = ShardWriter.begin(Path(folder).absolute(), job, len(shards), grow=grow)
        summary = RaySummary(images=len(items), backend=BackendFacts.from_dict(crew.told["backend"]))
        resuming, threads = Resuming(grow, verify_sources, progress), worker_threads(decode_threads)
        missing = stale_shards(items, writer, options, shards, None, resuming, threads, summary, Queues())
        run_pixels = valid_pixels = 0
        with crew.making(
            items,
            writer.folder,
            missing,
            options.shard_size,
            summary,
            decode_threads=decode_threads,
            metrics_port=metrics_port,
            progress=progress,
        ) as reports:
            for report in reports:
                run_pixels, valid_pixels = run_pixels + report.run_pixels, valid_pixels + report.valid_pixels
                if on_shard is not None:
                    on_shard(report)
            summary.padded_share = 1 - valid_pixels / run_pixels if run_pixels else 0.0
            settle(writer.missing)
            complete(writer, summary)
    return RayRun(summary, writer.job, crew.told["name"])
