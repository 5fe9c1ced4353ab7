"""Bars for the builder of TensorRT, which reports nested phases through ``trt.IProgressMonitor``; lines elsewhere."""

from __future__ import annotations

from threading import Lock
from types import TracebackType
from typing import Any, Self

from gloam.heartbeat import progress_bar


class BuildBars:
    """One bar per open phase; a phase that the builder never finished is closed at the end.

    Attributes:
        interrupted: Ctrl-C was pressed while the builder ran; it was told to stop.
    """

    def __init__(self, shown: bool) -> None:
        self._shown = shown
        self._bars: dict[str, Any] = {}
        self._lock = Lock()  # the builder may report from several threads
        self.interrupted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self._bars):
            self.finish(name)

    def start(self, name: str, steps: int) -> None:
        """A phase begins."""
        with self._lock:
            self._bars[name] = progress_bar(steps, name, "steps", shown=self._shown, leave=False)

    def step(self, name: str, step: int) -> None:
        """Step ``step``, counted from 0, of a phase is done."""
        with self._lock:
            bar = self._bars.get(name)
            if bar is not None:
                bar.update(step + 1 - bar.n)

    def finish(self, name: str) -> None:
        """A phase ends."""
        with self._lock:
            bar = self._bars.pop(name, None)
        if bar is not None:
            bar.__exit__(None, None, None)


def make_monitor(trt: Any, bars: BuildBars) -> Any:
    """A ``trt.IProgressMonitor`` that moves the bars."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # a class of the module that was just loaded
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)  # the bindings ask for the base's own, not for super()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            bars.start(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:  # an exception must not cross the builder: it is C++
                bars.step(phase_name, step)
            except KeyboardInterrupt:
                bars.interrupted = True
            return not bars.interrupted

        def phase_finish(self, phase_name: str) -> None:
            bars.finish(phase_name)

    return Monitor()
