"""The text format of the benchmark, by style of name."""

from __future__ import annotations

from pathlib import Path

import pytest

from gloam.data.scene import Pose
from gloam.errors import DataError
from gloam.eval.localization.ltvl import Style, benchmark_name, write_ltvl

POSE = Pose((0.5, -0.5, 0.5, 0.5), (1.5, 0.1, -3))
LINE = "0.5 -0.5 0.5 0.5 1.5 0.1 -3.0\n"


@pytest.mark.parametrize(
    ("style", "expected"), [("aachen", "b.jpg"), ("robotcar", "rear/b.jpg"), ("full", "night/a/b.jpg")]
)
def test_names_by_style(style: Style, expected: str) -> None:
    assert benchmark_name("night/a/b.jpg", "rear", style) == expected


def test_a_line_for_every_localized_query_by_name(tmp_path: Path) -> None:
    poses = {"z/2.jpg": POSE, "a/1.jpg": None, "a/3.jpg": POSE, "b/0.jpg": POSE}
    cameras = {"z/2.jpg": "left", "a/1.jpg": "left", "a/3.jpg": "right", "b/0.jpg": "rear"}
    assert write_ltvl(tmp_path / "out" / "a.txt", poses, cameras) == 3
    assert (tmp_path / "out" / "a.txt").read_text() == f"3.jpg {LINE}0.jpg {LINE}2.jpg {LINE}"
    assert write_ltvl(tmp_path / "b.txt", poses, cameras, "robotcar") == 3
    assert (tmp_path / "b.txt").read_text() == f"right/3.jpg {LINE}rear/0.jpg {LINE}left/2.jpg {LINE}"
    assert write_ltvl(tmp_path / "c.txt", {"a/1.jpg": None}, cameras) == 0
    assert (tmp_path / "c.txt").read_text() == ""


def test_two_queries_of_one_name_are_refused(tmp_path: Path) -> None:
    same = {"day/0.jpg": POSE, "night/0.jpg": POSE}
    with pytest.raises(
        DataError, match=r"two queries are called '0\.jpg' in the style 'aachen'; use --ltvl-style full"
    ):
        write_ltvl(tmp_path / "a.txt", same, dict.fromkeys(same, "rear"), "aachen")
    with pytest.raises(DataError, match=r"two queries are called 'rear/0\.jpg'"):
        write_ltvl(tmp_path / "a.txt", same, dict.fromkeys(same, "rear"), "robotcar")
    assert not (tmp_path / "a.txt").exists()
