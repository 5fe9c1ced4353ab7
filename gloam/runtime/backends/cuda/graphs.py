"""CUDA graphs through the driver's own library, for a package that has none of them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from gloam.errors import DeviceError

THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may allocate meanwhile


class DriverGraphs:
    """Capture and launch, by ``libcuda.so.1``; handles are numbers. ``load`` opens a shared library by name."""

    def __init__(self, load: Callable[[str], Any] = ctypes.CDLL) -> None:
        self._library = load("libcuda.so.1")

    def begin(self, stream: int) -> None:
        """Let a stream record."""
        self._call("cuStreamBeginCapture_v2", ctypes.c_void_p(stream), ctypes.c_int(THREAD_LOCAL))

    def end(self, stream: int) -> int:
        """The executable graph of what the stream recorded.

        Raises:
            DeviceError: something that a graph cannot hold was recorded.
        """
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuStreamEndCapture", ctypes.c_void_p(stream), ctypes.byref(graph))
        try:
            self._call("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
        finally:
            self._call("cuGraphDestroy", graph)
        return executable.value or 0

    def launch(self, executable: int, stream: int) -> None:
        """Put an executable graph on a stream."""
        self._call("cuGraphLaunch", ctypes.c_void_p(executable), ctypes.c_void_p(stream))

    def destroy(self, executable: int) -> None:
        """Give an executable graph back."""
        self._call("cuGraphExecDestroy", ctypes.c_void_p(executable))

    def _call(self, name: str, *arguments: Any) -> None:
        if code := getattr(self._library, name)(*arguments):
            raise DeviceError(f"the CUDA driver refuses {name} (error {code}); run without CUDA graphs")
