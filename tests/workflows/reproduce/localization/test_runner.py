"""A row from descriptors to cells and files; what goes wrong empties its own cells and is said."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from gloam.data.scene import Pose
from gloam.errors import DataError, ModelError
from gloam.eval.localization.ltvl import read_ltvl
from gloam.eval.localization.scores import aggregate
from gloam.eval.localization.server_scores import Scores
from gloam.workflows.reproduce.localization.runner import (
    Group,
    RowInput,
    SetRun,
    answered_cell,
    score_by_condition,
    slug,
)
from tests.eval.localization.benchmark_sets import robotcar
from tests.runtime.localization import exact_world
from tests.workflows.reproduce.localization.exact_set import descriptors, localizer

GROUPS = [Group(name, name, "night") for name in ("top-1", "2a", "2b")]
PRINTED = {"Aachen VGG16 GeM": {"top-1": (0.0, 0.0, 16.2), "2b": (62.3, 76.4, 91.1)}}
ROW = "Aachen VGG16 GeM"


def run_of(root: Path, truth: bool = True, scores: Scores | None = None, **options: object) -> SetRun:
    poses = {"q.png": exact_world.POSES["q.png"], "lost.png": exact_world.POSES["q.png"]} if truth else None
    return SetRun(localizer(root, **options), GROUPS, PRINTED, root / "out", poses, scores or {}, lambda line: None)


def row_input() -> RowInput:
    return RowInput(ROW, lambda: (descriptors("cbam"), {"network": "n", "weights": []}))


def test_a_row_has_cells_files_and_facts(tmp_path: Path) -> None:
    run = run_of(tmp_path, more_k=(1, 2))
    row = run.row(row_input())
    assert row.reason == ""
    assert row.facts == {"network": "n", "weights": [], "map images": 4, "queries": 2}
    assert row.cells["top-1"].ours == (0, 0, 100)
    assert row.cells["2b"].ours == (100, 100, 100)  # of four images: those of other numbers stand beside
    assert row.cells["2b"].published == (62.3, 76.4, 91.1)
    assert (row.cells["2a"].published, row.cells["2a"].source) == (None, "truth")
    assert set(run.records[ROW]) == {"top-1", "2a top-4", "2b top-4", "2b top-1", "2a top-2", "2b top-2"}
    assert run.records[ROW]["2b top-4"]["night"].recalls == (1, 1, 1)
    assert row.cells["2b"].submission == "submissions/Aachen_VGG16_GeM/2b_top-4.txt"
    file = tmp_path / "out" / row.cells["2b"].submission
    assert "q.png" in read_ltvl(file)
    beside = json.loads(file.with_name("2b_top-4.txt.json").read_text())
    assert (beside["row"], beside["method"], beside["embedder"]["network"]) == (ROW, "2b top-4", "n")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.txt")}
    assert len(before) == 6
    assert run_of(tmp_path, more_k=(1, 2)).row(row_input()) == row  # carried on
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.txt")} == before


def test_without_true_poses_a_row_waits_for_the_server(tmp_path: Path) -> None:
    cell = run_of(tmp_path, truth=False).row(row_input()).cells["2b"]
    assert (cell.ours, cell.source, cell.published) == (None, "", (62.3, 76.4, 91.1))
    assert cell.submission
    answered: Scores = {(ROW, "2b"): {"night": (1.0, 2.0, 3.0)}}
    for truth in (False, True):  # a server's number is not replaced
        cell = run_of(tmp_path, truth, answered).row(row_input()).cells["2b"]
        assert (cell.ours, cell.source) == ((1, 2, 3), "server")
        assert cell.submission


def test_what_goes_wrong_empties_its_own_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong() -> None:
        raise ModelError("weights.pth: holds no global descriptor")

    run = run_of(tmp_path)
    row = run.row(RowInput(ROW, wrong))  # type: ignore[arg-type]  # it gives nothing
    assert row.reason == "weights.pth: holds no global descriptor"
    assert row.cells["2b"].published == (62.3, 76.4, 91.1)
    assert (row.cells["2b"].ours, row.cells["2b"].submission) == (None, "")

    def no_map(*given: object) -> None:
        raise DataError("the map images share no verified matches")

    monkeypatch.setattr("gloam.workflows.reproduce.localization.protocol.fixed_map", no_map)
    row = run_of(tmp_path).row(row_input())
    assert row.reason == "2b top-4: the map images share no verified matches"
    assert row.cells["2a"].ours == (100, 100, 100)
    assert row.cells["2b"].ours is None


def test_top1_stands_for_a_query_without_a_pose(tmp_path: Path) -> None:
    run = run_of(tmp_path, unlocalized="top1", min_inliers=1000)  # none has as many
    row = run.row(row_input())
    assert row.cells["2b"].ours == row.cells["top-1"].ours == (0, 0, 100)
    assert row.cells["2b"].localized == 0
    poses = read_ltvl(tmp_path / "out" / row.cells["2b"].submission)
    assert set(poses) == {"q.png", "lost.png"}
    assert run_of(tmp_path, min_inliers=1000).row(row_input()).cells["2b"].ours == (0, 0, 0)


def test_a_servers_conditions_are_told_apart() -> None:
    group = Group("2b", "2b", "night")
    benchmark, _ = robotcar()
    scores: Scores = {
        ("a", "2b"): {"night-all": (1, 2, 3), "night": (9, 9, 9)},
        ("b", "2b"): {"night": (10, 20, 30), "night-rain": (0, 10, 20)},
        ("c", "2b"): {"day": (1, 2, 3)},
        ("d", "2b"): {"night": (4, 5, 6)},
    }
    assert answered_cell(scores, "a", group, None, benchmark).ours == (1, 2, 3)
    weighed = answered_cell(scores, "b", group, None, benchmark)
    assert (weighed.ours, weighed.other) == ((5, 15, 25), (5, 15, 25))  # as many queries in both
    assert answered_cell(scores, "d", group, None, None, single=True).ours == (4, 5, 6)
    assert answered_cell(scores, "none", group, (1, 2, 3), benchmark).to_dict()["published"] == [1, 2, 3]
    for row, given in (("b", None), ("c", benchmark), ("d", benchmark)):
        with pytest.raises(DataError, match=rf"the scores of {row}, 2b have no night-all; add a line night-all: "):
            answered_cell(scores, row, group, None, given)


def test_day_and_night_are_over_queries_and_the_mean_of_conditions_stands_beside() -> None:
    benchmark, truth = robotcar()
    dropped = [name for name in truth if name.startswith("night-rain/rear/")][:7]
    kept = {c: [name for name in names if name not in dropped] for c, names in benchmark.conditions.items()}
    benchmark = dataclasses.replace(benchmark, conditions=kept)
    for name in dropped:
        del benchmark.query.records[name]
    poses: dict[str, Pose | None] = {name: pose for name, pose in truth.items() if name.startswith("night/")}
    scores = score_by_condition(benchmark, poses, truth)
    assert {name: item.queries for name, item in scores.items()} == {"sun": 8, "night": 8, "night-rain": 1, "all": 17}
    night = aggregate(scores, benchmark.night)
    assert night.queries == 9
    assert night.recalls == pytest.approx([8 / 9] * 3)
    assert night.mean_of_conditions == pytest.approx([0.5] * 3)
    with pytest.raises(DataError, match="17 of 17 queries have no true pose, first "):
        score_by_condition(benchmark, poses, {})
    with pytest.raises(DataError, match="no queries of the conditions dusk to score"):
        aggregate(scores, ("dusk",))


def test_images_with_known_poses_are_scored_by_the_condition_in_their_path() -> None:
    benchmark, _ = robotcar(v2=True)
    scores = score_by_condition(benchmark, dict(benchmark.known), benchmark.known, benchmark.known_query)
    assert {name: (item.queries, item.recalls) for name, item in scores.items()} == {"night": (4, (1, 1, 1))}


def test_names_become_names_of_files() -> None:
    assert slug("w/o I2I, L_NCE") == "w_o_I2I_L_NCE"
    assert slug("2b top-20") == "2b_top-20"
