"""A run is bound to what its images hold: another image is named, an unchanged one is not read again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gloam.errors import StoreError
from gloam.files import SETTLED
from gloam.training import run_contents
from gloam.training.run_contents import NOTES, RunContents
from tests.damage import flip


def images_of(folder: Path, count: int = 4) -> list[Path]:
    """Files that were written long ago."""
    paths = [folder / "images" / f"{number}.png" for number in range(count)]
    paths[0].parent.mkdir()
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * 100)
        age(path)
    return paths


def age(path: Path, seconds: int = 60) -> None:
    """Give a file a time well before now."""
    then = path.stat().st_mtime_ns - seconds * 1_000_000_000
    os.utime(path, ns=(then, then))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read."""
    found: list[str] = []
    whole = run_contents.sha256_file

    def noted(path: str) -> str:
        found.append(Path(path).name)
        return whole(path)

    monkeypatch.setattr(run_contents, "sha256_file", noted)
    return found


def test_unchanged_images_are_read_once(tmp_path: Path, read: list[str]) -> None:
    paths = images_of(tmp_path)
    first = RunContents(tmp_path / "run")
    found = first.sha256(paths)
    assert first.sha256([*paths, *paths]) != found == first.sha256(paths)
    first.note(begun=False)
    assert sorted(read) == [path.name for path in paths]
    again = RunContents(tmp_path / "run")
    assert again.sha256(paths) == found
    again.note(begun=True)
    assert len(read) == len(paths)
    assert RunContents().sha256(paths) == found  # without a folder all is read, and nothing is written


@pytest.mark.parametrize("how", ["size", "same size", "time put back", "younger than its note", "gone"])
def test_another_image_under_a_name_is_named(tmp_path: Path, how: str) -> None:
    paths = images_of(tmp_path)
    first = RunContents(tmp_path / "run")
    if how == "younger than its note":  # a change in the moment of the note leaves all of the stamp as it was
        os.utime(paths[1], ns=(SETTLED, (tmp_path / "images").stat().st_mtime_ns + SETTLED))
    found = first.sha256(paths)
    first.note(begun=False)
    before = paths[1].stat()
    if how == "gone":
        paths[1].unlink()
    else:
        with paths[1].open("r+b") as handle:
            handle.write(b"x" * (101 if how == "size" else 100))
        if how != "same size":
            os.utime(paths[1], ns=(before.st_atime_ns, before.st_mtime_ns))
    later = RunContents(tmp_path / "run")
    assert later.sha256(paths) != found
    with pytest.raises(StoreError, match=r"images/1\.png: changed since the run in \S+run began; put back"):
        later.note(begun=True)
    later.note(begun=False)  # nothing was made of it yet
    assert RunContents(tmp_path / "run").sha256(paths) == later.sha256(paths)


def test_notes_that_are_damaged_are_not_believed(tmp_path: Path, read: list[str]) -> None:
    paths = images_of(tmp_path)
    first = RunContents(tmp_path / "run")
    found = first.sha256(paths)
    first.note(begun=False)
    notes = tmp_path / "run" / NOTES
    whole = notes.read_bytes()
    for bit in range(0, 8 * len(whole) - 8, 301):
        flip(notes, bit)
        later = RunContents(tmp_path / "run")
        assert later.sha256(paths) == found
        later.note(begun=True)
        notes.write_bytes(whole)
    for content in (b"[]", b"{}", b'{"a": 3}', b'{"a": [1]}', b""):
        notes.write_bytes(content)
        assert RunContents(tmp_path / "run").sha256(paths) == found


def test_a_file_that_is_read_at_one_time_by_two_names_counts_for_both(tmp_path: Path, read: list[str]) -> None:
    paths = images_of(tmp_path)
    RunContents().sha256([paths[0], paths[1], paths[0]])
    assert sorted(read) == ["0.png", "1.png"]
