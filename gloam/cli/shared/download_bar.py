"""A progress bar a file, on a terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from gloam.heartbeat import terminal_bar


class DownloadBar:
    """Shows how much of the file at hand has come; nothing where ``shown`` is false."""

    def __init__(self, shown: bool) -> None:
        self._shown, self._file = shown, ""
        self._bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, file: str, done: int, total: int | None) -> None:
        """Told after every block: file, bytes so far, bytes in all where known."""
        if not self._shown:
            return
        if self._bar is None or file != self._file:
            if self._bar is not None:
                self._bar.close()
            self._bar = terminal_bar(total=total, initial=0, unit="B", unit_scale=True, desc=file)
            self._file = file
        self._bar.update(done - self._bar.n)
