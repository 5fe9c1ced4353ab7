"""Device: the few CUDA operations that a runner needs, whichever package offers them.

Copies and launches are asynchronous: they are put on a stream, run there in order, and may be read on the host only
after the stream, or an event recorded on it, was waited for. Memory that a stream still uses is not released.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gloam.errors import DeviceError

Array = npt.NDArray[Any]


class DeviceMemoryError(DeviceError, MemoryError):
    """The GPU, or the host's page-locked memory, has no room for what was asked."""


@dataclass(frozen=True)
class GpuInfo:
    """The GPU of a device.

    Attributes:
        name: as the driver says it.
        compute_capability: ``major.minor``.
        memory: bytes in all.
        driver: the driver's version.
    """

    name: str
    compute_capability: str
    memory: int
    driver: str


@dataclass(eq=False)
class DeviceBuffer:
    """Memory of the GPU: its address and size in bytes; ``owner`` is the package's own object."""

    address: int
    nbytes: int
    owner: Any = None


@dataclass(eq=False)
class PinnedBuffer:
    """Page-locked memory of the host as uint8 ``[nbytes]``; only such memory is copied while a GPU computes."""

    array: npt.NDArray[np.uint8]
    owner: Any = None

    def view(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """The first bytes as an array of that shape and dtype; writing to it writes to the buffer."""
        size = math.prod(shape) * dtype.itemsize
        if size > self.array.nbytes:
            raise DeviceError(f"a page-locked buffer of {self.array.nbytes} bytes cannot hold {size}")
        return self.array[:size].view(dtype).reshape(shape)


@dataclass(eq=False)
class Stream:
    """A queue of the GPU; ``handle`` is its ``cudaStream_t`` as a number."""

    handle: int
    owner: Any = None


@dataclass(eq=False)
class Event:
    """A mark on a stream."""

    owner: Any = None


@dataclass(eq=False)
class Graph:
    """Work of a stream, captured once and launched as one."""

    owner: Any = None


Resource = DeviceBuffer | PinnedBuffer | Stream | Event | Graph


class Device(Protocol):
    """One GPU. Every call but ``current`` and ``close`` happens inside ``with device.current():``.

    Attributes:
        layer: the package behind it, ``cuda-python`` or ``pycuda``.
        info: the GPU.
    """

    layer: str
    info: GpuInfo

    def current(self) -> AbstractContextManager[None]:
        """Make the GPU's primary context, the one that PyTorch and TensorRT use, this thread's."""
        ...

    def allocate(self, nbytes: int) -> DeviceBuffer:
        """Memory of the GPU, aligned to 256 bytes; DeviceMemoryError where there is none left."""
        ...

    def pinned(self, nbytes: int) -> PinnedBuffer:
        """Page-locked memory of the host; DeviceMemoryError where there is none left."""
        ...

    def stream(self) -> Stream:
        """A new stream that does not wait for the default one."""
        ...

    def event(self) -> Event:
        """A new event, without timing."""
        ...

    def release(self, resource: Resource) -> None:
        """Give back memory, a stream, an event or a graph that nothing uses any more."""
        ...

    def copy_to_device(self, target: DeviceBuffer, source: Array, stream: Stream) -> None:
        """Put a copy of a contiguous view of page-locked memory on the stream; the view must stay as it is."""
        ...

    def copy_to_host(self, target: Array, source: DeviceBuffer, stream: Stream) -> None:
        """Put a copy into a contiguous view of page-locked memory on the stream."""
        ...

    def record(self, event: Event, stream: Stream) -> None:
        """Set the event to what the stream holds now."""
        ...

    def wait(self, stream: Stream, event: Event) -> None:
        """What is put on the stream from now on runs after the event; the host does not wait."""
        ...

    def synchronize(self, waited: Stream | Event | None = None) -> None:
        """Let the host wait for a stream, an event, or everything."""
        ...

    def begin_capture(self, stream: Stream) -> None:
        """From now on the stream records instead of running."""
        ...

    def end_capture(self, stream: Stream) -> Graph:
        """What was recorded, ready to launch; DeviceError where it cannot be a graph."""
        ...

    def launch(self, graph: Graph, stream: Stream) -> None:
        """Put a captured graph on a stream."""
        ...

    def close(self) -> None:
        """Leave the primary context; nothing of the device is used afterwards."""
        ...


def refuse_copy(nbytes: int, room: int, source: Array, what: str) -> None:
    """Refuse a copy that does not fit or is not contiguous, before the driver writes beyond a buffer."""
    if nbytes > room:
        raise DeviceError(f"{what}: {nbytes} bytes do not fit a buffer of {room}")
    if not source.flags.c_contiguous:
        raise DeviceError(f"{what}: an asynchronous copy needs contiguous memory")
