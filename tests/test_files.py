"""Files are whole or absent, and names stay inside their folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from gloam.errors import DataError, MissingExtraError, StoreError, require
from gloam.files import (
    TEMPORARY_PREFIX,
    atomic_write,
    canonical_json,
    inside,
    sha256_bytes,
    sha256_file,
    write_bytes,
    write_json,
)


def half_write(target: Path) -> None:
    with atomic_write(target) as handle:
        handle.write(b"half")
        raise RuntimeError("killed")


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


def test_other_users_can_read_what_is_written(tmp_path: Path) -> None:
    write_bytes(tmp_path / "file", b"x")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


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
