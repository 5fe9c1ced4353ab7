"""Ray in one process and one thread: what the extraction asks of it, done at once and in order."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any


class FakeRay:
    """Stands for the module; everything that would travel is pickled.

    Args:
        nodes: their resources.

    Attributes:
        scheduled: the rows that were given out.
        pool, asked, given: the pool's sizes; what a worker takes; what it was made with.
        puts: how many objects were stored.
    """

    def __init__(self, nodes: Sequence[Mapping[str, float]] = ({"CPU": 2.0},)) -> None:
        self._nodes = nodes
        self.scheduled: list[Any] = []
        self.pool: dict[str, Any] = {}
        self.asked: dict[str, Any] = {}
        self.given: tuple[Any, ...] = ()
        self.puts = 0
        self.data = SimpleNamespace(ActorPoolStrategy=dict, from_items=self._from_items)

    def nodes(self) -> list[dict[str, Any]]:
        dead = {"Alive": False, "Resources": {"CPU": 1e6, "GPU": 1e6}}
        return [dead, *({"Alive": True, "Resources": dict(node)} for node in self._nodes)]

    def put(self, value: Any) -> bytes:
        self.puts += 1
        return pickle.dumps(value)

    def get(self, reference: bytes) -> Any:
        return pickle.loads(reference)

    def wait(self, references: list[bytes], num_returns: int, timeout: float) -> tuple[list[bytes], list[bytes]]:
        return references[:num_returns], references[num_returns:]

    def remote(self, **_: Any) -> Callable[[Any], Any]:
        def wrap(function: Callable[..., Any]) -> Any:
            return SimpleNamespace(remote=lambda *given: pickle.dumps(function(*pickle.loads(pickle.dumps(given)))))

        return wrap

    def _from_items(self, rows: Sequence[Any], override_num_blocks: int) -> Any:
        assert override_num_blocks == len(rows)  # a block would be made, and retried, as a whole
        self.scheduled = list(rows)
        return SimpleNamespace(map=self._map)

    def _map(self, worker: type, fn_constructor_args: tuple[Any, ...], compute: Any, **asked: Any) -> Any:
        self.pool, self.asked = compute, asked
        self.given = pickle.loads(pickle.dumps(fn_constructor_args))
        kept = worker(*self.given)

        def rows() -> Iterator[Any]:
            yield from map(kept, self.scheduled)

        return SimpleNamespace(iter_rows=rows)
