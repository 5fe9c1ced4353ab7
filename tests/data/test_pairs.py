"""Pair lists: both formats, the line of every fault, nothing written by half."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gloam.data.pairs import Pair, read_pairs, write_pairs
from gloam.errors import DataError

PAIRS = [
    Pair("night/a.jpg", "map/1.jpg", 0.75),
    Pair("night/a.jpg", "map/2.jpg", -0.5),
    Pair("b.jpg", "map/1.jpg", 0.0),
]


def test_kapture_text_round_trips(tmp_path: Path) -> None:
    assert write_pairs(tmp_path / "pairs.txt", iter(PAIRS)) == 3
    assert read_pairs(tmp_path / "pairs.txt") == PAIRS
    lines = (tmp_path / "pairs.txt").read_text().splitlines()
    assert lines[:3] == [
        "# kapture format: 1.1",
        "# query_image, map_image, score",
        "night/a.jpg, map/1.jpg, 0.75",
    ]


def test_hloc_text_round_trips_without_scores(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.txt", PAIRS, "hloc")
    assert (tmp_path / "pairs.txt").read_text().splitlines()[0] == "night/a.jpg map/1.jpg"
    assert read_pairs(tmp_path / "pairs.txt") == [Pair(pair.query, pair.mapping) for pair in PAIRS]


def test_kapture_itself_reads_what_is_written(tmp_path: Path) -> None:
    csv = pytest.importorskip("kapture.io.csv")
    write_pairs(tmp_path / "pairs.txt", PAIRS)
    with open(tmp_path / "pairs.txt") as handle:
        rows = list(csv.table_from_file(handle))
    assert [(query, mapping, float(score)) for query, mapping, score in rows] == [
        (pair.query, pair.mapping, pair.score) for pair in PAIRS
    ]


@pytest.mark.parametrize(
    "line",
    [
        "a.jpg",
        "a.jpg b.jpg c.jpg",
        "a.jpg, b.jpg, high",
        "a.jpg, b.jpg, nan",
        "a.jpg, b.jpg, inf",
        "a.jpg, b.jpg, -1e999",
        '"a.jpg b.jpg',
        '"a".jpg b.jpg',
        "a.jpg, , 1",
        "../a.jpg b.jpg",
        "a, b, 1, 2",
    ],
)
def test_bad_line_is_named_with_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(f"# comment\n\na.jpg b.jpg\n{line}\n")
    with pytest.raises(DataError) as error:
        read_pairs(path)
    assert f"{path}:4:" in str(error.value)
    assert "\n" not in str(error.value)


def test_unreadable_lists_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9.jpg b.jpg\n")
    for path in (tmp_path / "latin.txt", tmp_path / "absent.txt", tmp_path):
        with pytest.raises(DataError, match=str(path)):
            read_pairs(path)


@pytest.mark.parametrize(
    ("format", "name"), [("kapture", "a,b.jpg"), ("hloc", "a b.jpg"), ("kapture", "a\nb.jpg"), ("hloc", "#a.jpg")]
)
def test_names_that_the_text_cannot_hold_are_refused(tmp_path: Path, format: str, name: str) -> None:
    with pytest.raises(DataError):
        write_pairs(tmp_path / "pairs.txt", [Pair(name, "b.jpg", 1.0)], format)  # type: ignore[arg-type]  # by parameter
    assert not (tmp_path / "pairs.txt").exists()


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    def broken() -> Iterator[Pair]:
        yield PAIRS[1]
        raise RuntimeError("killed")

    write_pairs(tmp_path / "pairs.txt", PAIRS)
    with pytest.raises(RuntimeError):
        write_pairs(tmp_path / "pairs.txt", broken())
    assert read_pairs(tmp_path / "pairs.txt") == PAIRS
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.txt"]


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_not_finite_are_not_written(tmp_path: Path, score: float) -> None:
    with pytest.raises(DataError, match=r"the score of 'a\.jpg' and 'b\.jpg' is"):
        write_pairs(tmp_path / "pairs.txt", [Pair("a.jpg", "b.jpg", score)])
    assert not (tmp_path / "pairs.txt").exists()


@pytest.mark.parametrize("line", ['"my a.jpg" b//c.jpg', "my a.jpg, b\\c.jpg, 0.5", '"my a.jpg"\t./b/c.jpg'])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_names_have_one_spelling_and_may_have_spaces(tmp_path: Path, line: str, mark: bytes) -> None:
    (tmp_path / "pairs.txt").write_bytes(mark + line.encode())
    (pair,) = read_pairs(tmp_path / "pairs.txt")
    assert (pair.query, pair.mapping) == ("my a.jpg", "b/c.jpg")
