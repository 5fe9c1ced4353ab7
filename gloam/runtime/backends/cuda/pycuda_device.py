"""The device interface on pycuda.

The GPU's primary context is retained, never one of pycuda's own (``pycuda.autoinit``): two contexts of one process
destroy each other's memory where PyTorch or TensorRT share the GPU. pycuda has no CUDA graphs; they are asked of the
driver itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

from gloam.errors import DeviceError, require
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
    refuse_copy,
)
from gloam.runtime.backends.cuda.driver import driver_version
from gloam.runtime.backends.cuda.graphs import DriverGraphs

NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING


class PyCudaDevice:
    """See :class:`gloam.runtime.backends.cuda.device.Device`.

    Raises:
        MissingExtraError: pycuda does not import.
        DeviceError: the GPU cannot be used.
    """

    layer = "pycuda"

    def __init__(self, ordinal: int = 0) -> None:
        self._driver = require("pycuda.driver", "pycuda", "reach the GPU by pycuda")
        self._graphs: DriverGraphs | None = None
        self._where = f"GPU {ordinal}"
        with self._errors("starting it"):
            self._driver.init()
            device = self._driver.Device(ordinal)
            self._context = device.retain_primary_context()
            major, minor = device.compute_capability()
            self.info = GpuInfo(device.name(), f"{major}.{minor}", int(device.total_memory()), driver_version())
        self._where = self.info.name

    def current(self) -> AbstractContextManager[None]:
        """Push the primary context, and pop it at the end: pycuda aborts a process that leaves one pushed."""
        return self._pushed()

    @contextmanager
    def _pushed(self) -> Iterator[None]:
        self._context.push()
        try:
            yield
        finally:
            self._context.pop()

    def allocate(self, nbytes: int) -> DeviceBuffer:
        """Memory of the GPU."""
        with self._errors(f"allocating {nbytes} bytes"):
            owner = self._driver.mem_alloc(max(nbytes, 1))
        return DeviceBuffer(int(owner), nbytes, owner)

    def pinned(self, nbytes: int) -> PinnedBuffer:
        """Page-locked memory."""
        with self._errors(f"allocating {nbytes} page-locked bytes"):
            array = self._driver.pagelocked_empty((max(nbytes, 1),), np.uint8)
        return PinnedBuffer(array[:nbytes], array.base)

    def stream(self) -> Stream:
        """A new stream."""
        with self._errors("creating a stream"):
            owner = self._driver.Stream(NON_BLOCKING)
        return Stream(int(owner.handle), owner)

    def event(self) -> Event:
        """A new event."""
        with self._errors("creating an event"):
            return Event(self._driver.Event(self._driver.event_flags.DISABLE_TIMING))

    def release(self, resource: Resource) -> None:
        """Free memory now; streams and events go with their last reference."""
        owner, resource.owner = resource.owner, None
        if owner is None:
            return
        with self._errors("freeing"):
            if isinstance(resource, DeviceBuffer):
                owner.free()
            elif isinstance(resource, PinnedBuffer):
                resource.array = np.empty(0, np.uint8)
                owner.free()
            elif isinstance(resource, Graph):
                self._driver_graphs().destroy(owner)

    def copy_to_device(self, target: DeviceBuffer, source: Array, stream: Stream) -> None:
        """Put a copy on the stream."""
        refuse_copy(source.nbytes, target.nbytes, source, "copy to the GPU")
        with self._errors("a copy to it"):
            self._driver.memcpy_htod_async(target.address, source, stream.owner)

    def copy_to_host(self, target: Array, source: DeviceBuffer, stream: Stream) -> None:
        """Put a copy on the stream."""
        refuse_copy(target.nbytes, source.nbytes, target, "copy from the GPU")
        with self._errors("a copy from it"):
            self._driver.memcpy_dtoh_async(target, source.address, stream.owner)

    def record(self, event: Event, stream: Stream) -> None:
        """Record the event."""
        with self._errors("recording an event"):
            event.owner.record(stream.owner)

    def wait(self, stream: Stream, event: Event) -> None:
        """Let the stream wait."""
        with self._errors("waiting for an event"):
            stream.owner.wait_for_event(event.owner)

    def synchronize(self, waited: Stream | Event | None = None) -> None:
        """Let the host wait."""
        with self._errors("the work on it"):
            if waited is None:
                self._context.synchronize()
            else:
                waited.owner.synchronize()

    def begin_capture(self, stream: Stream) -> None:
        """Begin to record."""
        self._driver_graphs().begin(stream.handle)

    def end_capture(self, stream: Stream) -> Graph:
        """The graph of what was recorded."""
        return Graph(self._driver_graphs().end(stream.handle))

    def launch(self, graph: Graph, stream: Stream) -> None:
        """Put the graph on the stream."""
        self._driver_graphs().launch(graph.owner, stream.handle)

    def close(self) -> None:
        """Release the primary context with the last reference to it."""
        self._context = None

    def _driver_graphs(self) -> DriverGraphs:
        if self._graphs is None:
            self._graphs = DriverGraphs()
        return self._graphs

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        driver: Any = self._driver
        try:
            yield
        except driver.MemoryError as error:
            raise DeviceMemoryError(f"{self._where}: out of memory while {doing}") from error
        except driver.Error as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise DeviceError(f"{self._where}: {doing} failed ({reason}); run `gloam doctor`") from error
