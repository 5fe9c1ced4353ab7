"""Signs of life of long work: how much is done, how fast, and how long it will still take, in lines.

A bar that moves is for terminals; a log file, a container or a cluster's job gets a line now and then. The first comes
within seconds, and work that is quicker than that says nothing. Lines of tqdm's own end in a carriage return and know
no time limit.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gloam.errors import UsageError
from gloam.files import printable

FIRST, EVERY = 10.0, 30.0  # seconds without a line, at the beginning and later
COLUMNS, ROWS = 80, 24  # of a terminal that does not tell
# Of the environment, which other processes of a run have, too.
QUIET, NO_BARS, LOG_FILE = "GLOAM_QUIET", "GLOAM_NO_BARS", "GLOAM_LOG_FILE"

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


class _BarAndLines:
    """A bar of tqdm's on the terminal, and lines in the log."""

    def __init__(self, bar: Any, lines: Heartbeat) -> None:
        self._bar, self._lines = bar, lines

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    @property
    def n(self) -> int:
        """How much is done."""
        return self._lines.n

    def update(self, count: int = 1) -> None:
        """Count more that is done."""
        self._bar.update(count)
        self._lines.update(count)


def progress_bar(total: int, what: str = "", unit: str = "images", *, shown: bool = True, leave: bool = True) -> Any:
    """Something to ``update`` with counts, in a ``with`` block: a bar on stderr where that is a terminal, else lines.

    Args:
        total: how much there is to do.
        what: the work.
        unit: of the counts, in the plural.
        shown: whether anything is said on stderr; a log gets its lines in any case.
        leave: whether the bar stays when the block ends.
    """
    said = to_stderr if shown else log
    if not (shown and bars_shown()):
        return Heartbeat(said, what or unit, total, unit)
    bar = terminal_bar(total=total, desc=what or None, unit=f" {unit}", leave=leave)
    return _BarAndLines(bar, Heartbeat(log, what or unit, total, unit))


def terminal_bar(**options: Any) -> Any:
    """A bar of tqdm's on stderr, with its options, that is seen on a terminal which does not tell its width, too: a
    container's or a script's says 0 columns, and tqdm cuts every bar to them."""
    from tqdm import tqdm

    try:
        unknown = os.get_terminal_size(sys.stderr.fileno()).columns == 0
    except (OSError, ValueError):
        unknown = False
    return tqdm(**options, **({"ncols": COLUMNS, "nrows": ROWS} if unknown else {"dynamic_ncols": True}))


def bars_shown() -> bool:
    """Whether bars that move are for whoever reads stderr: a terminal, unless others are asked for."""
    return sys.stderr.isatty() and not os.environ.get(QUIET) and not os.environ.get(NO_BARS)


def to_stderr(line: str) -> None:
    """Progress goes to the error output, so that the result alone is on the standard output; and to the log."""
    if not os.environ.get(QUIET):
        print(printable(line), file=sys.stderr, flush=True)
    log(line)


def log(line: str) -> None:
    """Add a line, with the time, to the file of :func:`telling`; nowhere without one."""
    file = os.environ.get(LOG_FILE)
    if file:
        with contextlib.suppress(OSError), open(file, "a", encoding="utf-8", errors="backslashreplace") as handle:
            handle.write(f"{datetime.now().astimezone().isoformat(timespec='seconds')} {printable(line)}\n")


@contextlib.contextmanager
def telling(quiet: bool, file: Path | None, bars: bool = True) -> Iterator[None]:
    """Where progress goes while the block runs, in this process and in those that it starts.

    Args:
        quiet: nothing to stderr.
        file: of the log, to be added to; None for none.
        bars: on a terminal; lines there too where it is false.

    Raises:
        UsageError: the file cannot be written.
    """
    wanted = {QUIET: "1" if quiet else None, NO_BARS: None if bars else "1"}
    wanted[LOG_FILE] = None if file is None else str(file.absolute())
    if file is not None:
        try:
            with file.open("a", encoding="utf-8"):
                pass
        except OSError as error:
            raise UsageError(f"--log-file {file}: cannot be written ({error.strerror}); name another file") from error
    before = {name: os.environ.get(name) for name, value in wanted.items() if value is not None}
    os.environ.update({name: value for name, value in wanted.items() if value is not None})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def spelled(seconds: float) -> str:
    """A duration for people: ``48 s``, ``6 min 05 s``, ``2 h 05 min``, ``3 d 04 h``."""
    whole = max(round(seconds), 0)
    for unit, size, below, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part:02d} {below}"
    return f"{whole} s"
