"""The text format of the benchmark, by style of name."""

from __future__ import annotations

from pathlib import Path

import pytest

from gloam.data.localization_sets.dataset import NameStyle
from gloam.data.scene import Pose
from gloam.errors import DataError
from gloam.eval.localization.ltvl import benchmark_name, by_image, read_ltvl, write_ltvl

POSE = Pose((0.5, -0.5, 0.5, 0.5), (1.5, 0.1, -3))
LINE = "0.5 -0.5 0.5 0.5 1.5 0.1 -3.0\n"


@pytest.mark.parametrize(
    ("style", "expected"), [("aachen", "b.jpg"), ("robotcar", "rear/b.jpg"), ("full", "night/a/b.jpg")]
)
def test_names_by_style(style: NameStyle, expected: str) -> None:
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


@pytest.mark.parametrize("style", ["aachen", "robotcar", "full"])
def test_what_is_written_is_read_in_any_style(tmp_path: Path, style: NameStyle) -> None:
    poses = {"z/2 b.jpg": POSE, "a/1.jpg": Pose((1.0, 0.0, 0.0, 0.0), (1e-9, -2.5, 1e6))}
    cameras = {"z/2 b.jpg": "left", "a/1.jpg": "rear", "a/3.jpg": "rear"}
    write_ltvl(tmp_path / "a.txt", poses, cameras, style)
    found = read_ltvl(tmp_path / "a.txt")
    assert sorted(found) == sorted(benchmark_name(name, cameras[name], style) for name in poses)
    assert by_image(found, cameras) == poses
    assert by_image({}, cameras) == {}


def test_a_name_of_no_image_or_of_two_is_refused() -> None:
    cameras = {"day/0.jpg": "rear", "night/0.jpg": "rear", "night/1.jpg": "rear"}
    assert by_image({"1.jpg": POSE}, cameras) == {"night/1.jpg": POSE}
    for names, wrong in ((["1.jpg", "0.jpg"], "0.jpg"), (["night/1.jpg", "x.jpg"], "x.jpg")):
        with pytest.raises(DataError, match=rf"^'{wrong}' is the name of no image of the ground truth, or of several"):
            by_image(dict.fromkeys(names, POSE), cameras)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("b.jpg 1 0 0 0 1 2", "malformed; expected name qw qx qy qz tx ty tz"),
        ("b.jpg 1 0 0 0 1 2 nan", "malformed; expected name"),
        ("1 0 0 0 1 2 3", "malformed; expected name"),
        ("b.jpg 0 0 0 0 1 2 3", "the pose is malformed: the quaternion 0, 0, 0, 0 is not of length 1"),
        ("a.jpg 1 0 0 0 1 2 3", "'a.jpg' is there already; remove one of the two"),
    ],
)
def test_a_line_that_is_no_pose_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "a.txt").write_text(f"a.jpg 1 0 0 0 1 2 3\n\n{line}\n")
    with pytest.raises(DataError) as caught:
        read_ltvl(tmp_path / "a.txt")
    assert str(caught.value).startswith(f"{tmp_path / 'a.txt'}:3: {message}")
