"""The two tables through the command line: what is missing, a server's answers, the layout."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from gloam.cli import reproduce as cli
from gloam.cli.shared.report import Report
from gloam.errors import DataError, UsageError
from gloam.workflows.reproduce.localization.request import LOCALIZED
from gloam.workflows.reproduce.localization.result import triples
from gloam.workflows.reproduce.published import kapture_context, published
from gloam.workflows.reproduce.rows import SOURCES


def run(*words: object) -> Report:
    parser = argparse.ArgumentParser()
    parser.set_defaults(leaf=parser)  # as every verb has it
    cli.add_arguments(parser)
    return cli.run(parser.parse_args([str(word) for word in words]))


def test_the_command_line_knows_the_tables() -> None:
    assert set(cli.LOCALIZED) == set(LOCALIZED)


def test_the_published_tables_are_of_three_columns_a_group() -> None:
    assert len(published("dark-side", "3").rows) == 12
    assert len(published("mduit", "1").rows) == 5
    for key, (_, groups) in LOCALIZED.items():
        table = published(*key)
        assert set(SOURCES[key]) == set(table.rows)
        for cells in triples(table, [group.name for group in groups]).values():
            for fine, medium, coarse in cells.values():
                assert 0 <= fine <= medium <= coarse <= 100
    found = triples(published("dark-side", "3"), ["top-1", "2a", "2b"])
    assert found["RobotCar R101 HEDNGAN"] == {
        "top-1": (0.3, 1.7, 21.4),
        "2a": (13.4, 24.7, 34.3),
        "2b": (15.9, 29.7, 40),
    }
    # One query of 191 and of 878: the benchmarks' numbers by night.
    assert round(100 * 31 / 191, 1) == found["Aachen VGG16 GeM"]["top-1"][2]
    assert round(100 / 878, 1) == found["RobotCar VGG16 CycleGAN"]["top-1"][0]
    assert len(kapture_context()) == 14
    assert len(kapture_context(["Aachen"])) == 8


def test_everything_missing_is_named_with_its_place(tmp_path: Path) -> None:
    report = run("dark-side", "3", "--data", tmp_path / "nothing", "-o", tmp_path / "out")
    assert report.exit_code == 1
    where = {item["path"].removeprefix(str(tmp_path / "nothing")): item["where"] for item in report.data["missing"]}
    assert "gloam pull gem_vgg16_hedngan" in where["/networks/hedngan_embed_vgg16.pth"]
    assert "Aachen-Day-Night-v1.1_mapping.tar.gz" in where["/localization/aachen-v1.1/mapping"]
    assert "CC BY-NC-SA" in where["/localization/robotcar-v1/query"]
    assert "--set robotcar-v1=PATH" in where["/localization/robotcar-v1/query"]
    assert len(where) == len(report.data["missing"])  # each once
    assert len(report.data["rows"]) == 12
    for row in report.data["rows"].values():
        assert row["reason"].endswith("is not there")
        assert row["cells"]["2b"]["published"][2] > 20
    assert "Aachen NetVLAD 2b" in report.text
    assert not (tmp_path / "out" / "report.html").exists()
    json.dumps(report.data, allow_nan=False)
    report = run("mduit", "1", "--data", tmp_path / "nothing", "-o", tmp_path / "out")
    assert [item["path"].rsplit("/", 1)[1] for item in report.data["missing"]] == [
        "Pitts30K_struct.mat",
        "mapping",
        "query",
    ]
    assert len(report.data["rows"]) == 5
    assert "neither the cameras nor how Day-All and Night-All are averaged" in report.text


def test_a_servers_answers_fill_the_table_without_the_benchmark(tmp_path: Path) -> None:
    answers = tmp_path / "answers.txt"
    answers.write_text(
        "[Aachen VGG16 GeM, 2b]\nday: 88.4 / 95.2 / 99.0\nnight: 60.2 / 75.4 / 90.1\n"
        "[RobotCar R101 GeM, top-1]\nnight-all: 0.2 / 1.0 / 11.1\n"
    )
    report = run("dark-side", "3", "--data", tmp_path, "-o", tmp_path / "out", "--scores", answers)
    assert report.exit_code == 0
    cell = report.data["rows"]["Aachen VGG16 GeM"]["cells"]["2b"]
    assert (cell["ours"], cell["source"]) == ([60.2, 75.4, 90.1], "server")
    assert cell["difference"] == pytest.approx([60.2 - 62.3, 75.4 - 76.4, 90.1 - 91.1])
    assert report.data["rows"]["RobotCar R101 GeM"]["cells"]["top-1"]["ours"] == [0.2, 1.0, 11.1]
    assert "62.3 / 76.4 / 91.1" in report.text
    assert "60.2 / 75.4 / 90.1" in report.text
    answers.write_text("day-all: 6.4 / 26.3 / 90.9\nnight-all: 0.3 / 2.3 / 15.9\n")  # of the one row and method
    report = run("mduit", "1", "--data", tmp_path, "-o", tmp_path / "out", "--rows", "NetVLAD", "--scores", answers)
    assert [cell["ours"] for cell in report.data["rows"]["NetVLAD"]["cells"].values()] == [
        [6.4, 26.3, 90.9], [0.3, 2.3, 15.9]
    ]  # fmt: skip
    assert report.data["rows"]["NetVLAD"]["reason"] == ""


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (("mduit", "2"), UsageError, r"mduit: no table '2' to reproduce; choose one of 1"),
        (("mduit", "1", "--rows", "Fulll"), UsageError, "mduit, table 1: no row 'Fulll'; choose one of NetVLAD, "),
        (("mduit", "1", "--weights", "x=y"), UsageError, "mduit, table 1: no row 'x'"),
        (("mduit", "1", "--weights", "y"), UsageError, "--weights 'y': give ROW=FILE"),
        (("mduit", "1", "--set", "y"), UsageError, "--set 'y': give NAME=PATH"),
        (("mduit", "1", "--set", "aachen-v1.1=y"), UsageError, r"--set aachen-v1.1=\.\.\.: mduit, table 1, is of "),
        (("mduit", "1", "--truth", "z=y"), UsageError, r"--truth z=\.\.\.: mduit, table 1, is of robotcar-v1, "),
        (("dark-side", "3", "--top-k", "0"), UsageError, "a query needs 1 retrieved image or more"),
        (("dark-side", "3", "--scores", "SCORES"), DataError, r"scores of no row and method; a line \[ROW, METHOD\]"),
    ],
)  # fmt: skip
def test_refusals_are_one_line(tmp_path: Path, words: tuple[str, ...], error: type[Exception], message: str) -> None:
    (tmp_path / "scores.txt").write_text("night: 1 / 2 / 3\n")
    given = [tmp_path / "scores.txt" if word == "SCORES" else word for word in words]
    with pytest.raises(error, match=message):
        run(*given, "--data", tmp_path, "-o", tmp_path / "out")


def test_half_a_benchmark_empties_its_own_rows(tmp_path: Path) -> None:
    (tmp_path / "localization/aachen-v1.1").mkdir(parents=True)
    report = run("dark-side", "3", "--data", tmp_path, "-o", tmp_path / "out")
    reason = report.data["rows"]["Aachen VGG16 GeM"]["reason"]
    assert reason.startswith(f"{tmp_path}/localization/aachen-v1.1: ")
    assert report.data["rows"]["RobotCar VGG16 GeM"]["reason"].endswith("robotcar-v1 is not there")
    assert any(item["where"] == reason for item in report.data["missing"])
