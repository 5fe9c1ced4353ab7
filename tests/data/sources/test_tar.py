"""Images in tar shards are those that were put in; damage costs the images it hit, and is named."""

from __future__ import annotations

import io
import pickle
import random
import tarfile
from pathlib import Path

import pytest

from gloam.data.sources import ImageItem, find_images
from gloam.errors import DataError, ImageError


def write_tar(path: Path, members: dict[str, bytes], form: int = tarfile.GNU_FORMAT) -> dict[str, int]:
    """Offsets of the headers."""
    offsets = {}
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            offsets[name] = tar.offset
            tar.addfile(member, io.BytesIO(content))
    return offsets


def random_members(count: int, prefix: str = "", seed: int = 0) -> dict[str, bytes]:
    rng = random.Random(seed)
    return {f"{prefix}{row:04d}.jpg": rng.randbytes(rng.randrange(1, 3000)) for row in range(count)}


def read(item: ImageItem) -> bytes | str:
    try:
        return item.problem or item.read()
    except ImageError as error:
        return str(error)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_read_by_offset_in_any_order(tmp_path: Path, form: int) -> None:
    members = random_members(30)
    if form != tarfile.USTAR_FORMAT:
        members |= {"place/" + "long" * 60 + ".jpg": b"long", "naïve/ü.png": b"umlaut"}
    write_tar(tmp_path / "a.tar", members, form)
    items = find_images(tmp_path / "a.tar")
    assert [item.name for item in items] == list(members)
    order = list(range(len(items)))
    random.Random(1).shuffle(order)
    for row in order:
        assert items[row].read() == members[items[row].name]
    assert pickle.loads(pickle.dumps(items[3])).read() == members[items[3].name]


def test_only_images_count_and_links_are_said(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, kind in (
            ("folder.jpg", tarfile.DIRTYPE),
            ("a.jpg", tarfile.REGTYPE),
            ("a.json", tarfile.REGTYPE),
            ("._a.jpg", tarfile.REGTYPE),
            ("b.jpg", tarfile.SYMTYPE),
            ("../c.jpg", tarfile.REGTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type = kind
            member.linkname = "a.jpg" if kind == tarfile.SYMTYPE else ""
            tar.addfile(member)
    problems = {item.name: item.problem for item in find_images(tmp_path / "a.tar")}
    assert list(problems) == ["a.jpg", "b.jpg", "../c.jpg"]
    assert problems["a.jpg"] is None
    assert problems["b.jpg"] == "a.tar: a link inside the tar; pack the files themselves"
    assert "contains '..'" in str(problems["../c.jpg"])


@pytest.mark.parametrize("source", ["", "part-{000..002}.tar", "part-*.tar", "{part-000,part-001,part-002}.tar"])
def test_many_tars_are_one_source(tmp_path: Path, source: str) -> None:
    whole: dict[str, bytes] = {}
    for number in range(3):
        members = random_members(4, f"{number}/", number)
        write_tar(tmp_path / f"part-{number:03d}.tar", members)
        whole |= members
    (tmp_path / "manifest.json").write_text("{}")
    assert {item.name: item.read() for item in find_images(tmp_path / source)} == whole


def test_a_folder_with_images_beside_a_tar_is_a_folder(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", random_members(2))
    (tmp_path / "b.jpg").write_bytes(b"x")
    assert [item.name for item in find_images(tmp_path)] == ["a.tar", "b.jpg"]


def test_a_name_that_is_there_twice_is_described_once(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"x.jpg": b"1", "y.jpg": b"2"})
    write_tar(tmp_path / "b.tar", {"x.jpg": b"3", "z.jpg": b"4"})
    items = find_images(tmp_path)
    assert [item.problem is None for item in items] == [True, True, False, True]
    assert items[2].problem == f"another image has this name, in {tmp_path / 'a.tar'}; names must differ"


def test_a_damaged_header_costs_one_member(tmp_path: Path) -> None:
    members = random_members(9)
    offsets = write_tar(tmp_path / "a.tar", members)
    content = bytearray((tmp_path / "a.tar").read_bytes())
    for name in ("0003.jpg", "0004.jpg", "0007.jpg"):
        content[offsets[name] : offsets[name] + 200] = b"\xaa" * 200
    (tmp_path / "a.tar").write_bytes(content)
    found = {item.name: read(item) for item in find_images(tmp_path / "a.tar")}
    assert {name: found[name] for name in members if name in found} == {
        name: members[name] for name in members if name not in ("0003.jpg", "0004.jpg", "0007.jpg")
    }
    lost = [reason for name, reason in found.items() if name not in members]
    assert len(lost) == 2  # two in a row are one gap
    assert all("a.tar: no member begins at byte" in str(reason) for reason in lost)


@pytest.mark.parametrize("keep", [0, 100, 512, 600, 5000, -1024, -1500])
def test_a_tar_cut_anywhere_keeps_what_is_whole(tmp_path: Path, keep: int) -> None:
    members = random_members(12, seed=3)
    write_tar(tmp_path / "whole.tar", members)
    end = sum(512 + -(-len(content) // 512) * 512 for content in members.values())
    cut = keep if keep >= 0 else end + keep
    (tmp_path / "a.tar").write_bytes((tmp_path / "whole.tar").read_bytes()[:cut])
    (tmp_path / "whole.tar").unlink()
    found = {item.name: read(item) for item in find_images(tmp_path / "a.tar")}
    assert found  # a tar without one image is a row too
    for name, what in found.items():
        if isinstance(what, bytes):
            assert what == members[name]
        else:
            assert what.startswith("a.tar: ")
    whole = [name for name in members if isinstance(found.get(name), bytes)]
    assert whole == list(members)[: len(whole)]
    assert len(found) <= len(whole) + 1


def test_files_that_are_no_tar_are_rows(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"this is text\n" * 200)
    write_tar(tmp_path / "c.tar", {"x.jpg": b"1"})
    found = {item.name: item.problem for item in find_images(tmp_path / "{a,b,c}.tar")}
    assert list(found) == ["a.tar@0", "b.tar", "x.jpg"]
    assert "damaged, or no tar" in str(found["a.tar@0"])
    assert "No such file" in str(found["b.tar"])
    assert found["x.jpg"] is None


def test_a_tar_that_shrinks_or_goes_is_a_reason(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"x.jpg": bytes(5000)})
    (item,) = find_images(tmp_path / "a.tar")
    with open(tmp_path / "a.tar", "rb+") as file:
        file.truncate(1000)
    with pytest.raises(ImageError, match="truncated: 488 of 5000 bytes"):
        item.read()
    (tmp_path / "a.tar").unlink()
    with pytest.raises(ImageError, match="No such file"):
        item.read()
    assert item.explained("why") == "a.tar: why"


def test_a_tar_without_images_is_no_source(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"x.json": b"{}"})
    with pytest.raises(DataError, match="no images found"):
        find_images(tmp_path / "a.tar")


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A member's header whose size may be negative."""
    member = tarfile.TarInfo(name)
    member.type = kind
    block = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    block[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(block))[0]
    return bytes(block)


@pytest.mark.parametrize("size", [-1, -512, -1024, -(1 << 40)])
@pytest.mark.parametrize("first", [False, True])
def test_a_length_that_leads_backwards_is_damage(tmp_path: Path, size: int, first: bool) -> None:
    path = tmp_path / "a.tar"
    write_tar(path, {"x.jpg": b"1", "y.jpg": b"2"})
    content = path.read_bytes()
    at = 0 if first else 1024
    path.write_bytes(content[:at] + header("bad.jpg", size) + content[at:])
    found = {item.name: item.problem for item in find_images(path)}
    assert list(found) == ([f"a.tar@{at}", "x.jpg", "y.jpg"] if first else ["x.jpg", f"a.tar@{at}", "y.jpg"])
    assert found["x.jpg"] is found["y.jpg"] is None


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_header_of_no_sensible_length_is_damage(tmp_path: Path, kind: bytes) -> None:
    write_tar(tmp_path / "x.tar", {"x.jpg": b"1"})
    with open(tmp_path / "a.tar", "wb") as file:
        file.write(header("long", 1 << 34, kind))
        file.write((tmp_path / "x.tar").read_bytes())
        file.truncate(1 << 35)
        file.truncate(1 << 20)
    found = [item.name for item in find_images(tmp_path / "a.tar")]
    assert found == ["a.tar@0", "x.jpg"]


def test_tars_one_behind_the_other_are_read_to_the_end(tmp_path: Path) -> None:
    content = b""
    for name in "abc":
        write_tar(tmp_path / "one.tar", {f"{name}.jpg": name.encode()})
        content += (tmp_path / "one.tar").read_bytes()
    (tmp_path / "all.tar").write_bytes(content)
    assert {item.name: read(item) for item in find_images(tmp_path / "all.tar")} == {
        "a.jpg": b"a",
        "b.jpg": b"b",
        "c.jpg": b"c",
    }
    (tmp_path / "all.tar").write_bytes(content + b"something else" * 100)
    (*_, last) = find_images(tmp_path / "all.tar")
    assert last.name == f"all.tar@{len(content)}"


def test_sparse_files_are_said(tmp_path: Path) -> None:
    member = tarfile.TarInfo("x.jpg")
    member.pax_headers = {"GNU.sparse.map": "0,3", "GNU.sparse.size": "9000", "GNU.sparse.name": "x.jpg"}
    member.size = 3
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(member, io.BytesIO(b"abc"))
        tar.addfile(tarfile.TarInfo("y.jpg"))
    found = {item.name: item.problem for item in find_images(tmp_path / "a.tar")}
    assert found == {"x.jpg": "a.tar: a sparse file inside the tar; pack it without --sparse", "y.jpg": None}


def test_names_have_one_spelling_and_what_is_beside_is_counted(tmp_path: Path) -> None:
    names = ["./a.jpg", "b//c.jpg", "b\\d.jpg", "a.jpg", "a.json", "n" * 260 + ".jpg"]
    write_tar(tmp_path / "a.tar", dict.fromkeys(names, b"x"))
    items = find_images(tmp_path / "a.tar")
    assert [item.name for item in items][:4] == ["a.jpg", "b/c.jpg", "b/d.jpg", "a.jpg"]
    assert [item.problem is None for item in items] == [True, True, True, False, False]
    assert "too long for a file system" in str(items[4].problem)
    assert items.left_out == {"not an image": 1}  # type: ignore[attr-defined]  # of an ImageList
    assert pickle.loads(pickle.dumps(items)).left_out == items.left_out  # type: ignore[attr-defined]  # as above
