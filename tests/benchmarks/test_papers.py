"""The papers' benchmark counts what is filled, names what is not, and carries on where it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import papers
from gloam.errors import DataError
from gloam.workflows.reproduce.published import TABLES
from gloam.workflows.reproduce.town.rows import TOWN_TABLES


def test_rows_are_counted_and_those_not_to_be_had_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []

    def filled(key, minutes, output, folder):
        called.append(key)
        if key[0] == "mduit":
            raise DataError("no room")
        rows = TOWN_TABLES[key][1] if key in TOWN_TABLES else papers.DRAWN.get(key, TABLES[key].rows)
        stated = rows if isinstance(rows, dict) else dict.fromkeys(rows, "")
        reasons = {name: getattr(row, "reason", "") for name, row in stated.items()}
        return reasons | ({"CLAHE C": "budget"} if key == ("dark-side", "5") and called.count(key) == 1 else {})

    monkeypatch.setattr(papers, "_runner", lambda key: filled)
    monkeypatch.setenv("GLOAM_BENCH_RUNS", str(tmp_path))
    monkeypatch.delenv("GLOAM_BENCH_ONLY", raising=False)
    found = papers.run()
    assert set(called) == set(TABLES) - {("dark-side", "2")}
    detail = found.detail
    assert detail["empty"]["dark-side 5"] == {"CLAHE C": "budget"}
    for table, count in (("mduit 1", 5), ("mduit figure3", 3), ("mduit figure4", 5)):
        assert list(detail["empty"][table].values()) == ["no room"] * count
    assert detail["rows"] - detail["filled"] == 1 + 5 + 3 + 5
    assert set(detail["not to be had"]["mduit figure3"]) == {"MUNIT", "PhotoWCT", "CD-GAN"}
    assert found.value == detail["filled"] / detail["rows"]
    assert found.met is False
    assert set(detail["not to be had"]["dark-side 2"]) == {"DOLG", "ViTGaL"}
    assert "DRIT" in detail["not to be had"]["dark-side 7"]
    again = papers.run()
    assert called.count(("dark-side", "5")) == 2
    assert called.count(("thesis", "figure5.1")) == 1  # whole, and only read
    assert again.detail["empty"]["dark-side 5"] == {}
    monkeypatch.setattr(papers, "code_state", lambda *_: "changed")
    papers.run()
    assert called.count(("thesis", "figure5.1")) == 2  # by other code
    monkeypatch.setenv("GLOAM_BENCH_ONLY", "dark-side 6")
    assert papers.run().met is None


def test_time_is_shared_out_over_all_trainings() -> None:
    generator, embedder = papers.shares(120.0)
    assert generator == pytest.approx(3 * embedder)
    assert 0.3 < embedder < 2
    assert 0.8 < papers.RETRIEVAL + sum(papers.OTHERS.values()) <= 0.85  # the rest goes to judging
