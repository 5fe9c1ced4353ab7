"""Bulk extraction: decode in threads, normalise, bucket by shape, describe, write shards.

The bytes of a shard do not depend on timing: images are taken in order, batches are formed inside one shard only, and
a batch is run when it is full, or when too many images wait, by a rule that looks at counts alone; where the backend
runs several batches at once, their descriptors still go to their own places. So several tasks can share the shards of
one store, and whoever makes a shard makes the same bytes. Memory is bounded by the number of images in flight, never by
the number of images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gloam.data.images import decode_image
from gloam.data.sources import ImageItem, find_images
from gloam.errors import DataError, ImageError, UsageError
from gloam.files import sha256_bytes
from gloam.model_card import LITERATURE, InputRule
from gloam.record import to_json
from gloam.runtime.bulk.metrics import served_metrics
from gloam.runtime.bulk.stages import Buckets, InFlight, Queues, RunSummary, progress_bar, read_ahead, worker_threads
from gloam.runtime.descriptors.reading import INPUT_RULE
from gloam.runtime.descriptors.store import Job, Row, ShardWriter
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.output_folder import names_sha256


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
        return own if self.max_side is None and self.stretch is None else InputRule.of(self.max_side, self.stretch)

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

    def reuse(self, images: int, failed: int) -> None:
        """Count a shard that an earlier run has made."""
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
    decode_threads: int | None = None,
    metrics_port: int | None = None,
    progress: bool = False,
) -> ExtractSummary:
    """Describe images into a store; the same call carries on where an earlier one stopped.

    Args:
        items: images, in the order of the store; or a folder, list, kapture dataset or tar of them.
        embedder: the model.
        folder: of the store.
        options: another size than the model's own (none for a model that resizes itself), dtype of the stored unit
            vectors (``float16`` or ``float32``), shard size.
        part: the shards to make; others make the rest, into the same folder, at the same time or not. The summary
            counts the images of these shards.
        decode_threads: all cores by default.
        metrics_port: serve the state of the run for Prometheus.
        progress: show a bar on stderr where that is a terminal.

    Raises:
        UsageError: a size to resize to, for a model that resizes images itself.
        DataError: no images, or not one could be described.
        IncompatibleError: the folder holds a store of another job.
        StoreError: the disk is full; finished shards are kept.
    """
    if isinstance(items, str | Path):
        items = find_images(items)
    if not items:
        raise DataError("no images to describe")
    options = options or ExtractOptions()
    embedder = embedder.reading(options.read_by(embedder.input_rule))
    job = make_job(embedder, options, len(items), names_sha256(items))
    writer = ShardWriter.begin(folder, job, options.shards(len(items)))
    summary = ExtractSummary()
    maker = ShardMaker(items, embedder, writer, options, summary)
    own = [shard for shard in range(writer.shards) if part.has(shard)]
    summary.images = sum(len(options.span(shard, len(items))) for shard in own)
    with (
        served_metrics(metrics_port, summary, maker.queues),
        progress_bar(summary.images, progress) as bar,
        summary.timed("total"),
    ):
        maker.make(own, worker_threads(decode_threads), lambda done: bar.update(done - bar.n))
        if not writer.missing():
            complete(writer, summary)
    summary.backend = embedder.session.backend
    summary.padded_share = 1 - maker.valid_pixels / maker.run_pixels if maker.run_pixels else 0.0
    return summary


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


@dataclass(frozen=True)
class _Task:
    """One image of a shard."""

    shard: int
    index: int
    item: ImageItem


@dataclass(frozen=True)
class _Decoded:
    task: _Task
    row: Row
    shape: tuple[int, int] = (0, 0)
    pixels: npt.NDArray[np.uint8] | None = None


class ShardMaker:
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
        self.items = items
        self.embedder = embedder
        self.writer = writer
        self.options = options
        self.summary = summary
        self.queues = Queues()
        self.valid_pixels = 0
        self.run_pixels = 0
        # A generator holds gigabytes while it runs; normalisation alone needs no turn.
        self.translating: AbstractContextManager[Any] = nullcontext() if embedder.translator is None else Lock()
        self._buckets: Buckets[_Decoded] = Buckets(embedder.batch_size, self.queues)
        self._at_once = embedder.session.backend.runs_at_once
        self._running = InFlight(self._infer, self._at_once, summary)
        self._rows: list[Row] = []
        self._found: dict[int, npt.NDArray[np.float32]] = {}
        self._writing: Future[None] | None = None

    def make(self, shards: Iterable[int], threads: int, moved: Callable[[int], Any] | None = None) -> None:
        """Make those of the shards that are not there yet; on return they are on the disk.

        Args:
            shards: their numbers.
            threads: that decode.
            moved: told how many images are done, shard by shard.

        Raises:
            StoreError: the disk is full; finished shards are kept.
        """
        moved = moved or (lambda done: None)
        ahead = 2 * threads + self.embedder.batch_size * self._at_once
        with (
            ThreadPoolExecutor(1, "write") as disk,
            ThreadPoolExecutor(threads, "decode") as pool,
            self._running,
        ):
            for decoded in read_ahead(self._tasks(shards), self.decode, pool, ahead, self.summary, self.queues):
                self._take(decoded)
                if len(self._rows) == len(self._span(decoded.task.shard)):
                    self._close(decoded.task.shard, disk)
                    moved(self.summary.succeeded + self.summary.failed)
            self._wait()
        moved(self.summary.succeeded + self.summary.failed)  # what the last shards of an earlier run held

    def decode(self, task: _Task) -> _Decoded:
        """Read, decode, resize and normalise one image; a failure is a row, never an exception."""
        digest, item = "", task.item
        try:
            if item.problem is not None:
                return _Decoded(task, Row(item.name, status=item.problem))
            content = item.read()
            digest = sha256_bytes(content)
            rule = self.embedder.input_rule
            pixels = decode_image(content, max_side=rule.max_side, stretch=rule.stretch, fast=self.options.fast_decode)
            shape = self.embedder.shape_for(pixels)
            with self.translating:
                pixels = self.embedder.prepare(pixels)
        except ImageError as error:
            return _Decoded(task, Row(item.name, digest, status=item.explained(str(error))))
        except MemoryError:
            return _Decoded(task, Row(item.name, digest, status=item.explained("does not fit into memory")))
        height, width = pixels.shape[:2]
        return _Decoded(task, Row(item.name, digest, width, height, f"{shape[0]}x{shape[1]}"), shape, pixels)

    def _span(self, shard: int) -> range:
        return self.options.span(shard, len(self.items))

    def _tasks(self, shards: Iterable[int]) -> Iterator[_Task]:
        """The images of the shards that are not there yet."""
        for shard in shards:
            span = self._span(shard)
            if self.writer.done(shard):
                self.summary.reuse(len(span), self.writer.failed(shard))
                continue
            for index, item in enumerate(self.items[span.start : span.stop]):
                yield _Task(shard, index, item)

    def _take(self, decoded: _Decoded) -> None:
        """One image, in order: its row, and its place in a batch."""
        self._rows.append(decoded.row)
        if decoded.pixels is None:
            self.summary.failed += 1
        elif batch := self._buckets.add(decoded.shape, decoded):
            self._describe(batch)

    def _close(self, shard: int, disk: ThreadPoolExecutor) -> None:
        """The rows of every item and the descriptors of those that are ok, in order, to the disk."""
        for batch in self._buckets.rest():
            self._describe(batch)
        self._note(self._running.rest())
        descriptors = np.empty((len(self._found), self.embedder.dimension), np.dtype(self.options.dtype))
        for position, index in enumerate(sorted(self._found)):
            descriptors[position] = self._found[index]
        self._wait()  # one shard on its way at most
        self._writing = disk.submit(self.writer.write, shard, self._rows, descriptors)
        self.queues.writing = len(self._rows)
        self._rows, self._found = [], {}
        self._buckets = Buckets(self.embedder.batch_size, self.queues)

    def _wait(self) -> None:
        if self._writing is not None:
            with self.summary.timed("write"):
                self._writing.result()
            self._writing = None
            self.queues.writing = 0

    def _describe(self, batch: list[_Decoded]) -> None:
        self._note(self._running.add(batch))

    def _infer(self, batch: list[_Decoded]) -> npt.NDArray[np.float32]:
        return self.embedder.run_batch([decoded.pixels for decoded in batch if decoded.pixels is not None])

    def _note(self, finished: Sequence[tuple[list[_Decoded], Future[npt.NDArray[np.float32]]]]) -> None:
        for batch, future in finished:
            descriptors, shape = future.result(), batch[0].shape
            self.run_pixels += shape[0] * shape[1] * len(batch)
            self.valid_pixels += sum(decoded.row.height * decoded.row.width for decoded in batch)
            self.summary.described += len(batch)
            self._found.update({decoded.task.index: row for decoded, row in zip(batch, descriptors, strict=True)})
