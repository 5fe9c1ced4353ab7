"""Bulk extraction: images to the shards of a store, described by the driver of all bulk runs.

Whoever makes a shard makes the same bytes, so several tasks can share the shards of one store. What a shard is made of
is part of it: a later run looks at each image again, and makes those shards whose images are others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gloam.data.images import decode_image
from gloam.data.sources import ImageItem, find_images
from gloam.errors import DataError, UsageError
from gloam.heartbeat import progress_bar
from gloam.model_card import LITERATURE, InputRule
from gloam.record import to_json
from gloam.runtime.bulk.driver import Driver, Pixels, Prepared, Task
from gloam.runtime.bulk.metrics import served_metrics
from gloam.runtime.bulk.resume import Resuming, look_again
from gloam.runtime.bulk.stages import Queues, RunSummary, worker_threads
from gloam.runtime.descriptors.reading import INPUT_RULE
from gloam.runtime.descriptors.shard_writer import ShardWriter
from gloam.runtime.descriptors.store import OK, Job, Row
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.output_folder import EarlierImage, SourceStamps, names_sha256

Descriptor = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ExtractOptions:
    """What decides the bytes of a store, beside the model and the list.

    Attributes:
        max_side: longer side, pixels; 0 keeps native sizes.
        stretch: exact (width, height); excludes ``max_side``. Without either the model's own input rule holds; another
            gives descriptors of another space.
        dtype: of the stored descriptors.
        shard_size: images per shard, the unit of work and resume.
        fast_decode: unpack large JPEGs at a reduced scale, see :func:`gloam.data.images.decode_image`.
    """

    max_side: int | None = None
    stretch: tuple[int, int] | None = None
    dtype: Literal["float16", "float32"] = "float16"  # cosine loss about 1e-7, half the disk
    shard_size: int = 1000
    fast_decode: bool = False  # it changes descriptors a little, so it must be asked for

    def __post_init__(self) -> None:
        self.read_by(LITERATURE)
        if self.shard_size < 1:
            raise UsageError("--shard-size must be 1 or more")
        if self.dtype not in ("float16", "float32"):
            raise UsageError(f"unknown dtype {self.dtype!r}; choose float16 or float32")

    def read_by(self, own: InputRule) -> InputRule:
        """The input rule that holds for a model whose own is ``own``."""
        return own if self.max_side is None and self.stretch is None else own.sized(self.max_side, self.stretch)

    def shards(self, images: int) -> int:
        """How many shards so many images make."""
        return -(-images // self.shard_size)

    def span(self, shard: int, images: int) -> range:
        """Positions in the list of images of one shard's."""
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, images))


@dataclass(frozen=True)
class Part:
    """One task's part of the shards, where several tasks write into one store: every ``count``-th from ``index`` on.

    Attributes:
        index: of the task, from 0.
        count: of tasks.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise UsageError(
                f"--shard-index {self.index} with --num-shards {self.count}: the index runs from 0 to {self.count - 1}"
            )

    def has(self, shard: int) -> bool:
        """Whether the shard is this task's."""
        return shard % self.count == self.index


WHOLE = Part(0, 1)


@dataclass
class ExtractSummary(RunSummary):
    """What an extraction did and where its time went.

    Attributes:
        described: images with a descriptor, those of an earlier run included.
        padded_share: part of the pixels run that was padding.
        complete: whether the store is whole; where tasks share it, the last of them completes it.
    """

    described: int = 0
    padded_share: float = 0.0
    complete: bool = False

    @property
    def succeeded(self) -> int:
        """See :class:`RunSummary`."""
        return self.described

    def reuse(self, images: int, failed: int, reduced: int) -> None:
        """See :class:`RunSummary`."""
        self.reused += images
        self.failed += failed
        self.described += images - failed

    @property
    def images_per_second(self) -> float:
        """Images of this run, not of an earlier one, per second."""
        return (self.images - self.reused) / max(self.seconds["total"], 1e-9)


def extract(
    items: Sequence[ImageItem] | str | Path,
    embedder: Embedder,
    folder: str | Path,
    options: ExtractOptions | None = None,
    *,
    part: Part = WHOLE,
    grow: bool = False,
    verify_sources: bool = False,
    decode_threads: int | None = None,
    metrics_port: int | None = None,
    progress: bool = False,
) -> ExtractSummary:
    """Describe images into a store; the same call carries on where an earlier one stopped.

    Shards whose images are what they were, by their content, are kept; failed images are tried again. Of a store that
    is complete and needs nothing, no file is touched.

    Args:
        items: images, in the order of the store; or a folder, list, kapture dataset or tar of them.
        embedder: the model.
        folder: of the store.
        options: another size than the model's own (none for a model that resizes itself), dtype of the stored unit
            vectors (``float16`` or ``float32``), shard size.
        part: the shards to make; others make the rest, into the same folder, at the same time or not. The summary
            counts the images of these shards.
        grow: go on with other images than the store was begun with; shards that hold the same ones are kept.
        verify_sources: read every image again, also where size, time and number of its file say that it is unchanged.
        decode_threads: all cores by default.
        metrics_port: serve the state of the run for Prometheus.
        progress: show a bar on stderr where that is a terminal.

    Raises:
        UsageError: a size to resize to, for a model that resizes images itself.
        DataError: no images, or not one could be described.
        IncompatibleError: the folder holds a store of another job, or, without ``grow``, of other images.
        StoreError: the disk is full; finished shards are kept.
    """
    if isinstance(items, str | Path):
        items = find_images(items)
    if not items:
        raise DataError("no images to describe")
    options = options or ExtractOptions()
    embedder = embedder.reading(options.read_by(embedder.input_rule))
    job = make_job(embedder, options, len(items), names_sha256(items))
    writer = ShardWriter.begin(folder, job, options.shards(len(items)), grow=grow)
    summary = ExtractSummary()
    maker = ShardMaker(items, embedder, writer, options, summary)
    own = [shard for shard in range(writer.shards) if part.has(shard)]
    summary.images = sum(len(options.span(shard, len(items))) for shard in own)
    threads, resuming = worker_threads(decode_threads), Resuming(grow, verify_sources, progress)
    with (
        served_metrics(metrics_port, summary, maker.queues),
        progress_bar(summary.images, shown=progress) as bar,
        summary.timed("total"),
    ):
        stale = stale_shards(items, writer, options, own, maker.tried, resuming, threads, summary, maker.queues)
        bar.update(summary.reused)
        maker.make(stale, threads, bar.update)
        if not writer.missing():
            complete(writer, summary)
    summary.backend = embedder.session.backend
    summary.padded_share = 1 - maker.valid_pixels / maker.run_pixels if maker.run_pixels else 0.0
    return summary


def stale_shards(
    items: Sequence[ImageItem],
    writer: ShardWriter,
    options: ExtractOptions,
    own: Sequence[int],
    tried: Callable[[ImageItem, bytes], str | None] | None,
    resuming: Resuming,
    threads: int,
    summary: ExtractSummary,
    queues: Queues,
) -> list[int]:
    """The shards, of ``own``, that are still or again to be made; the store states that they are missing.

    Raises:
        as :func:`gloam.runtime.bulk.resume.look_again`, whose other arguments these are.
    """

    def earlier(shard: int) -> list[EarlierImage] | None:
        rows = writer.rows(shard)
        return None if rows is None else [_earlier(row) for row in rows]

    spans = ((shard, options.span(shard, len(items))) for shard in own)
    stamps = SourceStamps(writer.folder)
    stale = look_again(items, spans, earlier, stamps, tried, resuming, threads, summary, queues)
    summary.damaged = list(writer.damaged)
    writer.retract(stale)
    stamps.keep(writer.shards)
    return stale


def _earlier(row: Row) -> EarlierImage:
    failure = None if row.status == OK else row.status
    # What has a shape came as far as the model, which does the same with the same bytes, if it has the memory.
    return EarlierImage(row.image, row.sha256, failure, bool(row.shape) and "memory" not in row.status)


def make_job(embedder: Embedder, options: ExtractOptions, images: int, images_sha256: str) -> Job:
    """What decides a store's content.

    Args:
        embedder, options: that describe the images; the embedder's input rule is the options'.
        images, images_sha256: how many they are, and :func:`names_sha256` of their list.
    """
    return Job(
        space=embedder.space,
        fingerprint=embedder.fingerprint,
        dimension=embedder.dimension,
        metric=embedder.card.metric,
        images_sha256=images_sha256,
        images=images,
        options=_job_options(options, embedder),
        untranslated_space=None if embedder.translated_by is None else embedder.untranslated_space,
    )


def complete(writer: ShardWriter, summary: ExtractSummary) -> None:
    """State a store complete whose shards are all there.

    Raises:
        StoreError: one is missing or damaged.
        DataError: not one image could be described.
    """
    with summary.timed("write"):
        failed = writer.finish()
    summary.complete = True
    if failed == writer.job.images:
        raise DataError(f"none of {failed} images could be described; the reasons are in {writer.folder}/failures.csv")


def _job_options(options: ExtractOptions, embedder: Embedder) -> dict[str, Any]:
    rule = embedder.input_rule
    stated = {
        **asdict(options),
        "max_side": rule.max_side,
        "stretch": rule.stretch,
        "photometric": asdict(embedder.card.photometric),
        "batch": embedder.batch_size,
    }
    if not options.fast_decode:  # absent otherwise: stores of fully unpacked images stay what they were
        del stated["fast_decode"]
    if embedder.translated_by is not None:  # likewise
        stated["translate"] = embedder.translated_by
    if embedder.card.resize is not None:  # likewise; by the graph, in place of max_side
        stated["resize"] = embedder.card.resize
    elif rule != LITERATURE:  # likewise; what tells such a store from one whose space knows nothing of sizes
        stated[INPUT_RULE] = to_json(rule)
    return stated


class ShardMaker(Driver[None, Descriptor]):
    """The stages that turn images into shards, and their counters.

    Args:
        items: all images of the store, in order.
        embedder: the model.
        writer: of the store, whose job is of these items, this embedder and these options.
        options: of the job.
        summary: kept up to date, but for its total time.

    Attributes:
        queues: how many images are where at this moment.
        run_pixels, valid_pixels: pixels that the model has run, and those of them that are no padding.
    """

    def __init__(
        self,
        items: Sequence[ImageItem],
        embedder: Embedder,
        writer: ShardWriter,
        options: ExtractOptions,
        summary: ExtractSummary,
    ) -> None:
        super().__init__(items, embedder.batch_size, embedder.session.backend.runs_at_once, summary)
        self.embedder = embedder
        self.writer = writer
        self.options = options
        self.summary = summary
        self.valid_pixels = 0
        self.run_pixels = 0
        # A generator holds gigabytes while it runs; normalisation alone needs no turn.
        self.translating: AbstractContextManager[Any] = nullcontext() if embedder.translator is None else Lock()
        self._stamps = SourceStamps(writer.folder)
        self._rows: dict[int, tuple[Row, str]] = {}
        self._found: dict[int, Descriptor] = {}
        self._disk: ThreadPoolExecutor | None = None
        self._writing: Future[None] | None = None

    def make(self, shards: Iterable[int], threads: int, moved: Callable[[int], Any] | None = None) -> None:
        """Make shards; on return they are on the disk.

        Args:
            shards: their numbers.
            threads: that decode.
            moved: told of every image that is done.

        Raises:
            StoreError: the disk is full; finished shards are kept.
        """
        with ThreadPoolExecutor(1, "write") as self._disk:
            with closing(self.drive(shards, threads)) as images:
                for _ in images:
                    if moved is not None:
                        moved(1)
            self._wait()

    def tried(self, item: ImageItem, content: bytes) -> str | None:
        """Why an image's bytes cannot be described; None where they can."""
        return self.prepared(Task(0, 0, item), content).reason

    def span(self, part: int) -> range:
        """See :class:`Driver`."""
        return self.options.span(part, len(self.items))

    def prepare(self, task: Task, content: bytes, sha256: str) -> tuple[Pixels, tuple[int, int], None]:
        """See :class:`Driver`."""
        rule = self.embedder.input_rule
        pixels = decode_image(content, rule=rule, fast=self.options.fast_decode)
        shape = self.embedder.shape_for(pixels)
        with self.translating:
            return self.embedder.prepare(pixels), shape, None

    def infer(self, images: list[Pixels]) -> Sequence[Descriptor]:
        """See :class:`Driver`."""
        return list(self.embedder.run_batch(images))

    def opened(self, part: int) -> None:
        """See :class:`Driver`."""
        self._rows, self._found = {}, {}

    def made(self, image: Prepared[None], result: Descriptor) -> None:
        """See :class:`Driver`."""
        assert image.pixels is not None  # the model has run it
        height, width = image.pixels.shape[:2]
        self.run_pixels += image.shape[0] * image.shape[1]
        self.valid_pixels += height * width
        finite = bool(np.isfinite(result).all())
        self._row(image, width, height, OK if finite else "its descriptor is not finite")
        if finite:
            self.summary.described += 1
            self._found[image.task.index] = result

    def idle(self, image: Prepared[None]) -> None:
        """See :class:`Driver`."""
        self._row(image, 0, 0, image.reason or OK)

    def closed(self, part: int) -> None:
        """See :class:`Driver`: every image's row and the descriptors of those that are ok, in order, to the disk."""
        descriptors = np.empty((len(self._found), self.embedder.dimension), np.dtype(self.options.dtype))
        for position, index in enumerate(sorted(self._found)):
            descriptors[position] = self._found[index]
        rows = [self._rows[index] for index in sorted(self._rows)]
        self._wait()  # one shard on its way at most
        assert self._disk is not None  # by make
        self._writing = self._disk.submit(self._write, part, rows, descriptors)
        self.queues.writing = len(rows)

    def _row(self, image: Prepared[None], width: int, height: int, status: str) -> None:
        shape = f"{image.shape[0]}x{image.shape[1]}" if image.shape[0] else ""
        row = Row(image.task.item.name, image.sha256, width, height, shape, status)
        self._rows[image.task.index] = (row, image.stamp)
        self.summary.failed += status != OK

    def _write(self, shard: int, rows: Sequence[tuple[Row, str]], descriptors: npt.NDArray[Any]) -> None:
        self._stamps.write(shard, [stamp for _, stamp in rows])
        self.writer.write(shard, [row for row, _ in rows], descriptors)

    def _wait(self) -> None:
        if self._writing is not None:
            with self.summary.timed("write"):
                self._writing.result()
            self._writing = None
            self.queues.writing = 0
