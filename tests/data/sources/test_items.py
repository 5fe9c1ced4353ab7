"""A list of images is what its records say, in order, whatever its length, and its names are told apart."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from gloam.data.sources import ImageItem, ImageList, find_images, repeats
from gloam.data.sources import items as source_items
from gloam.data.sources.items import BLOCK, make_item
from gloam.errors import DataError


def make(record: tuple[object, ...]) -> ImageItem:
    return make_item(str(record[0]), Path("/in") / str(record[0]))


@pytest.mark.parametrize("count", [0, 1, BLOCK - 1, BLOCK, 3 * BLOCK + 7])
def test_a_list_behaves_like_a_list(count: int) -> None:
    names = [f"{row:06d}\udcff.jpg" if row % 50 == 3 else f"{row:06d}.jpg" for row in range(count)]
    items = ImageList(((name,) for name in names), make)
    plain = [make((name,)) for name in names]
    assert len(items) == count
    assert list(items) == plain
    assert items[5:count:3] == plain[5:count:3]
    for row in {0, count // 2, count - 1, -1} if count else ():
        assert items[row] == plain[row]
    with pytest.raises(IndexError):
        items[count]


def test_a_long_list_takes_a_few_bytes_an_image() -> None:
    tracemalloc.start()
    try:
        items = ImageList(((f"camera/{row:09d}.jpg", row) for row in range(100_000)), make, repeated="twice: {first}")
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000_000  # a list of items would hold 30 million bytes
    assert peak < 4_000_000
    assert items[99_999].name == "camera/000099999.jpg"


@pytest.mark.parametrize("held", [16, 300, 1 << 17])
def test_repeats_finds_every_later_one(monkeypatch: pytest.MonkeyPatch, held: int) -> None:
    monkeypatch.setattr(source_items, "HASHES", held)
    names = [f"{row}" for row in range(2000)] + ["7", "1999", "7", "new"]
    assert repeats(lambda: iter(names)) == {2000: 7, 2001: 1999, 2002: 7}
    assert repeats(lambda: iter([])) == {}


def test_a_folder_is_listed_in_the_order_of_whole_paths(tmp_path: Path) -> None:
    names = ["a/b.jpg", "a.jpg", "a b/c.jpg", "a/b/c.jpg", "z.png", "B.png", "a-1/x.jpg", "a/b-c.jpg"]
    for name in [*names, ".hidden/a.jpg", "a/.b.jpg"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    os.symlink(tmp_path / "a", tmp_path / "linked")
    os.symlink(tmp_path / "a.jpg", tmp_path / "linked.jpg")
    found = find_images(tmp_path)
    assert [item.name for item in found] == sorted([*names, "linked.jpg"])
    assert all(item.read() == b"x" for item in found)


def test_a_list_names_an_image_once_and_is_relative_to_its_root(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("b.jpg\n# no\n\na.jpg\nb.jpg\n../x.jpg\n")
    found = find_images(tmp_path / "names.txt", tmp_path / "images")
    assert [item.name for item in found] == ["b.jpg", "a.jpg", "../x.jpg"]
    assert [item.problem is None for item in found] == [True, True, False]
    assert found[0].path == tmp_path / "images" / "b.jpg"
    assert find_images(tmp_path / "names.txt")[1].path == tmp_path / "a.jpg"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("absent", "no such folder"),
        ("a.tar.gz", "unpack it to .tar"),
        ("part-{9..1}.tar", "must rise"),
        ("*.tar", "no file matches"),
        ("{a,b}.zip", "must name .tar files or .parquet files"),
    ],
)
def test_what_is_no_source_is_said(tmp_path: Path, source: str, reason: str) -> None:
    (tmp_path / "a.tar.gz").write_bytes(b"x")
    with pytest.raises(DataError, match=reason) as error:
        find_images(tmp_path / source)
    assert len(str(error.value).splitlines()) == 1
