"""Signs of life of long work: how much is done, how fast, and how long it will still take, in lines.

A bar that moves is for terminals; a log file, a container or a cluster's job gets a line now and then. The first comes
within seconds, and work that is quicker than that says nothing. Lines of tqdm's own end in a carriage return and know
no time limit.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from gloam.files import printable

FIRST, EVERY = 10.0, 30.0  # seconds without a line, at the beginning and later

Say = Callable[[str], None]  # gets a line of progress


class Heartbeat:
    """Counts what is done and says so from time to time.

    Args:
        say: gets the lines; nothing is said where it is None.
        what: the work, as a line begins: ``describing images``.
        total: how much there is to do, what is done already included; None where nobody knows.
        unit: of the counts, in the plural.
        done: by an earlier call; it does not count for the rate.
        first, every: seconds from the beginning, and between later lines.
        clock: gives seconds.

    Attributes:
        n: how much is done, as of tqdm's bars.
    """

    def __init__(
        self,
        say: Say | None,
        what: str,
        total: int | None,
        unit: str = "images",
        *,
        done: int = 0,
        first: float = FIRST,
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say, self._what, self._total, self._unit = say, what, total, unit
        self._before, self.n, self._every, self._clock = done, done, every, clock
        self._began = clock()
        self._due = self._began + first

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is left to close."""

    def update(self, count: int = 1, *, limit: float | None = None) -> None:
        """Count more that is done.

        Args:
            count: how much.
            limit: seconds after which the work ends in any case; None for no limit.
        """
        self.n += count
        now = self._clock()
        if self._say is None or now < self._due:
            return
        self._due = now + self._every
        self._say(f"{self._what}: {self._line(now, limit)}")

    def postpone(self) -> None:
        """Another line has just told of the work; the next one can wait."""
        self._due = self._clock() + self._every

    def _line(self, now: float, limit: float | None) -> str:
        made, passed = self.n - self._before, max(now - self._began, 1e-9)
        known = f" of {self._total}" if self._total is not None else ""
        parts = [f"{self.n}{known} {self._unit}", f"{made / passed:.3g} {self._unit}/s"]
        left = None if self._total is None or not made else (self._total - self.n) * passed / made
        if limit is not None:
            left = limit if left is None else min(left, limit)
        if left is not None:
            parts.append(f"{spelled(left)} left")
        return ", ".join(parts)


def progress_bar(total: int, what: str = "", unit: str = "images", *, shown: bool = True) -> Any:
    """Something to ``update`` with counts, in a ``with`` block: a bar on stderr where that is a terminal, else lines.

    Args:
        total: how much there is to do.
        what: the work.
        unit: of the counts, in the plural.
        shown: whether anything is said at all.
    """
    if shown and sys.stderr.isatty():
        from tqdm import tqdm

        return tqdm(total=total, desc=what or None, unit=f" {unit}")
    return Heartbeat(to_stderr if shown else None, what or unit, total, unit)


def to_stderr(line: str) -> None:
    """Progress goes to the error output, so that the result alone is on the standard output."""
    print(printable(line), file=sys.stderr, flush=True)


def spelled(seconds: float) -> str:
    """A duration for people: ``48 s``, ``6 min 05 s``, ``2 h 05 min``, ``3 d 04 h``."""
    whole = max(round(seconds), 0)
    for unit, size, below, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part:02d} {below}"
    return f"{whole} s"
