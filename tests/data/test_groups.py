"""Groups of images are read as they are written, and what is malformed is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gloam.data.groups import cameras, group_numbers, position_rows, positions, read_groups
from gloam.data.scene import Pose, Record, Scene
from gloam.errors import DataError


def test_a_column_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "groups.csv"
    path.write_text("\ufeffimage, camera ,location\n\na.jpg,left,\n b.jpg ,right, x \n", encoding="utf-8")
    assert read_groups(path, "camera") == {"a.jpg": "left", "b.jpg": "right"}
    assert read_groups(path, "location") == {"b.jpg": "x"}


def test_numbers_mean_the_same_group_in_every_list() -> None:
    groups = {"a": "left", "b": "right", "c": "left"}
    first, second = group_numbers(groups, ["b", "a", "z"], ["c", "b"])
    assert (first[1], first[0], first[2]) == (second[0], second[1], -1)
    assert first[0] != first[1]
    assert first.dtype == np.int64


def test_cameras_and_positions_of_several_datasets() -> None:
    first = Scene(Path("first"), records={"a": Record("left", 1), "b": Record("right", 1)})
    second = Scene(Path("second"), records={"c": Record("left", 1), "a": Record("left", 5)})
    first.poses = {"a": Pose((1.0, 0.0, 0.0, 0.0), (-1.0, 0.0, 2.0))}
    assert cameras([first, second]) == {"a": "left", "b": "right", "c": "left"}
    rows = position_rows(positions([first, second]), ["b", "a"])
    assert np.isnan(rows[0]).all()
    assert rows[1].tolist() == [1.0, 0.0, -2.0]
    second.records["a"] = Record("right", 5)
    second.poses["a"] = Pose((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    with pytest.raises(DataError, match="'a' is of camera 'right'"):
        cameras([first, second])
    with pytest.raises(DataError, match="another position"):
        positions([first, second])


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "found nothing"),
        ("name,camera\na,b\n", "needs a header"),
        ("image,place\na,b\n", "column 'camera', found image, place"),
        ("image,camera\na,b\na,c\n", ":3: image 'a' is listed twice"),
        ("image,camera\na\n", ":2: 1 values where the header has 2"),
        ("image,camera\na,\xff\n", "cannot be read"),
    ],
)
def test_a_malformed_table_is_one_line(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "groups.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=match) as error:
        read_groups(path, "camera")
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="cannot be read"):
        read_groups(tmp_path / "absent.csv", "camera")
