"""What comes together runs together, an error is its own item's alone, and what is given up is not run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from gloam.errors import ImageError
from gloam.runtime.serve.batcher import Batcher


def test_what_comes_while_the_model_is_at_work_is_the_next_batch() -> None:
    gate, sizes = threading.Event(), []

    def work(items: Sequence[int]) -> list[int | Exception]:
        gate.wait(5)
        return [ImageError(f"{item} is odd") if item % 2 else 10 * item for item in items]

    async def ask() -> list[int | BaseException]:
        batcher = Batcher(work, 4, sizes.append)
        tasks = [asyncio.create_task(batcher(item)) for item in range(10)]
        await asyncio.sleep(0.05)
        assert batcher.waiting == 6
        gate.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        return found

    found = asyncio.run(ask())
    assert [item for item in found if not isinstance(item, BaseException)] == [0, 20, 40, 60, 80]
    assert str(found[3]) == "3 is odd"
    assert sizes == [4, 4, 2]


def test_what_is_no_longer_waited_for_is_not_run() -> None:
    gate, seen = threading.Event(), []

    def work(items: Sequence[int]) -> list[int | Exception]:
        seen.extend(items)
        gate.wait(5)
        return list(items)

    async def ask() -> None:
        batcher = Batcher(work, 1)
        first, second, third = (asyncio.create_task(batcher(item)) for item in (1, 2, 3))
        await asyncio.sleep(0.05)
        second.cancel()
        first.cancel()  # while it runs
        gate.set()
        assert await third == 3

    asyncio.run(ask())
    assert seen == [1, 3]


def test_a_fault_of_the_work_is_everyone_s_and_the_next_batch_runs() -> None:
    calls = []

    def work(items: Sequence[int]) -> list[int | Exception]:
        calls.append(list(items))
        if len(calls) == 1:
            raise RuntimeError("broken")
        return list(items)

    async def ask() -> None:
        batcher = Batcher(work, 2)
        with pytest.raises(RuntimeError, match="broken"):
            await batcher(1)
        assert await batcher(2) == 2

    asyncio.run(ask())
