"""Requests that come together are run together: one after another is taken while the model is at work."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Runs a blocking function, in a thread of its own, on as many items as wait.

    Nothing is waited for: the first item runs at once, and what comes meanwhile is the next batch.

    Args:
        work: a result, or the error, of every item.
        most: items at once.
        seen: is told the size of every batch.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result | Exception]],
        most: int,
        seen: Callable[[int], object] = lambda size: None,
    ) -> None:
        self._work, self._most, self._seen = work, most, seen
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._pool = ThreadPoolExecutor(1, "batch")
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Result:
        """The result of an item; its error is raised. One that is no longer waited for is not run."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await future

    @property
    def waiting(self) -> int:
        """Items that no batch has taken yet."""
        return len(self._waiting)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                taken = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
                batch = [(item, future) for item, future in taken if not future.done()]  # cancelled: timed out
                if not batch:
                    continue
                self._seen(len(batch))
                results: Sequence[Result | Exception]
                try:
                    results = await loop.run_in_executor(self._pool, self._work, [item for item, _ in batch])
                except Exception as error:
                    results = [error] * len(batch)
                for (_, future), result in zip(batch, results, strict=True):
                    with contextlib.suppress(asyncio.InvalidStateError):  # cancelled meanwhile
                        if isinstance(result, Exception):
                            future.set_exception(result)
                        else:
                            future.set_result(result)
        finally:
            self._running = None
