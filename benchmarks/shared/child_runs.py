"""Commands of gloam in processes of their own: time, processors' time and memory of each, and how it dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gloam.errors import GloamError
from gloam.files import sha256_file


@dataclass(frozen=True)
class ChildRun:
    """What became of a command.

    Attributes:
        seconds, cpu: wall time, and that of all processors.
        peak: bytes that it had in memory at most.
        killed: whether it was.
        memory: bytes it had in memory, every second.
    """

    seconds: float
    cpu: float
    peak: int
    killed: bool
    memory: tuple[int, ...]
    output: str


def gloam_run(
    words: Sequence[str], kill_after: float | None = None, threads: Mapping[str, str] | None = None
) -> ChildRun:
    """Run ``gloam`` with ``words``, and kill it after so many seconds where it is not done.

    Args:
        words: of the command.
        kill_after: seconds; None lets it end.
        threads: environment beside this process's own.

    Raises:
        GloamError: it failed by itself.
    """
    clock = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "gloam.cli.main", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(threads or {})},
    )
    seen: list[int] = []
    stopped = threading.Event()

    def watch() -> None:
        while not stopped.wait(1.0):
            try:
                seen.append(int(Path(f"/proc/{child.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
            except (OSError, IndexError):
                return

    def kill() -> None:
        if not stopped.wait(kill_after):
            child.send_signal(signal.SIGKILL)

    helpers = [threading.Thread(target=watch, daemon=True)]
    helpers += [threading.Thread(target=kill, daemon=True)] if kill_after is not None else []
    for helper in helpers:
        helper.start()
    assert child.stdout is not None
    assert child.stderr is not None
    said, errors = child.stderr, list[str]()
    reader = threading.Thread(target=lambda: errors.extend(said.readlines()))
    reader.start()
    output = child.stdout.read()
    reader.join()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    stopped.set()
    killed = child.returncode == -signal.SIGKILL
    if child.returncode and not killed:
        raise GloamError(f"gloam {' '.join(words)}: {''.join(errors[-1:]).strip()}")
    seconds, peak = time.perf_counter() - clock, usage.ru_maxrss * 1024
    return ChildRun(seconds, usage.ru_utime + usage.ru_stime, peak, killed, tuple(seen), output)


def answer(run: ChildRun) -> dict[str, Any]:
    """What a command with ``--json`` said."""
    found: dict[str, Any] = json.loads(run.output)
    return found


def bytes_of(folder: Path, but: Sequence[str] = ("summary.json",)) -> dict[str, str]:
    """sha256 of every file of an output, by name; ``but`` those that hold times."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in but)
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}
