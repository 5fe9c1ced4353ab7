"""A list of images is what its records say, in order, whatever its length, and its names are told apart."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gloam.data.sources import ImageItem, ImageList, find_images, repeats
from gloam.data.sources import items as source_items
from gloam.data.sources.files import local_files
from gloam.data.sources.items import BLOCK, make_item, said_left_out
from gloam.errors import DataError, ImageError


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


@pytest.mark.parametrize("kind", ["folder", "list", "tar", "parquet"])
def test_a_list_is_the_same_in_another_process(tmp_path: Path, kind: str) -> None:
    contents = {f"{row:04d}.jpg": bytes([row % 251]) * 3 for row in range(3 * BLOCK)}
    (tmp_path / "in").mkdir()
    if kind in ("folder", "list"):
        for name, data in contents.items():
            (tmp_path / "in" / name).write_bytes(data)
        (tmp_path / "names.txt").write_text("\n".join([*contents, "../secret.jpg"]))
    elif kind == "tar":
        for number in range(2):  # every name is there twice
            with tarfile.open(tmp_path / "in" / f"{number}.tar", "w") as tar:
                for name, data in contents.items():
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    else:
        pq.write_table(
            pa.table({"image": list(contents.values()), "name": list(contents)}), tmp_path / "in" / "a.parquet"
        )
    source = find_images(tmp_path / "names.txt", tmp_path / "in") if kind == "list" else find_images(tmp_path / "in")
    there = pickle.loads(pickle.dumps(source))
    assert len(there) == len(source)
    facts = [[(item.name, item.path, item.problem) for item in items] for items in (source, there)]
    assert facts[0] == facts[1]
    assert any(problem is not None for *_, problem in facts[0]) == (kind in ("list", "tar"))
    for row in (0, BLOCK, 700):
        assert there[row].read() == source[row].read() == contents[f"{row:04d}.jpg"]


def test_a_long_list_does_not_stay_in_the_memory_of_another_process() -> None:
    pickled = pickle.dumps(ImageList(((f"camera/{row:09d}.jpg", row) for row in range(100_000)), make))
    tracemalloc.start()
    try:
        items = pickle.loads(pickled)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000_000
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


def test_linked_folders_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    root, outside = tmp_path / "in", tmp_path / "out"
    for folder in (root / "a", outside / "deep", outside / "deeper"):
        folder.mkdir(parents=True)
        (folder / "x.jpg").write_bytes(b"x")
    os.symlink(outside, root / "linked")
    os.symlink(outside, root / "twice")  # listed already
    os.symlink(root, outside / "deep" / "back")  # to what is being listed
    os.symlink(outside / "deep", outside / "deep" / "self")
    os.symlink(root / "a", root / "0")  # listed by its own name
    os.symlink("/", root / "up")  # holds what is being listed
    items = find_images(root)
    assert [item.name for item in items] == ["a/x.jpg", "linked/deep/x.jpg", "linked/deeper/x.jpg"]
    assert items.left_out == {"linked folder that leads back or is listed already": 5}  # type: ignore[attr-defined]  # of an ImageList
    assert sorted(local_files.glob(f"{root}/**/*.jpg")) == sorted(str(item.path) for item in items)


def test_what_lies_beside_images_is_counted(tmp_path: Path) -> None:
    names = ["a.jpg", "b", "c.jpgx", "notes.txt", "a.JSON", "Thumbs.db", "@eaDir/a.jpg", "x/desktop.ini", "a.tar"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    items = find_images(tmp_path)
    assert [item.name for item in items] == ["a.jpg", "a.tar", "b", "c.jpgx"]
    assert said_left_out(items) == "left out: 5 x not an image"
    assert said_left_out(items[:2]) is None
    with pytest.raises(DataError, match="no images found"):
        find_images(tmp_path / "x")


def test_a_pipe_in_a_folder_is_a_failure_and_not_a_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    (item,) = find_images(tmp_path)
    with pytest.raises(ImageError, match="a pipe, socket or device, not a file"):
        item.read()
    with pytest.raises(ImageError, match="a pipe, socket or device, not a file"):
        local_files.read(str(tmp_path / "a.jpg"))
    with pytest.raises(DataError, match="a pipe, socket or device, not a file"):
        find_images(tmp_path / "a.jpg")
    (tmp_path / "b.tar").parent.mkdir(exist_ok=True)
    os.mkfifo(tmp_path / "b.tar")
    (item,) = find_images(f"{tmp_path}/{{b,b}}.tar")[:1]
    assert "a pipe, socket or device" in str(item.problem)


@pytest.mark.parametrize("source", ["{a,b}" * 40 + ".tar", "{0..999999}" * 5 + ".tar", "{" * 5000 + "a" + "}" * 5000])
def test_braces_that_stand_for_too_much_come_to_an_end(tmp_path: Path, source: str) -> None:
    with pytest.raises(DataError) as error:
        find_images(source)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("source", ["n" * 300, "a/" * 3000, "nul\0", "n" * 300 + "/*.tar"])
def test_paths_that_cannot_be_are_no_sources(source: str) -> None:
    with pytest.raises(DataError):
        find_images(source)


def test_names_of_a_list_have_one_spelling(tmp_path: Path) -> None:
    lines = [
        "./a.jpg",
        "a.jpg PINHOLE 640 480 1 1 1 1",
        ".\\b//c.jpg 1 2",
        "my photo.jpg",
        "a#1.jpg",
        '"#2.jpg"',
        "é.jpg",
    ]
    (tmp_path / "names.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode() + b"\r\n\xff.jpg")
    items = find_images(tmp_path / "names.txt")
    names = ["a.jpg", "b/c.jpg", "my photo.jpg", "a#1.jpg", "#2.jpg", "é.jpg", "\\\\udcff.jpg"]
    assert [item.name for item in items] == names
    assert "UTF-8" in str(items[-1].problem)
    (tmp_path / "wide.txt").write_text("a.jpg", encoding="utf-16")
    with pytest.raises(DataError, match="save it as UTF-8"):
        find_images(tmp_path / "wide.txt")


@pytest.mark.parametrize("kind", ["folder", "tar", "parquet"])
def test_a_stamp_is_another_where_the_file_is(tmp_path: Path, kind: str) -> None:
    def write(content: bytes) -> list[ImageItem]:
        file = tmp_path / f"a.{ {'folder': 'png', 'tar': 'tar', 'parquet': 'parquet'}[kind] }"
        if kind == "folder":
            file.write_bytes(content)
            (tmp_path / "b.png").write_bytes(b"other")
        elif kind == "tar":
            with tarfile.open(file, "w") as tar:
                for name in ("a.png", "b.png"):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
        else:
            pq.write_table(pa.table({"image": [content, b"other"]}), file)
        os.utime(file, (1_600_000_000, 1_600_000_000))
        return list(find_images(tmp_path if kind == "folder" else file))

    items = write(b"one")
    first = [item.stamp() for item in items]
    assert None not in first
    assert len(set(first)) == 2  # one an image
    assert [item.stamp() for item in items] == first
    assert [stamp.changed_ns for stamp in first if stamp][:1] == [1_600_000_000 * 10**9]
    assert write(b"two")[0].stamp() != first[0]  # of the same size and time
    next(iter(tmp_path.glob("a.*"))).unlink()
    assert items[0].stamp() is None
