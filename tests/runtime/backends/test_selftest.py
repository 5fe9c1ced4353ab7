"""A model is tested once where it runs, and refused where it computes something else."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from gloam.errors import ModelError
from gloam.runtime.backends import selftest
from gloam.runtime.backends.ort import OrtSession
from gloam.runtime.backends.selftest import expect_selftest
from tests.tiny_models import write_tiny_embedder


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OrtSession:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    write_tiny_embedder(tmp_path / "m.onnx")
    return OrtSession(tmp_path / "m.onnx")


@pytest.fixture
def runs(session: OrtSession, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    made: list[Any] = []
    run = session.run
    monkeypatch.setattr(session, "run", lambda inputs: (made.append(inputs), run(inputs))[1])
    return made


def test_once_for_each_model_backend_and_precision(session: OrtSession, runs: list[Any], tmp_path: Path) -> None:
    for _ in range(3):
        expect_selftest(session, "m.onnx")
    assert len(runs) == 1
    assert len(list((tmp_path / "caches" / "gloam" / "selftests").iterdir())) == 1
    for change in ({"version": "0"}, {"precision": "bf16"}, {"backend": "openvino"}):
        session.backend = dataclasses.replace(session.backend, **change)  # type: ignore[arg-type]  # fields by name
        expect_selftest(session, "m.onnx")
    session.fingerprint = "another"
    expect_selftest(session, "m.onnx")
    assert len(runs) == 5


@pytest.mark.parametrize("place", ["/proc/nowhere", "/dev/null/x"])
def test_caches_that_cannot_be_written_cost_a_run_and_nothing_else(
    session: OrtSession, runs: list[Any], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", place)
    expect_selftest(session, "m.onnx")
    expect_selftest(session, "m.onnx")
    assert len(runs) == 2


def test_no_home_is_no_failure(session: OrtSession, runs: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    expect_selftest(session, "m.onnx")
    assert len(runs) == 1


def test_another_result_is_refused_every_time(session: OrtSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "run_selftest", lambda _: (float("nan"), 1e-5))
    for _ in range(2):
        with pytest.raises(ModelError, match=r"m\.onnx: its self-test failed on onnxruntime, max abs nan where 1e-05"):
            expect_selftest(session, "m.onnx")
    session.card = dataclasses.replace(session.card, selftest=None)
    expect_selftest(session, "m.onnx")
