"""A list's lines and names survive whatever they are made of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gloam.data.text import finite, lines_of, listed_name, listed_names, plain_name, table_rows, text_lines
from gloam.errors import DataError

INTRINSICS = ("", " 640 480", " SIMPLE_RADIAL 640 480 1.5e3 320 240 -0.1", ", 3", " PINHOLE 1, 2, 3")


@pytest.mark.parametrize(
    "name", ["a.jpg", "my photo.jpg", "a#b.jpg", "photo (1).jpg", "12/3 4.jpg", "é ü.png", "3.jpg"]
)
@pytest.mark.parametrize("behind", INTRINSICS)
def test_a_name_survives_intrinsics_spaces_and_hashes(name: str, behind: str) -> None:
    assert listed_name(name + behind) == name
    assert listed_name(f'"{name}"{behind}') == name


@given(st.text(st.characters(exclude_characters="\r\n\\/", exclude_categories=["Cs"]), min_size=1))
def test_a_quoted_name_is_itself(name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    (line,) = lines_of(f"# no\n{quoted} 1 2\n".encode())
    assert listed_name(line[1]) == plain_name(name)
    assert listed_names(f"{quoted} b.jpg") == [plain_name(name), "b.jpg"]


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("./a.jpg", "a.jpg"),
        ("a//b/./c.jpg", "a/b/c.jpg"),
        ("a\\b.jpg", "a/b.jpg"),
        (".\\a.jpg", "a.jpg"),
        ("/a//b.jpg", "/a/b.jpg"),
        ("../a.jpg", "../a.jpg"),
        ("a/", "a"),
        (".", "."),
    ],
)
def test_a_path_has_one_spelling(name: str, plain: str) -> None:
    assert plain_name(name) == plain
    assert plain_name(plain) == plain


def test_lines_are_those_of_any_system(tmp_path: Path) -> None:
    for number, ending in enumerate(("\n", "\r\n", "\r")):
        path = tmp_path / f"{number}.txt"
        path.write_bytes(b"\xef\xbb\xbf" + ending.join(["# a", "", "one\u2028\x85line", " b "]).encode())
        assert text_lines(path) == [(3, "one\u2028\x85line"), (4, "b")]


def test_other_files_are_refused_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "wide.txt").write_text("a.jpg", encoding="utf-16")
    with pytest.raises(DataError, match=r"wide\.txt: is not UTF-8 text \(UTF-16; save it as UTF-8"):
        text_lines(tmp_path / "wide.txt")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="a pipe, socket or device, not a file"):
        text_lines(tmp_path / "pipe")


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1e999", "one"])
def test_only_finite_numbers_are_numbers(text: str) -> None:
    assert finite("-1.5e3") == -1500
    with pytest.raises(ValueError, match=r"."):
        finite(text)


def test_a_table_has_whole_rows_and_columns_of_different_names(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b'\xef\xbb\xbfimage, x\r\na,1\r\n\r\n"b,c",2\r\n')
    columns, rows = table_rows(path)
    assert (columns, list(rows)) == (["image", "x"], [(2, {"image": "a", "x": "1"}), (4, {"image": "b,c", "x": "2"})])
    for content, message in (
        ("a,a\n1,2\n", "two columns of one name"),
        ("a,b\n1\n", r"t\.csv:2: 1 values where the header has 2"),
        ("a,b\n1,2\n1,2,3\n", r"t\.csv:3: 3 values where the header has 2"),
        ("a,b\n1,\xff\n", "cannot be read"),
        ("a,b\n1," + "x" * 200_000, "cannot be read"),
    ):
        path.write_text(content, encoding="latin-1")
        with pytest.raises(DataError, match=message):
            list(table_rows(path)[1])
    path.write_text("a,note\n1,two, three\n")
    assert [row for _, row in table_rows(path, notes=True)[1]] == [{"a": "1", "note": "two, three"}]
