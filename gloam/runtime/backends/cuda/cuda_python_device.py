"""The device interface on cuda-python (``cuda.bindings.runtime``), which needs no compiler to install."""

from __future__ import annotations

import ctypes
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


class CudaPythonDevice:
    """See :class:`gloam.runtime.backends.cuda.device.Device`. The CUDA runtime works in the GPU's
    primary context by itself.

    Raises:
        MissingExtraError: cuda-python does not import.
        DeviceError: the GPU cannot be used.
    """

    layer = "cuda-python"

    def __init__(self, ordinal: int = 0) -> None:
        self._cuda: Any = require("cuda.bindings.runtime", "gpu", "reach the GPU by cuda-python")
        self._ordinal = ordinal
        self._where = f"GPU {ordinal}"
        self._call("cudaSetDevice", ordinal)
        properties = self._call("cudaGetDeviceProperties", ordinal)
        name = properties.name
        self.info = GpuInfo(
            (name.decode(errors="replace") if isinstance(name, bytes) else str(name)).rstrip("\0"),
            f"{properties.major}.{properties.minor}",
            int(properties.totalGlobalMem),
            driver_version(),
        )
        self._where = self.info.name

    def current(self) -> AbstractContextManager[None]:
        """Make the GPU this thread's."""
        return self._chosen()

    @contextmanager
    def _chosen(self) -> Iterator[None]:
        self._call("cudaSetDevice", self._ordinal)
        yield

    def allocate(self, nbytes: int) -> DeviceBuffer:
        """Memory of the GPU."""
        owner = self._call("cudaMalloc", max(nbytes, 1))
        return DeviceBuffer(int(owner), nbytes, owner)

    def pinned(self, nbytes: int) -> PinnedBuffer:
        """Page-locked memory."""
        address = int(self._call("cudaHostAlloc", max(nbytes, 1), 0))
        array = np.ctypeslib.as_array((ctypes.c_uint8 * max(nbytes, 1)).from_address(address))
        return PinnedBuffer(array[:nbytes], address)

    def stream(self) -> Stream:
        """A new stream."""
        owner = self._call("cudaStreamCreateWithFlags", self._cuda.cudaStreamNonBlocking)
        return Stream(int(owner), owner)

    def event(self) -> Event:
        """A new event."""
        return Event(self._call("cudaEventCreateWithFlags", self._cuda.cudaEventDisableTiming))

    def release(self, resource: Resource) -> None:
        """Give it back now."""
        owner, resource.owner = resource.owner, None
        if owner is None:
            return
        if isinstance(resource, PinnedBuffer):
            resource.array = np.empty(0, np.uint8)
        names = {
            DeviceBuffer: "cudaFree",
            PinnedBuffer: "cudaFreeHost",
            Stream: "cudaStreamDestroy",
            Event: "cudaEventDestroy",
            Graph: "cudaGraphExecDestroy",
        }
        self._call(names[type(resource)], owner)

    def copy_to_device(self, target: DeviceBuffer, source: Array, stream: Stream) -> None:
        """Put a copy on the stream."""
        refuse_copy(source.nbytes, target.nbytes, source, "copy to the GPU")
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", target.address, source.ctypes.data, source.nbytes, kind, stream.owner)

    def copy_to_host(self, target: Array, source: DeviceBuffer, stream: Stream) -> None:
        """Put a copy on the stream."""
        refuse_copy(target.nbytes, source.nbytes, target, "copy from the GPU")
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", target.ctypes.data, source.address, target.nbytes, kind, stream.owner)

    def record(self, event: Event, stream: Stream) -> None:
        """Record the event."""
        self._call("cudaEventRecord", event.owner, stream.owner)

    def wait(self, stream: Stream, event: Event) -> None:
        """Let the stream wait."""
        self._call("cudaStreamWaitEvent", stream.owner, event.owner, 0)

    def synchronize(self, waited: Stream | Event | None = None) -> None:
        """Let the host wait."""
        if waited is None:
            self._call("cudaDeviceSynchronize")
        else:
            name = "cudaStreamSynchronize" if isinstance(waited, Stream) else "cudaEventSynchronize"
            self._call(name, waited.owner)

    def begin_capture(self, stream: Stream) -> None:
        """Begin to record."""
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal  # other threads may allocate meanwhile
        self._call("cudaStreamBeginCapture", stream.owner, mode)

    def end_capture(self, stream: Stream) -> Graph:
        """The graph of what was recorded."""
        graph = self._call("cudaStreamEndCapture", stream.owner)
        try:
            return Graph(self._call("cudaGraphInstantiate", graph, 0))
        finally:
            self._call("cudaGraphDestroy", graph)

    def launch(self, graph: Graph, stream: Stream) -> None:
        """Put the graph on the stream."""
        self._call("cudaGraphLaunch", graph.owner, stream.owner)

    def close(self) -> None:
        """Nothing: the primary context belongs to the process."""

    def _call(self, name: str, *arguments: Any) -> Any:
        """One call of the CUDA runtime: its value, or an error of ours."""
        code, *values = getattr(self._cuda, name)(*arguments)
        errors = self._cuda.cudaError_t
        if code != errors.cudaSuccess:
            self._cuda.cudaGetLastError()  # else the next call reports it again
            if code == errors.cudaErrorMemoryAllocation:
                raise DeviceMemoryError(f"{self._where}: out of memory in {name}{_size(name, arguments)}")
            reason = self._cuda.cudaGetErrorString(code)[1]
            text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
            raise DeviceError(f"{self._where}: {name} failed ({text}); run `gloam doctor`")
        return values[0] if values else None


def _size(name: str, arguments: tuple[Any, ...]) -> str:
    return f" of {arguments[0]} bytes" if name in ("cudaMalloc", "cudaHostAlloc") else ""
