"""Signs of life of long work: how much is done, how fast, and how long it will still take, in lines.

A bar that moves is for terminals; a line now and then serves a log file as well. The first comes within seconds, and
work that is quicker than that says nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable

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
        self._before, self.done, self._every, self._clock = done, done, every, clock
        self._began = clock()
        self._due = self._began + first

    def update(self, count: int = 1, *, limit: float | None = None) -> None:
        """Count more that is done.

        Args:
            count: how much.
            limit: seconds after which the work ends in any case; None for no limit.
        """
        self.done += count
        now = self._clock()
        if self._say is None or now < self._due:
            return
        self._due = now + self._every
        self._say(f"{self._what}: {self._line(now, limit)}")

    def postpone(self) -> None:
        """Another line has just told of the work; the next one can wait."""
        self._due = self._clock() + self._every

    def _line(self, now: float, limit: float | None) -> str:
        made, passed = self.done - self._before, max(now - self._began, 1e-9)
        known = f" of {self._total}" if self._total is not None else ""
        parts = [f"{self.done}{known} {self._unit}", f"{made / passed:.3g} {self._unit}/s"]
        left = None if self._total is None or not made else (self._total - self.done) * passed / made
        if limit is not None:
            left = limit if left is None else min(left, limit)
        if left is not None:
            parts.append(f"{spelled(left)} left")
        return ", ".join(parts)


def spelled(seconds: float) -> str:
    """A duration for people: ``48 s``, ``6 min 05 s``, ``2 h 05 min``, ``3 d 04 h``."""
    whole = max(round(seconds), 0)
    for unit, size, below, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part:02d} {below}"
    return f"{whole} s"
