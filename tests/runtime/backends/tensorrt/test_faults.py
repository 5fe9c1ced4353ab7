"""Faults planted in the runner: each would corrupt memory or read garbage on a GPU, and the fake device must see it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gloam.runtime.backends.cuda.device import Event
from gloam.runtime.backends.tensorrt.lane import Lane
from gloam.runtime.backends.tensorrt.session import TensorRTSession
from tests.fakes.cuda import FakeDevice, Misuse
from tests.runtime.backends.tensorrt.batches import batch, right


def unsynchronised(monkeypatch: pytest.MonkeyPatch) -> None:
    wait = FakeDevice.synchronize
    monkeypatch.setattr(
        FakeDevice, "synchronize", lambda self, waited=None: None if isinstance(waited, Event) else wait(self, waited)
    )


def too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    allocate = FakeDevice.allocate
    monkeypatch.setattr(FakeDevice, "allocate", lambda self, nbytes: allocate(self, nbytes - 1))


def freed_early(monkeypatch: pytest.MonkeyPatch) -> None:
    start = Lane.start

    def forgetful(self: Lane, profile: Any, inputs: Any) -> None:
        start(self, profile, inputs)
        for buffers in self._buffers.values():
            self._device.release(buffers.device["images"])

    monkeypatch.setattr(Lane, "start", forgetful)


def stale_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lane, "_drop_graphs", lambda self, profile: None)


def no_context(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeDevice, "current", lambda self: contextlib.nullcontext())


def overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    start = Lane.start

    def hasty(self: Lane, profile: Any, inputs: Any) -> None:
        start(self, profile, inputs)
        for buffers in self._buffers.values():
            buffers.pinned["images"].array[...] = 0  # before the copy has run

    monkeypatch.setattr(Lane, "start", hasty)


@pytest.mark.parametrize(
    ("plant", "seen"),
    [
        (unsynchronised, "garbage"),
        (overwritten, "garbage"),
        (too_small, "run over an allocation|too small"),
        (freed_early, "freed while a stream still uses it|use after free"),
        (stale_graphs, "use after free"),
        (no_context, "without the context being current"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_fake_device_sees_planted_faults(
    engine: Path, monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None], seen: str
) -> None:
    def work() -> bool:
        session = TensorRTSession(engine, contexts=2, cuda_graphs=plant is stale_graphs)
        good = True
        for rows in (2, 2, 8, 2, 2):
            given = batch(rows, seed=rows)
            good = right(session.run(given), given) and good
        return good

    assert work()
    plant(monkeypatch)
    if seen == "garbage":
        assert not work()
    else:
        with pytest.raises(Misuse, match=seen):
            work()
