"""The page of a table of localization: from generator to pose, beside the paper's numbers."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

from gloam.workflows.reports.localization import retrieval_recalls, write_localization_report
from gloam.workflows.reproduce.localization.result import GeneratorFacts, LocalizationTable, Row
from gloam.workflows.reproduce.localization.runner import RowInput, SetRun
from gloam.workflows.reproduce.published import published
from tests.workflows.reproduce.localization.exact_set import descriptors
from tests.workflows.reproduce.localization.test_runner import run_of

ROW = "Aachen R101 CycleGAN"


def words(page: Path) -> str:
    """What a reader sees, without charts and pictures."""
    text = re.sub(r"<(style|svg).*?</\1>", "", page.read_text(), flags=re.S)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", text)))


def table_of(run: SetRun) -> LocalizationTable:
    rows = [run.row(RowInput(ROW, lambda: (descriptors("cbam"), {"network": "n", "weights": []})))]
    rows.append(Row("Aachen R101 GeM", {}, {}, "r101.pth: is not there"))
    groups = tuple(group.name for group in run.groups)
    notes = ["one map for all rows"]
    return LocalizationTable(
        "dark-side", "3", published("dark-side", "3"), groups, rows, ["kapture's row"], notes=notes
    )


def test_a_page_leads_from_generator_to_pose(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    run.published = {ROW: {}}
    generators = [GeneratorFacts("CycleGAN", None, "", 10, 20, 90.0, {"KID": 0.0125}), GeneratorFacts("day as it is")]
    write_localization_report(tmp_path / "page.html", table_of(run), [run], generators)
    seen = words(tmp_path / "page.html")
    assert "of 1 Aachen night queries are localized" in seen
    assert f"{ROW} CycleGAN 0.013 100.0 100.0 0.0 / 0.0 / 100.0 100.0 / 100.0 / 100.0" in seen
    assert "CycleGAN 10 of 20 1.50 0.013" in seen
    assert "Aachen R101 GeM: r101.pth: is not there" in seen
    assert f"{ROW} submissions/Aachen_R101_CycleGAN/2b_top-4.txt 1 2" in seen
    assert "one map for all rows" in seen
    assert "kapture's row" in seen
    assert "Aachen, any map image 100.0" in seen
    assert f"q.png, {ROW}" in seen


def test_without_true_poses_a_page_has_the_table_and_the_files(tmp_path: Path) -> None:
    run = run_of(tmp_path, truth=False)
    write_localization_report(tmp_path / "page.html", table_of(run), [run])
    seen = words(tmp_path / "page.html")
    assert "submissions/Aachen_R101_CycleGAN/top-1.txt 2 2" in seen
    assert "queries are localized within" not in seen


def test_a_right_image_is_near_and_looks_the_same_way(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    run.row(RowInput(ROW, lambda: (descriptors("cbam"), {})))
    assert retrieval_recalls(run, ROW, "night", 1) == 1
    assert retrieval_recalls(run, ROW, "night", 1, near=0.1) == 0
    assert retrieval_recalls(run, "none", "night", 1) is None
    assert run.cosines[ROW]["q.png"] == pytest.approx([1.0, 0.995, 0.980, 0.955], abs=1e-3)
