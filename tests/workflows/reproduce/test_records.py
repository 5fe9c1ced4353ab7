"""A row's record holds what it takes to run the row again, and the time of a table is that table's alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gloam.workflows.reproduce.records import Budget, Scored, recorded_row, run_row
from gloam.workflows.reproduce.request import RetrievalRequest


def asked(output: Path, table: str = "1", budget: float | None = 60.0) -> RetrievalRequest:
    return RetrievalRequest("dark-side", table, output / "no data", output, town=True, budget=budget)


def ran(request: RetrievalRequest, name: str, trainings: int) -> tuple[float, float] | None:
    """Run a row of a table of so many embedders; the minutes of a generator and an embedder."""
    budget = Budget.of(request)
    shares = budget.shares(0, trainings)
    run_row(request, name, lambda seed: Scored({"day>day": 50.0}, {}), budget, lambda line: None, seeds=[0])
    return shares


def test_a_row_run_again_alone_has_the_minutes_that_it_had_among_the_others(tmp_path: Path) -> None:
    request = asked(tmp_path)
    shares = ran(request, "R101 GeM", 17)
    assert shares == pytest.approx((9.0, 3.0))
    again = recorded_row(tmp_path / "rows" / "R101_GeM" / "row.json", tmp_path / "again")
    assert again == replace(request, output=tmp_path / "again", rows=("R101 GeM",), shares=shares)
    assert Budget.of(again).shares(0, 1) == shares
    ran(asked(tmp_path, budget=None), "VGG16 GeM", 17)
    assert recorded_row(tmp_path / "rows" / "VGG16_GeM" / "row.json", tmp_path).shares is None


def test_the_time_of_another_table_in_the_folder_is_not_of_this_one(tmp_path: Path) -> None:
    ran(asked(tmp_path), "HEDNGAN", 1)
    record = tmp_path / "rows" / "HEDNGAN" / "row.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"seconds": 7200.0}))
    assert Budget.of(asked(tmp_path)).over
    other = asked(tmp_path, "5")
    assert Budget.of(other).before == 0
    ran(other, "HEDNGAN", 1)  # in the place of the first
    assert Budget.of(other).before < 3600


def test_a_row_is_of_the_seeds_that_are_asked_for(tmp_path: Path) -> None:
    run: list[int] = []

    def one(seed: int) -> Scored:
        run.append(seed)
        weights = [{"file": f"{seed}.safetensors", "sha256": str(seed)}]
        return Scored({"day>day": 50.0 + seed}, {"members": [{"weights": weights}]})

    def means(*seeds: int) -> float | None:
        request = asked(tmp_path)
        row = run_row(request, "R101 GeM", one, Budget.of(request), lambda line: None, seeds=seeds, key="same")
        assert row.facts["members"][0]["weights"][0]["sha256"] == str(seeds[0])
        assert list(row.facts["seeds"]) == [str(seed) for seed in seeds]
        return row.mean("day>day")

    assert [means(0), means(0), means(0, 1)] == [50.0, 50.0, 50.5]
    assert run == [0, 1]  # what is recorded is not run again
    assert [means(1), means(0), means(2, 3)] == [51.0, 50.0, 52.5]
