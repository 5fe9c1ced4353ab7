"""``pycuda.driver`` and ``cuda.bindings.runtime`` on the host's memory: what gloam calls of them, and no more."""

from __future__ import annotations

import ctypes
import enum
import types
from typing import Any

import numpy as np


class Allocation:
    """Memory by address; ``free`` once."""

    def __init__(self, nbytes: int, freed: list[int]) -> None:
        self.buffer = ctypes.create_string_buffer(nbytes)
        self.freed = freed

    def __int__(self) -> int:
        return ctypes.addressof(self.buffer)

    def free(self) -> None:
        self.freed.append(int(self))


class PyCuda:
    """What ``pycuda.driver`` offers; ``stack`` is its stack of contexts."""

    class Error(Exception):
        pass

    class MemoryError(Error):
        pass

    class LogicError(Error):
        pass

    event_flags = types.SimpleNamespace(DISABLE_TIMING=2)

    def __init__(self, room: int = 1 << 24) -> None:
        self.room, self.stack, self.freed, self.initialised = room, [], [], False
        fake = self

        class Context:
            def push(self) -> None:
                fake.stack.append(self)

            @staticmethod
            def pop() -> None:
                fake.stack.pop()

            @staticmethod
            def synchronize() -> None:
                fake.check()

        class Device:
            def __init__(self, ordinal: int) -> None:
                if ordinal:
                    raise PyCuda.LogicError("cuDeviceGet failed: invalid device ordinal\nmore")

            def retain_primary_context(self) -> Context:
                return Context()

            def name(self) -> str:
                return "Host GPU"

            def compute_capability(self) -> tuple[int, int]:
                return 9, 0

            def total_memory(self) -> int:
                return fake.room

        class Stream:
            handle = 77

            def __init__(self, flags: int) -> None:
                fake.check()

            def synchronize(self) -> None:
                fake.check()

            def wait_for_event(self, event: Event) -> None:
                fake.check()

        class Event:
            def __init__(self, flags: int) -> None:
                fake.check()

            def record(self, stream: Stream) -> None:
                fake.check()

            def synchronize(self) -> None:
                fake.check()

        self.Device, self.Stream, self.Event = Device, Stream, Event

    def check(self) -> None:
        if not self.stack:
            raise PyCuda.LogicError("no context is current")

    def init(self) -> None:
        self.initialised = True

    def mem_alloc(self, nbytes: int) -> Allocation:
        self.check()
        if nbytes > self.room:
            raise PyCuda.MemoryError("cuMemAlloc failed: out of memory")
        return Allocation(nbytes, self.freed)

    def pagelocked_empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        self.check()
        owner = Allocation(shape[0], self.freed)

        class Locked(np.ndarray):
            base = owner  # type: ignore[assignment]  # as pycuda's arrays hold theirs

        return np.frombuffer(owner.buffer, np.uint8).view(Locked)

    def memcpy_htod_async(self, target: int, source: np.ndarray, stream: Any) -> None:
        self.check()
        ctypes.memmove(target, source.ctypes.data, source.nbytes)

    def memcpy_dtoh_async(self, target: np.ndarray, source: int, stream: Any) -> None:
        self.check()
        ctypes.memmove(target.ctypes.data, source, target.nbytes)


class CudaRuntime:
    """What ``cuda.bindings.runtime`` offers: every call answers with an error code first."""

    cudaStreamNonBlocking = 1
    cudaEventDisableTiming = 2

    class cudaError_t(enum.IntEnum):
        cudaSuccess = 0
        cudaErrorMemoryAllocation = 2
        cudaErrorInvalidDevice = 101

    class cudaMemcpyKind(enum.IntEnum):
        cudaMemcpyHostToDevice = 1
        cudaMemcpyDeviceToHost = 2

    class cudaStreamCaptureMode(enum.IntEnum):
        cudaStreamCaptureModeThreadLocal = 1

    def __init__(self, room: int = 1 << 24) -> None:
        self.room, self.blocks, self.freed, self.calls = room, {}, [], []
        ok = self.cudaError_t.cudaSuccess
        for name, values in (
            ("cudaStreamCreateWithFlags", (77,)),
            ("cudaStreamDestroy", ()),
            ("cudaStreamSynchronize", ()),
            ("cudaEventCreateWithFlags", (88,)),
            ("cudaEventDestroy", ()),
            ("cudaEventRecord", ()),
            ("cudaEventSynchronize", ()),
            ("cudaStreamWaitEvent", ()),
            ("cudaDeviceSynchronize", ()),
            ("cudaStreamBeginCapture", ()),
            ("cudaStreamEndCapture", (5,)),
            ("cudaGraphInstantiate", (6,)),
            ("cudaGraphDestroy", ()),
            ("cudaGraphExecDestroy", ()),
            ("cudaGraphLaunch", ()),
            ("cudaGetLastError", ()),
        ):
            setattr(self, name, self._called(name, (ok, *values)))

    def _called(self, name: str, answer: tuple[Any, ...]) -> Any:
        def call(*arguments: Any) -> tuple[Any, ...]:
            self.calls.append(name)
            return answer

        return call

    def cudaSetDevice(self, ordinal: int) -> tuple[Any, ...]:
        return (self.cudaError_t(0 if ordinal == 0 else 101),)

    def cudaGetDeviceProperties(self, ordinal: int) -> tuple[Any, ...]:
        return self.cudaError_t(0), types.SimpleNamespace(name=b"Host GPU", major=9, minor=0, totalGlobalMem=self.room)

    def cudaGetErrorString(self, code: Any) -> tuple[Any, ...]:
        return self.cudaError_t(0), b"invalid device ordinal"

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        if size > self.room:
            return self.cudaError_t.cudaErrorMemoryAllocation, None
        block = Allocation(size, self.freed)
        self.blocks[int(block)] = block
        return self.cudaError_t(0), int(block)

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Any, ...]:
        return self.cudaMalloc(size)

    def cudaFree(self, pointer: int) -> tuple[Any, ...]:
        self.blocks[pointer].free()
        return (self.cudaError_t(0),)

    cudaFreeHost = cudaFree

    def cudaMemcpyAsync(self, target: int, source: int, count: int, kind: Any, stream: Any) -> tuple[Any, ...]:
        ctypes.memmove(target, source, count)
        return (self.cudaError_t(0),)
