"""A GPU of numpy arrays that does nothing before it must, and refuses what a real one would let corrupt memory.

Work put on a stream runs when somebody waits for it, with the content that memory has then: a host that reads too early
finds poison, one that overwrites too early sees its own overwriting. Addresses are never used twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gloam.errors import DeviceError
from gloam.runtime.backends.cuda.device import (
    Array,
    DeviceBuffer,
    DeviceMemoryError,
    Event,
    GpuInfo,
    Graph,
    PinnedBuffer,
    Resource,
    Stream,
)

POISON = 0xCD


class Misuse(Exception):
    """What would corrupt memory or read garbage on a real GPU; no GloamError, so that nothing catches it."""


@dataclass
class Block:
    """An allocation, of the GPU or page-locked."""

    data: np.ndarray
    alive: bool = True


@dataclass
class Work:
    """One operation on a stream; ``poisoned`` is host memory that holds nothing until it has run."""

    run: Callable[[], None]
    touches: tuple[Block, ...] = ()
    poisoned: Array | None = None


@dataclass
class Queue:
    """A stream: what waits, how much has run, and what is being recorded."""

    waiting: list[Work] = field(default_factory=list)
    done: int = 0
    capture: list[Work] | None = None


class FakeDevice:
    """See the module; ``memory`` bytes are all that can be allocated on it."""

    layer = "fake"

    def __init__(self, name: str = "NVIDIA Fake", capability: str = "9.0", memory: int = 1 << 30) -> None:
        self.info = GpuInfo(name, capability, memory, "580.1")
        self.used = 0
        self.launched_graphs = 0
        self.most_busy = 0  # streams with work at one time
        self._blocks: dict[int, Block] = {}
        self._pinned: list[Block] = []
        self._queues: dict[int, Queue] = {}
        self._next = 1 << 20
        self._current = 0

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        self._current += 1
        try:
            yield
        finally:
            self._current -= 1

    def allocate(self, nbytes: int) -> DeviceBuffer:
        self._ready("allocate")
        if self.used + nbytes > self.info.memory:
            raise DeviceMemoryError(f"{self.info.name}: out of memory while allocating {nbytes} bytes")
        self.used += nbytes
        address = self._next
        self._next += -(-nbytes // 256) * 256 + 4096  # a gap, so that running over an end is seen
        self._blocks[address] = Block(np.full(nbytes, POISON, np.uint8))
        return DeviceBuffer(address, nbytes, address)

    def pinned(self, nbytes: int) -> PinnedBuffer:
        self._ready("pinned")
        block = Block(np.full(nbytes, POISON, np.uint8))
        self._pinned.append(block)
        return PinnedBuffer(block.data, block)

    def stream(self) -> Stream:
        self._ready("stream")
        handle = 7000 + len(self._queues)
        self._queues[handle] = Queue()
        return Stream(handle, handle)

    def event(self) -> Event:
        self._ready("event")
        return Event([])

    def release(self, resource: Resource) -> None:
        self._ready("release")
        if resource.owner is None:
            raise Misuse("released twice")
        if isinstance(resource, DeviceBuffer):
            self._free(self._blocks[resource.owner])
            self.used -= resource.nbytes
        elif isinstance(resource, PinnedBuffer):
            self._free(resource.owner)
        elif isinstance(resource, Graph):
            resource.owner.clear()
        resource.owner = None

    def memory(self, address: int, nbytes: int) -> Array:
        """Bytes of the GPU, where all of them belong to one living allocation."""
        block = self._block(address, nbytes)
        start = next(start for start, found in self._blocks.items() if found is block)
        return block.data[address - start : address - start + nbytes]

    def copy_to_device(self, target: DeviceBuffer, source: Array, stream: Stream) -> None:
        host, device = self._locked(source), self._block(target.address, source.nbytes)

        def run() -> None:
            self.memory(target.address, source.nbytes)[...] = np.ascontiguousarray(source).view(np.uint8).reshape(-1)

        self.enqueue(stream.handle, Work(run, (host, device)))

    def copy_to_host(self, target: Array, source: DeviceBuffer, stream: Stream) -> None:
        host, device = self._locked(target), self._block(source.address, target.nbytes)

        def run() -> None:
            target.reshape(-1).view(np.uint8)[...] = self.memory(source.address, target.nbytes)

        self.enqueue(stream.handle, Work(run, (host, device), target))

    def enqueue(self, handle: int, work: Work) -> None:
        """Put work on a stream by its handle, or record it."""
        self._ready("enqueue")
        if handle not in self._queues:
            raise Misuse(f"{handle} is no stream")
        queue = self._queues[handle]
        if queue.capture is not None:
            queue.capture.append(work)
            return
        if work.poisoned is not None:
            work.poisoned.reshape(-1).view(np.uint8)[...] = POISON
        queue.waiting.append(work)
        self.most_busy = max(self.most_busy, sum(bool(queue.waiting) for queue in self._queues.values()))

    def record(self, event: Event, stream: Stream) -> None:
        self._ready("record")
        queue = self._queues[stream.handle]
        event.owner[:] = [queue, queue.done + len(queue.waiting)]

    def wait(self, stream: Stream, event: Event) -> None:
        mark = list(event.owner)
        self.enqueue(stream.handle, Work(lambda: self._run(*mark)))

    def synchronize(self, waited: Stream | Event | None = None) -> None:
        self._ready("synchronize")
        if isinstance(waited, Event):
            if waited.owner:
                self._run(*waited.owner)
            return
        for handle, queue in self._queues.items():
            if waited is None or handle == waited.handle:
                self._run(queue, queue.done + len(queue.waiting))

    def begin_capture(self, stream: Stream) -> None:
        self._ready("begin_capture")
        self._queues[stream.handle].capture = []

    def end_capture(self, stream: Stream) -> Graph:
        queue = self._queues[stream.handle]
        if queue.capture is None:
            raise DeviceError("nothing is being captured")
        recorded, queue.capture = queue.capture, None
        return Graph(recorded)

    def launch(self, graph: Graph, stream: Stream) -> None:
        if graph.owner is None:
            raise Misuse("a released graph was launched")
        self.launched_graphs += 1
        for work in graph.owner:
            self._living(work.touches, "a captured graph")
            self.enqueue(stream.handle, work)

    def close(self) -> None:
        return None

    def _ready(self, call: str) -> None:
        if not self._current:
            raise Misuse(f"{call} without the context being current")
        if call in ("allocate", "pinned", "synchronize") and any(q.capture is not None for q in self._queues.values()):
            raise Misuse(f"{call} while a stream is captured")

    def _run(self, queue: Queue, until: int) -> None:
        while queue.waiting and queue.done < until:
            work = queue.waiting.pop(0)
            queue.done += 1
            self._living(work.touches, "work on a stream")
            work.run()

    def _free(self, block: Block) -> None:
        self._living((block,), "a release")
        for queue in self._queues.values():
            if any(touched is block for work in queue.waiting for touched in work.touches):
                raise Misuse("memory was freed while a stream still uses it")
        block.alive = False
        block.data[...] = POISON

    def _block(self, address: int, nbytes: int) -> Block:
        for start, block in self._blocks.items():
            if start <= address < start + max(len(block.data), 1):
                self._living((block,), f"address {address}")
                if address + nbytes > start + len(block.data):
                    raise Misuse(f"{nbytes} bytes run over an allocation of {len(block.data)}")
                return block
        raise Misuse(f"{address} is no address of this GPU")

    def _locked(self, array: Array) -> Block:
        for block in self._pinned:
            if np.shares_memory(block.data, array):
                self._living((block,), "page-locked memory")
                return block
        raise Misuse("an asynchronous copy of memory that is not page-locked")

    @staticmethod
    def _living(blocks: Sequence[Block], what: str) -> None:
        if not all(block.alive for block in blocks):
            raise Misuse(f"use after free: {what}")


def expected_sums(images: np.ndarray, sizes: np.ndarray, dimension: int) -> Any:
    """What the fake engine computes: the sum of each image's valid pixels, times 1, 2, .. ``dimension``."""
    sums = [float(image[:h, :w].astype(np.float64).sum()) for image, (h, w) in zip(images, sizes, strict=True)]
    return (np.asarray(sums)[:, None] * np.arange(1, dimension + 1) / 1e3).astype(np.float32)
