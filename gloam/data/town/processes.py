"""Rendering in several processes."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

import cv2

from gloam.errors import StoreError

Work = TypeVar("Work")
Result = TypeVar("Result")


def in_processes(
    function: Callable[[Work], Result],
    parts: Sequence[Work],
    workers: int,
    root: Path,
    meanwhile: Callable[[], object] = lambda: None,
) -> Iterator[Result]:
    """What a function of a module gives of each part, as it is done; each process renders on one thread.

    Args:
        root: folder that is rendered into, for the message.
        meanwhile: called every second until all are done.

    Raises:
        StoreError: a process died.
    """
    # spawn: a fork would inherit OpenCV's and BLAS's threads in whatever state they are
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(parts)), mp_context=context) as pool:
        jobs = [pool.submit(functools.partial(_on_one_thread, function), part) for part in parts]
        try:
            left = set(jobs)
            while left:
                done, left = wait(left, 1.0, FIRST_COMPLETED)
                meanwhile()
                for job in done:
                    yield job.result()
        except BrokenProcessPool as error:
            raise StoreError(
                f"{root}: a rendering process died (out of memory?); try fewer workers, finished images are kept"
            ) from error
        finally:
            for job in jobs:
                job.cancel()


def watching(paths: Iterable[Path], written: Callable[[int], object]) -> Callable[[], None]:
    """A function that tells ``written`` how many more of the files other processes have written since it was called."""
    before = {path: _written(path) for path in paths}

    def look() -> None:
        done = [path for path, then in before.items() if _written(path) != then]
        for path in done:
            del before[path]
        written(len(done))

    return look


def _written(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _on_one_thread(function: Callable[[Work], Result], part: Work) -> Result:
    cv2.setNumThreads(1)
    return function(part)
