"""What benchmarks share: no figure passes over NaN, and what is kept holds for the code that made it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks import any_size
from benchmarks.any_size import Case
from benchmarks.shared import callers, result
from benchmarks.shared.result import code_state, kept_rows, largest


def test_the_largest_of_values_with_nan_is_nan() -> None:
    assert largest(iter((1.0, 3.0, 2.0))) == 3.0
    assert math.isnan(largest((1.0, math.nan)))
    assert math.isnan(largest((math.nan, 1.0)))


def test_what_is_kept_is_of_the_same_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOAM_BENCH_RUNS", str(tmp_path / "kept"))
    monkeypatch.setattr(result, "ROOT", tmp_path)
    for name in ("gloam", "benchmarks"):
        (tmp_path / name).mkdir()
    measured: list[str] = []
    monkeypatch.setattr(any_size, "measure", lambda case: measured.append(case.name) or {"failed": None})
    case = Case("a kind", lambda path: pytest.fail("written"))

    def asked() -> int:
        code_state.cache_clear()
        any_size._of_earlier_run(case)
        return len(measured)

    assert [asked(), asked()] == [1, 1]
    (tmp_path / "gloam" / "recipe.yaml").write_text("margin: 1")
    assert [asked(), asked()] == [2, 2]
    (tmp_path / "benchmarks" / "any_size.py").write_text("COUNT = 1")
    assert [asked(), asked()] == [3, 3]
    code_state.cache_clear()


def test_rows_are_kept_by_benchmark_key_and_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result, "ROOT", tmp_path)
    (tmp_path / "gloam").mkdir()
    (tmp_path / "benchmarks").mkdir()
    made: list[str] = []

    def asked(benchmark: str, key: object) -> int:
        code_state.cache_clear()
        found = kept_rows(benchmark, key, lambda: made.append(benchmark) or {"torch": 1e-8})
        assert found == {"torch": 1e-8}
        return len(made)

    monkeypatch.delenv("GLOAM_BENCH_RUNS", raising=False)
    assert [asked("padding_exact", "a"), asked("padding_exact", "a")] == [1, 2]
    monkeypatch.setenv("GLOAM_BENCH_RUNS", str(tmp_path / "kept"))
    assert [asked("padding_exact", "a"), asked("padding_exact", "a")] == [3, 3]
    assert [asked("padding_exact", "b"), asked("engine_build", "a")] == [4, 5]
    (tmp_path / "gloam" / "layer.py").write_text("SIDE = 1")
    assert [asked("padding_exact", "a"), asked("padding_exact", "a")] == [6, 6]
    code_state.cache_clear()


def test_a_program_of_another_source_is_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    monkeypatch.delenv("GLOAM_BENCH_RUNS", raising=False)
    monkeypatch.setattr(callers, "EXAMPLES", tmp_path / "examples")
    monkeypatch.setattr(callers, "_step", lambda words, folder=None: steps.append(words[0]))
    monkeypatch.setattr(callers.shutil, "which", lambda tool: tool)
    source = tmp_path / "examples" / "node" / "describe.mjs"
    source.parent.mkdir(parents=True)
    for text in ("first", "first", "second"):
        source.write_text(text)
        command = callers.build("Node", tmp_path / "out")
        assert Path(command[1]).read_text() == text
    assert steps == ["npm", "npm"]
