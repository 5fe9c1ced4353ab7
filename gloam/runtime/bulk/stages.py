"""What every bulk run over images shares: decoding ahead in threads, batches of equal shape, and where the time went.

Nothing here looks at a clock to decide anything, so that what a run writes does not depend on timing.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, TypeVar

from gloam.errors import UsageError
from gloam.runtime.backends.facts import BackendFacts
from gloam.runtime.backends.processor import usable_cores

NAMED = 5  # damaged files in a line for people
WAITING = 32  # decoded images that may wait in buckets before the fullest is run

Task = TypeVar("Task")
Found = TypeVar("Found")


@dataclass
class RunSummary:
    """What a run did and where its time went.

    Attributes:
        images, failed: counts over all sources of the run, those of an earlier run included.
        reused: images that an earlier run had done.
        changed: images that were others when an earlier run used them; with their parts they are made again.
        retried: images that failed in an earlier run, and were tried again.
        damaged: files of an earlier run that were not as it wrote them; their parts are made again.
        seconds: wall time of the thread that drives the run: ``read`` waited for decoding, ``write`` waited for the
            disk; ``infer`` had the model at work, and overlaps the others where it runs several images at once;
            ``total`` is everything.
        backend: of the model, once the run is over.
    """

    images: int = 0
    failed: int = 0
    reused: int = 0
    changed: int = 0
    retried: int = 0
    damaged: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"total": 0.0, "read": 0.0, "infer": 0.0, "write": 0.0})
    backend: BackendFacts | None = None

    @property
    def succeeded(self) -> int:
        """Images that are done, so far."""
        raise NotImplementedError  # each kind of run counts its own

    @property
    def images_per_second(self) -> float:
        """Images of this run, not of an earlier one, per second."""
        raise NotImplementedError  # likewise

    def reuse(self, images: int, failed: int, reduced: int) -> None:
        """Count images that an earlier run has done, those of them that failed, and those that were made smaller."""
        raise NotImplementedError  # likewise

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        backend = {} if self.backend is None else self.backend.to_dict()
        rates = {"images_per_second": self.images_per_second, "idle_share": self.idle_share}
        return {**asdict(self), "backend": backend, **rates}

    @property
    def idle_share(self) -> float:
        """Part of the wall time in which the model waited."""
        return 1 - self.seconds["infer"] / self.seconds["total"] if self.seconds["total"] else 0.0

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count the time of a block as that of a stage."""
        clock = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - clock

    def said_resumed(self) -> str | None:
        """What was made again, in a line for people; None where nothing was looked at twice."""
        said = [
            f"{number} {what}"
            for number, what in (
                (self.changed, "changed since and made again"),
                (self.retried, "failed before and tried again"),
            )
            if number
        ]
        if self.damaged:
            said.append(
                f"damaged and made again: {', '.join(self.damaged[:NAMED])}" + "..." * (len(self.damaged) > NAMED)
            )
        return f"images of an earlier run: {'; '.join(said)}" if said else None

    def said(self) -> str:
        """The time split, in a line for people."""
        seconds = self.seconds
        return (
            f"{seconds['total']:.1f} s: waited for images {seconds['read']:.1f}, model {seconds['infer']:.1f}, "
            f"waited for the disk {seconds['write']:.1f}; the model was idle {self.idle_share:.0%} of the time"
        )


@dataclass
class Queues:
    """How many images are where at this moment.

    Attributes:
        reading: being decoded, or decoded and not yet taken.
        waiting: decoded, for a batch to fill.
        writing: pictures or shards on their way to the disk.
    """

    reading: int = 0
    waiting: int = 0
    writing: int = 0


def read_ahead(
    tasks: Iterable[Task],
    work: Callable[[Task], Found],
    pool: ThreadPoolExecutor,
    ahead: int,
    summary: RunSummary,
    queues: Queues,
) -> Iterator[Found]:
    """``work`` on every task in threads, results in order.

    Args:
        tasks: taken one by one, as room comes up.
        work: must raise nothing that the run can go on after.
        pool: the threads.
        ahead: tasks in flight at most: those at work and those whose results wait.
        summary, queues: kept up to date.
    """
    pending: deque[Future[Found]] = deque()
    rest = iter(tasks)
    try:
        while True:
            while len(pending) < ahead:
                try:
                    task = next(rest)
                except StopIteration:
                    break
                pending.append(pool.submit(work, task))
            if not pending:
                return
            queues.reading = len(pending)
            future = pending.popleft()
            if future.done():
                yield future.result()
                continue
            with summary.timed("read"):
                found = future.result()
            yield found
    finally:
        for future in pending:
            future.cancel()
        queues.reading = 0


class Buckets(Generic[Task]):
    """Decoded images by the shape that the model runs them at, until there are enough for a batch.

    Args:
        size: of a full batch.
        queues: kept up to date.
        most: images that may wait in all, before the fullest bucket is run as it is.
    """

    def __init__(self, size: int, queues: Queues, most: int = WAITING) -> None:
        self._size = size
        self._most = max(most, size)
        self._queues = queues
        self._buckets: dict[Hashable, list[Task]] = {}
        self._waiting = 0

    def add(self, shape: Hashable, image: Task) -> list[Task]:
        """Put an image in; the batch to run now, or nothing."""
        bucket = self._buckets.setdefault(shape, [])
        bucket.append(image)
        self._count(1)
        if len(bucket) == self._size:
            return self._take(shape)
        if self._waiting >= self._most:
            return self._take(max(self._buckets, key=lambda key: len(self._buckets[key])))
        return []

    def rest(self) -> Iterator[list[Task]]:
        """Batches of all that still waits."""
        for shape in self._buckets:
            if self._buckets[shape]:
                yield self._take(shape)

    def _take(self, shape: Hashable) -> list[Task]:
        batch, self._buckets[shape] = self._buckets[shape], []
        self._count(-len(batch))
        return batch

    def _count(self, change: int) -> None:
        self._waiting += change
        self._queues.waiting = self._waiting


class InFlight(Generic[Task, Found]):
    """Runs of a model, as many at once as its backend takes; what they give comes back in the order of the tasks.

    When a result comes back depends on counts alone. One at a time, the work is done by the calling thread.

    Args:
        work: runs the model; called by several threads where ``most`` is above 1.
        most: runs at once.
        summary: its ``infer`` counts the time in which at least one was under way.
    """

    def __init__(self, work: Callable[[Task], Found], most: int, summary: RunSummary) -> None:
        self._work = work
        self._most = most
        self._summary = summary
        self._pool: ThreadPoolExecutor | None = None
        self._flying: deque[tuple[Task, _Flight, Future[Found]]] = deque()
        self._counted = 0.0  # up to this moment

    def __enter__(self) -> InFlight[Task, Found]:
        if self._most > 1:
            self._pool = ThreadPoolExecutor(self._most, "infer")
        return self

    def __exit__(self, *stopped: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._flying.clear()

    def add(self, task: Task) -> list[tuple[Task, Future[Found]]]:
        """Start a run; tasks that are finished and not yet given back, each with its result or exception."""
        flight = _Flight()
        if self._pool is None:
            self._flying.append((task, flight, _done(flight, self._work, task)))
            return self.rest()
        self._flying.append((task, flight, self._pool.submit(flight.of, self._work, task)))
        return [self._land() for _ in range(len(self._flying) - self._most)]

    def rest(self) -> list[tuple[Task, Future[Found]]]:
        """Wait for all that is under way."""
        return [self._land() for _ in range(len(self._flying))]

    def _land(self) -> tuple[Task, Future[Found]]:
        task, flight, future = self._flying.popleft()
        wait([future])
        self._summary.seconds["infer"] += max(0.0, flight.end - max(flight.start, self._counted))
        self._counted = max(self._counted, flight.end)
        return task, future


class _Flight:
    """When a run began and ended."""

    start = end = 0.0

    def of(self, work: Callable[[Task], Found], task: Task) -> Found:
        self.start = time.perf_counter()
        try:
            return work(task)
        finally:
            self.end = time.perf_counter()


def _done(flight: _Flight, work: Callable[[Task], Found], task: Task) -> Future[Found]:
    """The work done here and now."""
    future: Future[Found] = Future()
    try:
        future.set_result(flight.of(work, task))
    except Exception as error:
        future.set_exception(error)
    return future


def worker_threads(wanted: int | None) -> int:
    """So many threads, or one per core.

    Raises:
        UsageError: a number below 0.
    """
    if wanted is not None and wanted < 0:
        raise UsageError(f"{wanted} threads: 1 or more are needed, or 0 for one per core")
    return wanted or usable_cores()
