"""Session: one loaded model on one backend, numpy in, numpy out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import numpy.typing as npt

from gloam.errors import ModelError, UsageError
from gloam.model_card import ModelCard
from gloam.runtime.backends.facts import BackendFacts

AGAIN = "the card is of another model; export it again"

Task = TypeVar("Task")
Found = TypeVar("Found")


class Session(Protocol):
    """What every backend offers.

    Attributes:
        card: what the model says of itself.
        fingerprint: identity of the file and of the precision it runs in, for caches and resume.
        backend: what runs it; replaced by another record where that changes, as after memory ran out.
    """

    card: ModelCard
    fingerprint: str
    backend: BackendFacts

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run the graph once; names, dtypes and shapes are the card's."""
        ...


def expect_graph(
    card: ModelCard, where: str, inputs: Mapping[str, Sequence[Any]], outputs: Mapping[str, Sequence[Any]]
) -> None:
    """Refuse a graph that is not what its card says.

    Args:
        card: of the file.
        where: the file, for messages.
        inputs, outputs: shapes of the graph by name, ints or anything else for a free axis; empty where not known.

    Raises:
        ModelError: another name, number of axes or length of an axis.
    """
    for role, specs, found in (("input", card.inputs, inputs), ("output", card.outputs, outputs)):
        for spec in specs:
            if spec.name not in found:
                raise ModelError(
                    f"{where}: the card names the {role} {spec.name!r}, the graph has {', '.join(found)}; {AGAIN}"
                )
            shape = list(found[spec.name])
            pairs = zip(spec.shape, shape, strict=False)
            differs = any(isinstance(real, int) and isinstance(said, int) and real != said for said, real in pairs)
            if shape and (len(shape) != len(spec.shape) or differs):
                raise ModelError(
                    f"{where}: the card says that the {role} {spec.name!r} is {list(spec.shape)}, the graph's is "
                    f"{shape}; {AGAIN}"
                )
    if more := [name for name in inputs if name not in {spec.name for spec in card.inputs}]:
        raise ModelError(f"{where}: the graph takes {', '.join(more)}, which the card does not name; {AGAIN}")


def threads_of_a_run(threads: int, requests: int) -> int:
    """The threads of each of several runs at once.

    Raises:
        UsageError: fewer threads than runs, or none.
    """
    if requests < 1 or threads < requests:
        raise UsageError(f"{requests} runs at once need as many threads at least, not {threads}")
    return threads // requests


def run_together(work: Callable[[Task], Found], tasks: Sequence[Task], backend: BackendFacts) -> list[Found]:
    """``work``, which runs a session, on every task: as many at once as its backend takes, results in order."""
    at_once = min(backend.runs_at_once, len(tasks))
    if at_once < 2:
        return [work(task) for task in tasks]
    with ThreadPoolExecutor(at_once, "infer") as pool:
        return list(pool.map(work, tasks))
