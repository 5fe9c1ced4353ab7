"""Files are whole or absent, and names stay inside their folder."""

from __future__ import annotations

import errno
import gzip
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gloam import files
from gloam.errors import DataError, MissingExtraError, StoreError, require
from gloam.files import (
    OF_THIS_MACHINE,
    TEMPORARY_PREFIX,
    atomic_write,
    bad_name,
    canonical_json,
    clear_again,
    inside,
    load_json,
    open_file,
    plain_cell,
    printable,
    read_json,
    read_sealed,
    sealed_json,
    sha256_bytes,
    sha256_file,
    temporary_folder,
    write_bytes,
    write_json,
    write_text,
    write_where_changed,
)


def half_write(target: Path) -> None:
    with atomic_write(target) as handle:
        handle.write(b"half")
        raise RuntimeError("killed")


def test_a_pipe_or_device_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(StoreError, match="pipe: cannot be written"):
        write_text(pipe, "nobody reads")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, "read")
    assert os.read(reader, 99) == b"read"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


def test_write_is_whole_or_absent(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.bin"
    write_bytes(target, b"first")
    with pytest.raises(RuntimeError, match="killed"):
        half_write(target)
    assert target.read_bytes() == b"first"
    assert [path.name for path in target.parent.iterdir()] == ["file.bin"]


def test_full_disk_is_one_line_and_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file.bin"
    write_bytes(target, b"first")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"file\.bin: the disk is full; free some space"):
        write_bytes(target, b"second")
    assert target.read_bytes() == b"first"
    assert not list(tmp_path.glob(TEMPORARY_PREFIX + "*"))


VALUE = {"job": {"space": "5" * 64, "sides": [1024, None]}, "complete": True, "sha256": {"a": "0f" * 32, "ü": ""}}


def test_every_flipped_bit_of_a_sealed_file_is_found(tmp_path: Path) -> None:
    content, path = sealed_json(VALUE), tmp_path / "file.json"
    path.write_bytes(content)
    assert read_sealed(path) == json.loads(content) == VALUE
    for place in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            assert read_sealed(path) == VALUE, place  # the last byte may be another blank
            assert place // 8 == len(content) - 1, place
        except ValueError:
            pass


def test_a_json_file_without_a_seal_is_read_as_it_is(tmp_path: Path) -> None:
    for text in (json.dumps(VALUE), json.dumps(VALUE, indent=1) + "\n", sealed_json(VALUE).decode().rstrip() + "\n\n"):
        (tmp_path / "file.json").write_text(text)
        assert read_sealed(tmp_path / "file.json") == VALUE
    for text in ("", "{", "{}x", '{"a": NaN}', "[" * 100_000):
        (tmp_path / "file.json").write_text(text)
        with pytest.raises(ValueError, match="no JSON"):
            read_sealed(tmp_path / "file.json")


def test_what_has_not_changed_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_where_changed(tmp_path / "file", b"first")
    write_where_changed(tmp_path / "file", b"second")
    assert (tmp_path / "file").read_bytes() == b"second"
    monkeypatch.setattr(files, "write_bytes", None)
    write_where_changed(tmp_path / "file", b"second")


HOLDER = """
import sys
from pathlib import Path
from gloam.files import atomic_write, temporary_folder

place = Path(sys.argv[1])
with atomic_write(place / "file") as handle, temporary_folder(place) as folder:
    handle.write(b"half")
    (folder / "inside").write_text("half")
    print("writing", flush=True)
    sys.stdin.read()
"""


def temporaries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(OF_THIS_MACHINE))


def test_temporaries_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    holders = [
        subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    for holder in holders:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"writing\n"
    others = [tmp_path / f"{TEMPORARY_PREFIX}another.machine-x", tmp_path / f"{TEMPORARY_PREFIX}x", tmp_path / "thesis"]
    for path in others:
        path.write_text("precious")
    assert len(temporaries(tmp_path)) == 4
    holders[0].send_signal(signal.SIGKILL)
    holders[0].communicate()
    clear_again(tmp_path.parent)
    write_bytes(tmp_path / "next", b"x")  # as the next run that writes there
    assert len(temporaries(tmp_path)) == 2
    holders[1].communicate()
    assert (tmp_path / "file").read_bytes() == b"half"
    assert temporaries(tmp_path) == []
    assert all(path.read_text() == "precious" for path in others)


def test_a_temporary_folder_that_is_cleared_before_it_is_claimed_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, made = os.open, []

    def cleared(path: str, *options: int) -> int:
        if not made:
            made.append(path)
            os.rmdir(path)
        return opened(path, *options)

    monkeypatch.setattr("os.open", cleared)
    with temporary_folder(tmp_path) as folder:
        assert folder.is_dir()
        assert str(folder) != made[0]


def test_a_temporary_folder_goes_with_its_block(tmp_path: Path) -> None:
    with temporary_folder(tmp_path, "ray-") as folder:
        (folder / "inside").write_text("x")
        assert temporaries(tmp_path) == [folder.name]
        assert folder.name.startswith(f"{OF_THIS_MACHINE}ray-")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o027, 0o640), (0o002, 0o664)])
def test_the_users_mask_decides_who_reads_what_is_written(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        write_bytes(tmp_path / "file", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


@given(st.text(st.characters()))
def test_a_cell_is_one_line_of_text_and_no_formula(text: str) -> None:
    cell = plain_cell(text)
    assert cell.isprintable()
    assert cell.encode("utf-8").decode("utf-8") == cell
    assert cell.lstrip()[:1] not in ("=", "+", "-", "@")
    assert printable(text) == text or not text.isprintable()


@pytest.mark.parametrize(
    ("text", "shown", "cell"),
    [
        ("a b.jpg", "a b.jpg", "a b.jpg"),
        ("=cmd|' /C calc'!A0", "=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        (" @SUM(1)", " @SUM(1)", "' @SUM(1)"),
        ("-1.jpg", "-1.jpg", "'-1.jpg"),
        ("\t=1", "\\t=1", "\\t=1"),
        ("\x1b[2Ja\nb", "\\x1b[2Ja\\nb", "\\x1b[2Ja\\nb"),
        ("a\u202egpj.exe", "a\\u202egpj.exe", "a\\u202egpj.exe"),
        ("\udcff.jpg", "\\udcff.jpg", "\\udcff.jpg"),
    ],
)
def test_names_do_not_command(text: str, shown: str, cell: str) -> None:
    assert (printable(text), plain_cell(text)) == (shown, cell)


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../up.jpg", "a/../../b.jpg", "two\nlines.jpg", "nul\0.jpg", "a\\b.jpg", "\udcff.jpg"]
)
def test_names_that_leave_the_folder_or_break_a_line_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="image name"):
        inside(tmp_path, name)


@pytest.mark.parametrize("name", ["a.jpg", "night/rear/1.jpg", "näme with space.jpg", "a..b.jpg"])
def test_ordinary_names_pass(tmp_path: Path, name: str) -> None:
    assert inside(tmp_path, name) == tmp_path / name


def test_hashes_agree_and_canonical_json_has_one_spelling(tmp_path: Path) -> None:
    write_bytes(tmp_path / "file", b"content")
    assert sha256_file(tmp_path / "file") == sha256_bytes(b"content")
    assert canonical_json({"b": 1, "a": [1.5]}) == canonical_json({"a": [1.5], "b": 1}) == '{"a":[1.5],"b":1}'
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "nan.json", {"x": float("nan")})


def test_a_missing_package_names_its_extra() -> None:
    with pytest.raises(MissingExtraError, match=r"needed to fly.*gloam\[wings\]"):
        require("no_such_module_anywhere", "wings", "fly")


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        "[" * 70 + "]" * 70,
        '{"a": ' * 70 + "1" + "}" * 70,
        "[NaN]",
        "-Infinity",
        "1e999",
        "1" * 41,
        "9" * 5000,
        "{",
        "",
        '{"a": 1, "b": {"c": 1, "c": 1}}',
        '["\\ud800"]',
        '{"\\uDfff": 1}',
        b"\xff\xfe\xff",
        b'["\xed\xa0\x80"]',
        '{"a": 1}'.encode("utf-16"),
        '\ufeff{"a": 1}',
    ],
)
def test_json_that_cannot_be_used_is_one_kind_of_error(content: str | bytes) -> None:
    assert load_json(b'\xef\xbb\xbf{"a": [1.5, 2]}') == {"a": [1.5, 2]}
    with pytest.raises(ValueError, match=r"."):
        load_json(content)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(10**30), 10**30)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_that_is_written_is_read(value: object) -> None:
    assert load_json(canonical_json(value)) == value == load_json(canonical_json(value).encode())


def test_json_files_are_read_packed_too_and_within_a_size(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": [1]}')
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(b'{"a": [1]}'))
    assert read_json(tmp_path / "a.json") == read_json(tmp_path / "a.json.gz") == {"a": [1]}
    (tmp_path / "bomb.json.gz").write_bytes(gzip.compress(b" " * 10_000_000))
    (tmp_path / "short.json.gz").write_bytes((tmp_path / "a.json.gz").read_bytes()[:-9])
    for name in ("a.json", "bomb.json.gz"):
        with pytest.raises(ValueError, match="more than 9 bytes"):
            read_json(tmp_path / name, 9)
    with pytest.raises(ValueError, match="damaged"):
        read_json(tmp_path / "short.json.gz")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="a pipe"):
        read_json(tmp_path / "pipe")


def test_names_that_no_file_system_has_are_bad() -> None:
    assert bad_name("é" * 127 + "x") is None
    assert bad_name("a/" * 500 + "b.jpg") is None
    for name in ("é" * 128, "n" * 256, "a/" + "n" * 256 + "/b.jpg", "a/" * 1500 + "b.jpg"):
        assert "too long for a file system" in str(bad_name(name))


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match="a pipe, socket or device, not a file"):
            open_file(path)
    with pytest.raises(IsADirectoryError):
        open_file(tmp_path)
