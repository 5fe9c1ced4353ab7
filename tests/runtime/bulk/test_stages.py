"""The shared stages: order kept, what is in flight bounded, batches by a rule that looks at counts alone."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from gloam.runtime.bulk.stages import WAITING, Buckets, InFlight, Queues, RunSummary, read_ahead


@pytest.mark.parametrize("ahead", [1, 3, 11])
def test_results_come_in_order_and_few_are_in_flight(ahead: int) -> None:
    rng, lock = random.Random(0), threading.Lock()
    pauses = [rng.uniform(0, 0.003) for _ in range(60)]
    started, taken, most = 0, 0, 0

    def work(task: int) -> int:
        nonlocal started, most
        with lock:
            started += 1
            most = max(most, started - taken)
        time.sleep(pauses[task])
        return task

    found = []
    with ThreadPoolExecutor(4) as pool:
        for result in read_ahead(iter(range(60)), work, pool, ahead, RunSummary(), Queues()):
            taken += 1
            found.append(result)
    assert found == list(range(60))
    assert most <= ahead + 1  # the one in the hands of the consumer is not in flight


def test_tasks_are_taken_as_room_comes_up() -> None:
    taken: list[int] = []

    def tasks():  # type: ignore[no-untyped-def]  # a generator of the test
        for task in range(10**9):
            taken.append(task)
            yield task

    with ThreadPoolExecutor(2) as pool:
        results = read_ahead(tasks(), lambda task: task, pool, 5, RunSummary(), Queues())
        for _ in range(3):
            next(results)
        results.close()
    assert len(taken) <= 3 + 5


def test_a_failing_task_stops_the_run_and_cancels_what_waits() -> None:
    ran: list[int] = []

    def work(task: int) -> int:
        ran.append(task)
        time.sleep(0.01)
        if task == 2:
            raise ValueError("no")
        return task

    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="no"):
        list(read_ahead(iter(range(50)), work, pool, 20, RunSummary(), Queues()))
    assert len(ran) < 10


def test_waiting_for_images_is_counted_and_work_beside_it_is_not() -> None:
    summary = RunSummary()
    with ThreadPoolExecutor(1) as pool:
        for _ in read_ahead(range(4), lambda _: time.sleep(0.02), pool, 2, summary, Queues()):
            pass
        waited = summary.seconds["read"]
        for _ in read_ahead(range(4), lambda _: None, pool, 2, summary, Queues()):
            time.sleep(0.02)
    assert waited >= 0.05
    assert summary.seconds["read"] - waited < 0.04


@pytest.mark.parametrize(("size", "shapes"), [(1, 3), (4, 3), (16, 9), (50, 40)])
def test_batches_are_of_one_shape_whole_and_bounded(size: int, shapes: int) -> None:
    rng, queues = random.Random(1), Queues()
    images = [(rng.randrange(shapes), number) for number in range(500)]
    buckets: Buckets[tuple[int, int]] = Buckets(size, queues)
    batches = []
    for image in images:
        if batch := buckets.add(image[0], image):
            batches.append(batch)
        assert queues.waiting < max(WAITING, size)
    early = len(batches)
    batches += buckets.rest()
    assert queues.waiting == 0
    assert Counter(image for batch in batches for image in batch) == Counter(images)
    assert all(len({shape for shape, _ in batch}) == 1 and 0 < len(batch) <= size for batch in batches)
    full = sum(len(batch) == size for batch in batches[:early])
    assert full == early or shapes * (size - 1) >= WAITING  # kept full where the shapes are few


def test_the_idle_share_is_what_the_model_did_not_take() -> None:
    summary = RunSummary()
    assert summary.idle_share == 0
    summary.seconds.update(total=10.0, infer=7.5)
    assert summary.idle_share == pytest.approx(0.25)
    assert "the model was idle 25% of the time" in summary.said()


@pytest.mark.parametrize("most", [1, 2, 3])
def test_runs_come_back_in_order_and_few_are_in_flight(most: int) -> None:
    rng, lock = random.Random(2), threading.Lock()
    pauses = [rng.uniform(0, 0.004) for _ in range(40)]
    running, highest, callers = 0, 0, set()

    def work(task: int) -> int:
        nonlocal running, highest
        with lock:
            running += 1
            highest = max(highest, running)
            callers.add(threading.get_ident())
        time.sleep(pauses[task])
        with lock:
            running -= 1
        return task

    found, waiting = [], 0
    with InFlight(work, most, RunSummary()) as flights:
        for task in range(40):
            waiting += 1
            for given, future in flights.add(task):
                assert future.result() == given
                found.append(given)
                waiting -= 1
            assert waiting <= (most if most > 1 else 0)
        found += [given for given, _ in flights.rest()]
    assert found == list(range(40))
    assert highest == most
    assert (callers == {threading.get_ident()}) == (most == 1)  # one at a time needs no thread


@pytest.mark.parametrize("most", [1, 2])
def test_time_with_runs_under_way_is_counted_once(most: int) -> None:
    summary, durations = RunSummary(), []

    def work(_: int) -> None:
        start = time.perf_counter()
        time.sleep(0.02)
        durations.append(time.perf_counter() - start)

    with InFlight(work, most, summary) as flights:
        start = time.perf_counter()
        for task in range(10):
            flights.add(task)
        flights.rest()
        wall = time.perf_counter() - start
        time.sleep(0.05)  # nothing is under way
    assert 0.2 / most <= summary.seconds["infer"] <= wall
    assert (summary.seconds["infer"] < 0.8 * sum(durations)) == (most > 1)


@pytest.mark.parametrize("most", [1, 2])
def test_a_run_that_fails_is_known_by_its_task(most: int) -> None:
    def work(task: int) -> int:
        if task == 1:
            raise ValueError("no")
        return task

    with InFlight(work, most, RunSummary()) as flights:
        finished = [done for task in range(3) for done in flights.add(task)] + flights.rest()
    assert [task for task, future in finished if future.exception() is not None] == [1]
