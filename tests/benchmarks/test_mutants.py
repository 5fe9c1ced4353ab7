"""Wrong programs are programs, each is one change, and tests of a module are found and run with it."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from benchmarks import mutants
from benchmarks.shared.harmless import HARMLESS
from benchmarks.shared.mutations import mutated, mutations

SOURCE = '''
"""Left alone: 1 + 1."""
LIMIT = 4


class Counter:
    def count(self, rows: list[int], limit: int = 3) -> int:
        """Words, left alone."""
        found = [row for row in rows if row > limit]
        if not found and limit >= 0.5:
            raise ValueError(f"{limit + 1}")
        self.last = sorted(found)[-1]
        np.stack([found, rows], axis=0)
        return min(len(found), 7) if rows[1:] else np.where(limit, 1, rows)
'''


def test_every_small_change_of_a_body_is_made_once() -> None:
    found = mutations(SOURCE)
    pairs = {(item.was, item.put) for item in found}
    assert pairs >= {
        ("row > limit", "row >= limit"),
        ("row > limit", "row < limit"),
        ("row > limit", ""),
        ("if not found and limit >= 0.5:", "if True:"),
        ("if not found and limit >= 0.5:", "if False:"),
        ("not found and limit >= 0.5", "not found or limit >= 0.5"),
        ("not found and limit >= 0.5", "limit >= 0.5"),
        ("limit >= 0.5", "limit >= 1.0"),
        ("sorted(found)", "list(found)"),
        ("self.last = sorted(found)[-1]", "pass"),
        ("sorted(found)[-1]", "sorted(found)[1]"),
        ("np.stack([found, rows], axis=0)", "pass"),
        ("np.stack([found, rows], axis=0)", "np.stack([found, rows])"),
        ("[found, rows]", "[rows]"),
        ("min(len(found), 7)", "max(len(found), 7)"),
        ("rows[1:]", "rows"),
        ("np.where(limit, 1, rows)", "np.where(limit, rows, 1)"),
        ("np.where(limit, 1, rows)", "np.where(limit, 2, rows)"),
    }
    assert len(pairs) == len(found)
    assert {item.function for item in found} == {"Counter.count"}
    texts = {mutated(SOURCE, item.number) for item in found}
    assert len(texts) == len(found)  # one change each, no two alike
    plain = ast.unparse(ast.parse(SOURCE)).splitlines()
    for text in texts:
        ast.parse(text)
        assert sum(line not in plain for line in text.splitlines()) <= 1
        assert [line for line in text.splitlines() if "def count" in line or "LIMIT" in line or "Words" in line] == [
            line for line in plain if "def count" in line or "LIMIT" in line or "Words" in line
        ]
        assert "{limit + 1}" in text or "raise" not in text


def test_the_tests_of_a_module_are_those_named_for_it(tmp_path: Path) -> None:
    for name in ("a/test_b.py", "a/test_b_fast.py", "a/test_c.py", "d/helper.py", "test_d.py", "test_d_more.py"):
        (tmp_path / "tests" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tests" / name).touch()
    assert mutants.mirror("gloam/a/b.py", tmp_path) == ("tests/a/test_b.py", "tests/a/test_b_fast.py")
    assert mutants.mirror("gloam/a/z.py", tmp_path) == (
        "tests/a/test_b.py",
        "tests/a/test_b_fast.py",
        "tests/a/test_c.py",
    )
    assert mutants.mirror("gloam/d/z.py", tmp_path) == ("tests/test_d.py", "tests/test_d_more.py")
    assert mutants.mirror("gloam/e/f/z.py", tmp_path) == ()


def test_the_draw_is_the_same_every_time_and_has_no_harmless_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(mutants.ONLY, raising=False)
    names = mutants.modules()
    assert {"gloam/data/images.py", "gloam/runtime/localization/pose.py"} < set(names)
    subjects = mutants.subjects()
    drawn = {item.module: item.drawn for item in subjects}
    assert all(mutants.draw(item.module, item.source) == item.drawn for item in subjects[:3])
    assert sum(map(len, drawn.values())) >= mutants.LEAST
    assert all(len(items) <= mutants.EACH for items in drawn.values())
    assert not any(mutants.harmless(name, item) for name, items in drawn.items() for item in items)
    assert all(item.tests for item in subjects)
    monkeypatch.setenv(mutants.ONLY, "pose,images")
    chosen = mutants.modules()
    assert chosen == [name for name in names if "pose" in name or "images" in name] != names


def test_every_harmless_change_is_one_that_can_be_made_and_has_a_reason() -> None:
    there = {
        (module, item.function, item.was, item.put)
        for module in {key[0] for key in HARMLESS}
        for item in mutations((mutants.ROOT / module).read_text())
    }
    assert sorted(set(HARMLESS) - there) == []
    assert all(len(reason) > 10 for reason in HARMLESS.values())


def test_the_figure_is_a_share_of_enough_programs() -> None:
    row = {"module": "m.py", "line": 3, "was": "a", "put": "b", "words": ""}
    rows = [row | {"verdict": "noticed"}] * 90 + [row | {"verdict": "survived"}] * 10
    result = mutants.summed(rows)
    assert (result.value, result.met) == (0.9, True)
    assert result.detail["survivors"] == ["m.py:3: a -> b"] * 10
    assert mutants.summed(rows[1:]).met is False  # 99 programs, of which 89
    assert mutants.summed([rows[0]] * 99).met is False


@pytest.mark.slow
def test_a_whole_module_of_wrong_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(mutants.ONLY, "localization/ltvl")
    result = mutants.run()
    assert np.isclose(result.value or 0, 1)
    assert result.detail["programs"] == mutants.EACH
    assert result.met is False  # too few
