"""What runs in the workers of a cluster: a model loaded once, whole shards made by the pipeline of a local run."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gloam.data.sources import ImageItem
from gloam.errors import DataError, GloamError, ImageError, IncompatibleError, StoreError
from gloam.runtime.bulk.extract import ExtractOptions, ExtractSummary, ShardMaker, make_job
from gloam.runtime.bulk.on_ray.cluster import import_ray
from gloam.runtime.bulk.on_ray.travel import SHARED, Home, count_try
from gloam.runtime.descriptors.shard_writer import ShardWriter
from gloam.runtime.descriptors.store import Job
from gloam.runtime.models.embedder import Embedder


@dataclass(frozen=True)
class Start:
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

    def loaded(self) -> tuple[Embedder, Job]:
        """In a worker: the model, and the job that it makes of the images."""
        self.home.enter()
        embedder = self.load()
        embedder = embedder.reading(self.options.read_by(embedder.input_rule))
        return embedder, make_job(embedder, self.options, self.images, self.images_sha256)


@dataclass(frozen=True)
class Work:
    """What a worker needs to make shards.

    Attributes:
        start: see :class:`Start`.
        job: of the store.
        folder: of the store.
        place: a folder inside it, of this run alone.
        threads: that decode.
        witness: an image that can be read where the run began; None where there is none.
    """

    start: Start
    job: Job
    folder: Path
    place: Path
    threads: int
    witness: ImageItem | None


@dataclass(frozen=True)
class ShardReport:
    """What a worker says of a shard.

    Attributes:
        shard: its number.
        node, worker: name of the machine; process there.
        described, failed: images.
        run_pixels, valid_pixels: see :class:`gloam.runtime.bulk.extract.ShardMaker`.
        began, ended: by the node's clock, seconds since 1970; the model was loaded before.
        seconds: per stage, see :class:`gloam.runtime.bulk.stages.RunSummary`.
        error, kind: why the shard was not made, and the class of the error; both empty where it was.
    """

    shard: int
    node: str
    worker: int
    described: int
    failed: int
    run_pixels: int
    valid_pixels: int
    began: float
    ended: float
    seconds: Mapping[str, float]
    error: str = ""
    kind: str = ""


def look(start: Start) -> str:
    """A task: JSON of the store's job and of the model, or of why it cannot be loaded."""
    try:
        embedder, job = start.loaded()
    except GloamError as error:
        return json.dumps({"node": socket.gethostname(), "error": str(error), "kind": type(error).__name__})
    return json.dumps({"job": asdict(job), "backend": embedder.session.backend.to_dict(), "name": embedder.card.name})


class ShardWorker:
    """An actor that makes shards. It loads at the first one, so that what fails then is reported and not retried.

    Args:
        work: what to do.
        items: reference to the list of all images.
    """

    def __init__(self, work: Work, items: Any) -> None:
        self._work = work
        self._items = items
        self._opened: tuple[Embedder, Sequence[ImageItem]] | None = None

    def __call__(self, row: Mapping[str, Any]) -> dict[str, str]:
        """A row with a shard's number, to one with its report as JSON."""
        shard, summary = int(row["shard"]), ExtractSummary()
        began, pixels, failure = time.time(), (0, 0), {}
        try:
            self._opened = self._opened or self._open()
            began = time.time()
            with _counted_tries(self._work, shard):
                pixels = self._make(shard, summary, *self._opened)
        except GloamError as error:
            failure = {"error": str(error), "kind": type(error).__name__}
        report = ShardReport(
            shard=shard,
            node=socket.gethostname(),
            worker=os.getpid(),
            described=summary.described,
            failed=summary.failed,
            run_pixels=pixels[0],
            valid_pixels=pixels[1],
            began=began,
            ended=time.time(),
            seconds=summary.seconds,
            **failure,
        )
        return {"report": json.dumps(asdict(report))}

    def _open(self) -> tuple[Embedder, Sequence[ImageItem]]:
        work = self._work
        if not work.place.is_dir():
            raise StoreError(f"{work.folder}: not the output folder that the run began with; {SHARED}")
        if work.witness is not None and not readable(work.witness):
            raise DataError(f"{work.witness.name}: cannot be read here, but could where the run began; {SHARED}")
        embedder, job = work.start.loaded()
        found, wanted = (json.loads(json.dumps(asdict(what))) for what in (job, work.job))  # as in a manifest
        if differing := [key for key in wanted if found[key] != wanted[key]]:
            raise IncompatibleError(
                f"the model makes another store here than where the run began: another {', '.join(differing)}; {SHARED}"
            )
        items: Sequence[ImageItem] = import_ray().get(self._items)
        return embedder, items

    def _make(
        self, shard: int, summary: ExtractSummary, embedder: Embedder, items: Sequence[ImageItem]
    ) -> tuple[int, int]:
        work, options = self._work, self._work.start.options
        writer = ShardWriter(work.folder, work.job, options.shards(len(items)))
        maker = ShardMaker(items, embedder, writer, options, summary)
        if (rows := writer.rows(shard)) is None:
            maker.make([shard], work.threads)
        else:  # by a worker that died before it could say so
            summary.reuse(len(rows), writer.failed(shard), 0)
        return maker.run_pixels, maker.valid_pixels


def readable(item: ImageItem) -> bool:
    """Whether the bytes of an image can be had here."""
    try:
        return item.problem is None and bool(item.read())
    except ImageError:
        return False


@contextlib.contextmanager
def _counted_tries(work: Work, shard: int) -> Iterator[None]:
    """See :func:`count_try`."""
    tries = work.place / f"shard-{shard}"
    first = work.start.options.shard_size * shard
    count_try(tries, f"shard {shard}", f"its images begin with number {first} of the source")
    yield
    with contextlib.suppress(OSError):
        tries.unlink()
