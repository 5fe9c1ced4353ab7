"""The one driver of bulk runs: images in, a result or a reason of each out, part by part.

Images are read, decoded and prepared in threads, run in batches of one shape inside one part, and handed on; a failure
of one image is a row, never a stop. When a batch is run depends on counts alone, so what a part becomes does not depend
on timing, and neither does it matter who makes which part, nor when. Memory is bounded by the images in flight.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from gloam.data.sources import ImageItem
from gloam.errors import ImageError
from gloam.files import sha256_bytes
from gloam.runtime.bulk.stages import Buckets, InFlight, Queues, RunSummary, read_ahead

NO_ROOM = "does not fit into memory"

Pixels = npt.NDArray[np.uint8]
Note = TypeVar("Note")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Task:
    """One image of a part.

    Attributes:
        part: its number.
        index: of the image in the whole list.
        item: the image.
    """

    part: int
    index: int
    item: ImageItem


@dataclass(frozen=True)
class Prepared(Generic[Note]):
    """What became of one image on the way to the model.

    Attributes:
        task: the image.
        sha256: of its bytes; empty where they could not be read.
        stamp: see :class:`gloam.runtime.output_folder.SourceStamps`.
        pixels: what the model takes; None where it has nothing to do.
        shape: (H, W) that the model runs it at.
        reason: why it failed; None where it did not.
        note: whatever the run wants to know of it.
    """

    task: Task
    sha256: str = ""
    stamp: str = ""
    pixels: Pixels | None = None
    shape: tuple[int, int] = (0, 0)
    reason: str | None = None
    note: Note | None = None


class Driver(ABC, Generic[Note, Result]):
    """A bulk run's stages.

    Args:
        items: all images of the run, in order.
        batch_size: images that the model takes at once.
        at_once: batches that run at the same time.
        summary: kept up to date in its times.

    Attributes:
        queues: how many images are where at this moment.
    """

    def __init__(self, items: Sequence[ImageItem], batch_size: int, at_once: int, summary: RunSummary) -> None:
        self.items = items
        self.queues = Queues()
        self._summary = summary
        self._batch_size = batch_size
        self._at_once = at_once
        self._buckets: Buckets[Prepared[Note]] = Buckets(batch_size, self.queues)
        self._running: InFlight[list[Prepared[Note]], Sequence[Result]] = InFlight(self._infer, at_once, summary)

    @abstractmethod
    def span(self, part: int) -> range:
        """Positions in the list of a part's images."""

    @abstractmethod
    def prepare(self, task: Task, content: bytes, sha256: str) -> tuple[Pixels | None, tuple[int, int], Note | None]:
        """In a thread: an image's bytes to what the model takes, the shape to run it at, and a note. Without pixels the
        model has nothing to do.

        Raises:
            ImageError, MemoryError: the image becomes a failure.
        """

    @abstractmethod
    def infer(self, images: list[Pixels]) -> Sequence[Result]:
        """Run the model on images of one shape; in one of several threads where the backend runs several at once."""

    @abstractmethod
    def opened(self, part: int) -> None:
        """The first image of a part comes next."""

    @abstractmethod
    def made(self, image: Prepared[Note], result: Result) -> None:
        """Take what the model made of an image; in an order that is the same every time."""

    @abstractmethod
    def idle(self, image: Prepared[Note]) -> None:
        """Take an image that needed no model: it failed, or :meth:`prepare` found it done."""

    @abstractmethod
    def closed(self, part: int) -> None:
        """Every image of a part was taken."""

    def problem(self, task: Task) -> str | None:
        """Why an image is not even read."""
        return task.item.problem

    def drive(self, parts: Iterable[int], threads: int) -> Generator[Task]:
        """Make parts.

        Args:
            parts: their numbers.
            threads: that read and decode.

        Yields:
            each image once it was taken, in order; that of a part which is then closed, after it.
        """
        tasks = (Task(part, index, self.items[index]) for part in parts for index in self.span(part))
        left = 0
        with ThreadPoolExecutor(threads, "decode") as pool, self._running:
            for image in read_ahead(tasks, self.read, pool, self.ahead(threads), self._summary, self.queues):
                part = image.task.part
                if not left:
                    self.opened(part)
                    left = len(self.span(part))
                left -= 1
                if image.pixels is None:
                    self.idle(image)
                elif batch := self._buckets.add(image.shape, image):
                    self._land(self._running.add(batch))
                if not left:
                    for batch in self._buckets.rest():
                        self._land(self._running.add(batch))
                    self._land(self._running.rest())
                    self.closed(part)
                    self._buckets = Buckets(self._batch_size, self.queues)
                yield image.task

    def ahead(self, threads: int) -> int:
        """Images in flight between reading and the model."""
        return 2 * threads + self._batch_size * self._at_once

    def read(self, task: Task) -> Prepared[Note]:
        """Read and prepare one image; a failure is a reason, never an exception."""
        if (problem := self.problem(task)) is not None:
            return Prepared(task, reason=problem)
        found = task.item.stamp()  # before the bytes: a change between the two makes a later run read again
        stamp = "" if found is None else found.text
        try:
            return self.prepared(task, task.item.read(), stamp)
        except (ImageError, MemoryError) as error:
            return Prepared(task, stamp=stamp, reason=_reason(task.item, error))

    def prepared(self, task: Task, content: bytes, stamp: str = "") -> Prepared[Note]:
        """An image's bytes to what the model takes, or a reason."""
        digest = sha256_bytes(content)
        try:
            pixels, shape, note = self.prepare(task, content, digest)
        except (ImageError, MemoryError) as error:
            return Prepared(task, digest, stamp, reason=_reason(task.item, error))
        return Prepared(task, digest, stamp, pixels, shape, note=note)

    def _infer(self, batch: list[Prepared[Note]]) -> Sequence[Result]:
        return self.infer([image.pixels for image in batch if image.pixels is not None])

    def _land(self, finished: Sequence[tuple[list[Prepared[Note]], Future[Sequence[Result]]]]) -> None:
        for batch, future in finished:
            try:
                results = future.result()
            except (ImageError, MemoryError) as error:
                if len(batch) > 1:  # one of them is at fault: each for itself
                    for image in batch:
                        self._land([([image], self._alone(image))])
                    continue
                self.idle(replace(batch[0], pixels=None, reason=_reason(batch[0].task.item, error)))
                continue
            for image, result in zip(batch, results, strict=True):
                self.made(image, result)

    def _alone(self, image: Prepared[Note]) -> Future[Sequence[Result]]:
        """One image run here and now, so that it keeps its place among the others."""
        with InFlight(self._infer, 1, self._summary) as one:
            return one.add([image])[0][1]


def _reason(item: ImageItem, error: Exception) -> str:
    return item.explained(NO_ROOM if isinstance(error, MemoryError) else str(error))
