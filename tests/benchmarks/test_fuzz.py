"""A slice of the damaged files, and how what happens to their readers is counted."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import fuzz
from benchmarks.shared.fuzz_mutations import MUTATIONS, mutate
from benchmarks.shared.fuzz_seeds import seeds
from benchmarks.shared.fuzz_worker import damaged, run_case

SLICE = 12  # of each kind


def test_a_slice_is_read_or_refused_in_one_line(tmp_path: Path) -> None:
    known = seeds(tmp_path / "seeds")
    assert known.keys() == fuzz.CASES.keys()
    for found in known.values():  # undamaged files are read
        for seed in found:
            assert seed.files[seed.target]
    rows = [run_case(kind, number, known, tmp_path / "case") for kind in known for number in range(SLICE)]
    assert [row for row in rows if row["outcome"] in fuzz.FAULTS] == []
    assert {row["outcome"] for row in rows} == {"read", "refused"}
    assert damaged("cards", 3, known["cards"]) == damaged("cards", 3, known["cards"])


def test_mutations_take_any_bytes() -> None:
    random = np.random.default_rng(0)
    for content in (b"", b"a", b"\x89PNG\r\n\x1a\n" + bytes(range(256)), b'{"a": 1}'):
        for mutation in MUTATIONS:
            assert isinstance(mutation(bytearray(content), content, random), bytearray)
        assert mutate(content, b"", np.random.default_rng(5)) == mutate(content, b"", np.random.default_rng(5))


@pytest.mark.parametrize(("does", "outcome"), [("os.abort()", "crash"), ("time.sleep(60)", "hang")])
def test_a_crash_and_a_hang_are_counted_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, does: str, outcome: str
) -> None:
    answer = 'print(\'{"outcome": "read"}\', flush=True)'
    program = f"import os, sys, time\n{answer}\nfor line in sys.stdin:\n    {does} if line == 'k 1\\n' else {answer}"
    monkeypatch.setattr(fuzz, "READER", (sys.executable, "-c", program))
    monkeypatch.setattr(fuzz, "HANG", 0.5)
    rows = fuzz.fuzz({"k": 4})
    assert [row["outcome"] for row in rows] == ["read", outcome, "read", "read"]
