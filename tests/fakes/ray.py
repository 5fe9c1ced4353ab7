"""Ray in one process and one thread: what gloam asks of it, done at once and in order."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any


class FakeRay:
    """Stands for the module; everything that would travel is pickled.

    Args:
        nodes: their resources.

    Attributes:
        scheduled: shards that were given out.
        at_once: tasks that were under way together, at most.
        asked: what a worker takes, and how often its work is given out again.
        given: what a worker is told, but for the shard.
        puts, cancelled: how many objects were stored; tasks that were ended.
        deadly: an exception that stands for the death of a worker; its work is given out again.
    """

    def __init__(self, nodes: Sequence[Mapping[str, float]] = ({"CPU": 2.0},)) -> None:
        self._nodes = nodes
        self.scheduled: list[int] = []
        self.at_once = 0
        self.asked: dict[str, Any] = {}
        self.given: tuple[Any, ...] = ()
        self.puts = self.cancelled = 0
        self.deadly: type[BaseException] | None = None

    def nodes(self) -> list[dict[str, Any]]:
        dead = {"Alive": False, "Resources": {"CPU": 1e6, "GPU": 1e6}}
        return [dead, *({"Alive": True, "Resources": dict(node)} for node in self._nodes)]

    def put(self, value: Any) -> bytes:
        self.puts += 1
        return pickle.dumps(value)

    def get(self, reference: bytes) -> Any:
        return pickle.loads(reference)

    def wait(
        self, references: list[bytes], num_returns: int, timeout: float | None = None
    ) -> tuple[list[bytes], list[bytes]]:
        self.at_once = max(self.at_once, len(references))
        return references[:num_returns], references[num_returns:]

    def cancel(self, reference: bytes, force: bool) -> None:
        self.cancelled += 1

    def remote(self, **options: Any) -> Callable[[Any], Any]:
        self.asked = options

        def wrap(function: Callable[..., Any]) -> Any:
            def call(*given: Any) -> bytes:
                if function.__name__ == "make_shard":
                    self.scheduled.append(given[-1])
                    self.given = given[:-1]
                for _ in range(options.get("max_retries", 0) + 1):
                    try:
                        return pickle.dumps(function(*pickle.loads(pickle.dumps(given))))
                    except BaseException as error:
                        if self.deadly is None or not isinstance(error, self.deadly):
                            raise
                raise RuntimeError("WorkerCrashedError: the worker died")

            return SimpleNamespace(remote=call)

        return wrap
