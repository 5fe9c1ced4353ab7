"""kapture's matches: read in either order, loose or from a tar; damaged ones are one line."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from gloam.data.kapture_matches import KaptureMatchFolder, encoded, match_file
from gloam.errors import DataError

ROWS = np.array([[0, 2], [3, 1]], np.uint32)
SCORES = np.float32([0.5, 1])


@pytest.fixture(params=["loose", "tar"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    name, content = match_file("db/a.jpg", "q/b.jpg"), encoded(ROWS, SCORES)
    place = tmp_path / "made"
    place.mkdir()
    if request.param == "tar":
        with tarfile.open(place / "matches.tar", "w") as tar:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    else:
        (place / name).parent.mkdir(parents=True)
        (place / name).write_bytes(content)
    return place


def test_a_pair_is_read_in_either_order(folder: Path) -> None:
    opened = KaptureMatchFolder(folder)
    rows, scores = opened.read("db/a.jpg", "q/b.jpg")
    np.testing.assert_array_equal(rows, ROWS)
    assert (rows.dtype, scores.dtype, scores.tolist()) == (np.uint32, np.float32, [0.5, 1])
    np.testing.assert_array_equal(opened.read("q/b.jpg", "db/a.jpg")[0], ROWS[:, ::-1])
    with pytest.raises(DataError, match=r"made: has no matches of 'c\.jpg' and 'db/a\.jpg'; match with this list"):
        opened.read("c.jpg", "db/a.jpg")


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none: no folder of matches"):
        KaptureMatchFolder(tmp_path / "none")


@pytest.mark.parametrize(
    "content",
    [
        encoded(ROWS, SCORES)[:-1],
        encoded(ROWS, np.float32([np.nan, 1])),
        np.float64([[0, 0.5, 1]]).tobytes(),
        np.float64([[-1, 0, 1]]).tobytes(),
        np.float64([[0, 2**32, 1]]).tobytes(),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    place = tmp_path / match_file("a", "b")
    place.parent.mkdir()
    place.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.overlapping/b\.matches: (length|its rows)") as caught:
        KaptureMatchFolder(tmp_path).read("a", "b")
    assert "\n" not in str(caught.value)
    place.write_bytes(b"")
    assert KaptureMatchFolder(tmp_path).read("b", "a")[0].shape == (0, 2)
