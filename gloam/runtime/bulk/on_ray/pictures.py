"""Bulk image-to-image runs on Ray: the tars of one output, made by the workers of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gloam.data.sources import ImageItem
from gloam.errors import DataError
from gloam.runtime.backends.facts import BackendFacts
from gloam.runtime.bulk.on_ray.cluster import Cluster
from gloam.runtime.bulk.on_ray.run import OfWorkers, crew_of, settle
from gloam.runtime.bulk.on_ray.travel import Home
from gloam.runtime.bulk.on_ray.worker import Loaded, Made, ShardReport
from gloam.runtime.bulk.picture_folder import output_clashes
from gloam.runtime.bulk.picture_tars import PictureTars
from gloam.runtime.bulk.pictures import (
    PictureMaker,
    PictureOptions,
    PictureSummary,
    complete_pictures,
    stale_parts,
    tar_job,
)
from gloam.runtime.bulk.resume import Resuming
from gloam.runtime.bulk.stages import Queues, worker_threads
from gloam.runtime.models.image_model import ImageOperation
from gloam.runtime.output_folder import names_sha256


@dataclass
class RayPictureSummary(OfWorkers, PictureSummary):
    """See :class:`OfWorkers`."""

    def add(self, report: ShardReport) -> None:
        """See :class:`OfWorkers`."""
        self.done += report.succeeded
        self.reduced += report.reduced


@dataclass(frozen=True)
class PictureRayRun:
    """What a run on Ray did, and with what.

    Attributes:
        summary: counts and times; the total is from the first tar given out to the output complete.
        model, fingerprint: name and identity of the operation.
    """

    summary: RayPictureSummary
    model: str
    fingerprint: str


@dataclass(frozen=True)
class TarStart:
    """What a worker needs to say what tars will be.

    Attributes:
        load: gives the translator or edge detector.
        options: of the job.
        images_sha256: :func:`names_sha256` of the list of sources.
        tar_size: sources of a tar.
        home: where the run began.
    """

    load: Callable[[], ImageOperation]
    options: PictureOptions
    images_sha256: str
    tar_size: int
    home: Home

    def loaded(self) -> Loaded:
        """In a worker: the model, and the tars that it makes of the sources."""
        operation = self.load()
        job = tar_job(operation, self.options, self.images_sha256, self.tar_size)
        return Loaded(operation.name, operation.backend, job, partial(self._maker, operation))

    def _maker(
        self, operation: ImageOperation, items: Sequence[ImageItem], folder: Path, threads: int
    ) -> Callable[[int], Made]:
        job = tar_job(operation, self.options, self.images_sha256, self.tar_size)
        clashes = output_clashes(items, f".{self.options.format}")

        def make(shard: int) -> Made:
            summary = PictureSummary()
            tars = PictureTars(folder, job, len(items), self.tar_size)
            if (rows := tars.earlier(shard)) is None:
                with tars:
                    PictureMaker(items, operation, tars, self.options, summary, False, clashes).make([shard], threads)
            else:
                summary.reuse(len(rows), sum(row.failure is not None for row in rows), sum(row.reduced for row in rows))
            return Made(summary, summary.reduced)

        return make


def run_images_on_ray(
    items: Sequence[ImageItem],
    load: Callable[[], ImageOperation],
    folder: str | Path,
    options: PictureOptions | None = None,
    *,
    tar_size: int,
    cluster: Cluster | None = None,
    grow: bool = False,
    verify_sources: bool = False,
    threads: int | None = None,
    metrics_port: int | None = None,
    progress: bool = False,
    on_shard: Callable[[ShardReport], None] | None = None,
) -> PictureRayRun:
    """Turn images into the pictures of tars; the bytes are those of :func:`gloam.runtime.bulk.pictures.run_images`
    with the same model.

    Args:
        items: the sources; every node must be able to read them.
        load: gives the translator or edge detector, in each worker; picklable.
        folder: of the run, on storage that all nodes share.
        options: size and format.
        tar_size: sources of a tar, the unit of work.
        cluster: where the workers run; this machine by default.
        grow, verify_sources: see :func:`gloam.runtime.bulk.pictures.run_images`. This process looks at the sources of
            an earlier run; those that failed and have the same bytes as then are not tried again.
        threads: of each worker, that decode, and that encode and write; ``cpus_per_worker`` by default.
        metrics_port: serve the state of the run for Prometheus, from this process.
        progress: show a bar on stderr where that is a terminal.
        on_shard: told of every tar that is made.

    Raises:
        ClusterError: the cluster cannot be reached, or its workers keep dying.
        MissingExtraError: Ray is not installed.
        UsageError: no worker fits the cluster.
        GloamError: everything that a local run may raise, after the name of the node.
    """
    options, cluster = options or PictureOptions(), cluster or Cluster()
    if not items:
        raise DataError("no images to work on")
    start = TarStart(load, options, names_sha256(items), tar_size, Home())
    with crew_of(cluster, start) as crew:
        job = crew.told["job"]
        tars = PictureTars.begun(Path(folder).absolute(), job, len(items), tar_size, grow=grow)
        summary = RayPictureSummary(images=len(items), backend=BackendFacts.from_dict(crew.told["backend"]))
        resuming, clashes = Resuming(grow, verify_sources, progress), output_clashes(items, f".{options.format}")
        looking = worker_threads(threads)
        missing = stale_parts(items, tars, None, resuming, looking, summary, Queues(), clashes)
        with crew.making(
            items,
            tars.folder,
            missing,
            tar_size,
            summary,
            decode_threads=threads,
            metrics_port=metrics_port,
            progress=progress,
        ) as reports:
            for report in reports:
                if on_shard is not None:
                    on_shard(report)
            settle(tars.missing)
            complete_pictures(tars, summary)
    return PictureRayRun(summary, crew.told["name"], job["fingerprint"])
