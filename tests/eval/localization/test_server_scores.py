"""A server's answer is read from text, CSV and JSON, liberal in separators, strict in ranges."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gloam.errors import DataError
from gloam.eval.localization.server_scores import condition_name, read_server_scores

NIGHT = (69.1, 84.3, 96.3)


@pytest.mark.parametrize(
    "line",
    [
        "night: 69.1 / 84.3 / 96.3",
        "night:69.1/84.3/96.3",
        "Night  69.1 84.3 96.3",
        "night | 69.1 | 84.3 | 96.3 |",
        "night; 69.1; 84.3; 96.3",
        "night, 69.1, 84.3, 96.3",
        "night\t69.1%\t84.3%\t96.3%",
        "night = 69.1 % / 84.3 % / 96.3 %",
        "\ufeffnight: 69.1 / 84.3 / 96.3\r",
    ],
)
def test_text_is_read_with_any_separators(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.txt").write_text(f"{line}\nday: 88.4 / 95.2 / 100\n", newline="")
    assert read_server_scores(tmp_path / "a.txt") == {("", ""): {"night": NIGHT, "day": (88.4, 95.2, 100.0)}}


def test_sections_name_row_and_method(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(
        "# of last week\n[Aachen VGG16 GeM, top-1]\nnight: 0 / 0 / 16.2\n\n"
        "[Aachen VGG16 GeM, 2b]\nnight: 69.1 / 84.3 / 96.3\novercast summer 1 2 3\n"
    )
    assert read_server_scores(tmp_path / "a.txt") == {
        ("Aachen VGG16 GeM", "top-1"): {"night": (0, 0, 16.2)},
        ("Aachen VGG16 GeM", "2b"): {"night": NIGHT, "overcast-summer": (1, 2, 3)},
    }


def test_tables_and_json_say_the_same(tmp_path: Path) -> None:
    expected = {("NetVLAD", "top-1"): {"night-all": (0.3, 2.3, 15.9), "day-all": (6.4, 26.3, 90.9)}}
    (tmp_path / "a.csv").write_text(
        "row,method,condition,fine,medium,coarse\nNetVLAD,top-1,Night-All,0.3,2.3,15.9\nNetVLAD,top-1,day_all,6.4,26.3,90.9\n"
    )
    value = {"NetVLAD": {"top-1": {"night all": [0.3, 2.3, 15.9], "day-all": [6.4, 26.3, 90.9]}}}
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert read_server_scores(tmp_path / "a.csv") == read_server_scores(tmp_path / "a.json") == expected
    (tmp_path / "b.csv").write_text("condition,fine,medium,coarse\nnight,69.1,84.3,96.3\n")
    (tmp_path / "b.json").write_text(json.dumps({"night": NIGHT}))
    assert (
        read_server_scores(tmp_path / "b.csv")
        == read_server_scores(tmp_path / "b.json")
        == {("", ""): {"night": NIGHT}}
    )
    assert condition_name(" Overcast_Winter ") == "overcast-winter"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", r"a\.txt: no scores in it; expected CONDITION"),
        ("a.txt", "night: 1 / 2\n", r"a\.txt:1: night has 2 numbers, not 3"),
        ("a.txt", "night: 1 / 2 / 3 / 4\n", r"a\.txt:1: night has 4 numbers, not 3"),
        ("a.txt", "\n1 / 2 / 3\n", r"a\.txt:2: '1 / 2 / 3' is no score"),
        ("a.txt", "night\n", r"a\.txt:1: 'night' is no score; expected CONDITION"),
        ("a.txt", "night: 1 / 2 / 100.1\n", r"a\.txt:1: night 1 / 2 / 100\.1: percentages are 0 to 100"),
        ("a.txt", "night: -1 / 2 / 3\n", r"a\.txt:1: night -1 / 2 / 3: percentages are 0 to 100"),
        ("a.txt", "night: nan / 2 / 3\n", r"a\.txt:1: night nan / 2 / 3: percentages are 0 to 100"),
        ("a.txt", "night: 3 / 2 / 3\n", r"a\.txt:1: night 3 / 2 / 3: within a wider threshold are at least as many"),
        ("a.txt", "night: 1 / 2 / 3\nNIGHT: 1 / 2 / 3\n", r"a\.txt:2: night is there already; remove one"),
        ("a.txt", "[NetVLAD]\nnight: 1 / 2 / 3\n", r"a\.txt:1: '\[NetVLAD\]' names no row and method"),
        ("a.csv", "condition,fine,medium\nnight,1,2\n", r"a\.csv:1: no column 'coarse'"),
        ("a.csv", "condition,fine,medium,coarse\nnight,1,x,3\n", r"a\.csv:2: 'x' is no number"),
        ("a.json", "{", r"a\.json: the server's scores cannot be read"),
        ("a.json", '{"night": 3}', r"a\.json: night holds no scores; expected ROW: METHOD: CONDITION"),
        ("a.json", '{"night": [1, 2, "x"]}', r"a\.json: night: '\"x\"' is no number"),
        ("a.json", '{"night": [1, 2]}', r"a\.json: night: night has 2 numbers"),
        ("none.txt", None, r"none\.txt: the server's scores cannot be read \(No such file"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_refused_with_its_line(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_server_scores(tmp_path / name)
