"""Damaged files of every kind that gloam reads: crashes, hangs and tracebacks, of which there must be none.

1,200 images of all formats on the list and 1,000 each of cards, manifests, recipes, ground truths, kapture texts and
tars (with Parquet tables), each a whole file after one to four mutations: flipped bits, cuts, splices, numbers that are
huge, negative or none, keys twice, deep nesting, names that lead elsewhere. The readers run in processes of their own,
so that a crash or a hang is counted and the others go on. A refusal in one line is right, and so is a reading.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.shared.result import Result

CASES = {
    "images": 1200,
    "cards": 1000,
    "manifests": 1000,
    "recipes": 1000,
    "ground_truths": 1000,
    "kapture_texts": 1000,
    "tars": 1000,
}
HANG = 20.0  # seconds
START = 300.0  # seconds for a process to make its seeds
READER = (sys.executable, "-m", "benchmarks.shared.fuzz_worker")
FAULTS = ("crash", "hang", "traceback", "lines")
SHOWN = 50


def run() -> Result:
    """Faults of all cases; memory and outcomes by kind beside them."""
    rows = fuzz(CASES, len(os.sched_getaffinity(0)))
    faults = [row for row in rows if row["outcome"] in FAULTS]
    worst = max(rows, key=lambda row: row["peak_mib"])
    detail = {
        "cases": CASES,
        "outcomes": {kind: dict(Counter(row["outcome"] for row in rows if row["kind"] == kind)) for kind in CASES},
        "peak memory MiB": {kind: max(row["peak_mib"] for row in rows if row["kind"] == kind) for kind in CASES},
        "most memory at": worst,
        "faults": faults[:SHOWN],
    }
    target = f"0 of {sum(CASES.values())} crash, hang over {HANG:.0f} s, end in a traceback or in several lines"
    return Result(len(faults), "faults", target, not faults, detail)


def fuzz(cases: Mapping[str, int], processes: int = 1) -> list[dict[str, Any]]:
    """Outcomes as :func:`benchmarks.shared.fuzz_worker.run_case` gives them, with ``crash`` and ``hang``; in no order.

    Args:
        cases: numbers of them by kind.
        processes: that read at once.
    """
    waiting = iter([(kind, number) for kind, count in cases.items() for number in range(count)])
    lock, rows = threading.Lock(), list[dict[str, Any]]()

    def shared() -> Iterator[tuple[str, int]]:
        while True:
            with lock:
                case = next(waiting, None)
            if case is None:
                return
            yield case

    def work() -> None:
        with tempfile.TemporaryDirectory(prefix="gloam-fuzz-") as folder:
            worker: _Worker | None = None
            for kind, number in shared():
                worker = worker or _Worker(Path(folder))
                row = worker.ask(kind, number)
                rows.append(row)
                if row["outcome"] in ("crash", "hang"):
                    worker.close()
                    worker = None
            if worker is not None:
                worker.close()

    with ThreadPoolExecutor(processes) as pool:
        for done in [pool.submit(work) for _ in range(processes)]:
            done.result()
    return rows


class _Worker:
    """A process that reads cases."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [*READER, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        if self._answer(START) is None:
            raise RuntimeError(f"a process that reads did not start; run {' '.join(READER)} FOLDER to see why")

    def ask(self, kind: str, number: int) -> dict[str, Any]:
        """What became of a case."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{kind} {number}\n".encode())
        self._process.stdin.flush()
        answer = self._answer(HANG)
        if answer is not None:
            return answer
        code = self._process.poll()
        outcome = "hang" if code is None else "crash"
        return {"kind": kind, "number": number, "seed": "", "outcome": outcome, "said": str(code), "peak_mib": 0.0}

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def _answer(self, seconds: float) -> dict[str, Any] | None:
        """A line of JSON, or None where none comes in time or the process has ended."""
        pipe, line = self._process.stdout, b""
        assert pipe is not None
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                part = os.read(pipe.fileno(), 1 << 16) if selector.select(seconds) else None
                if not part:
                    if part is not None:
                        self._process.wait()
                    return None
                line += part
        answer: dict[str, Any] = json.loads(line)
        return answer
