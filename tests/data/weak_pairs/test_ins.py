"""Positions of RobotCar's traversals: interpolated between rows, left out and counted, refused with the line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gloam.data.weak_pairs.ins import Track, interpolated, read_ins, read_timestamps, read_traversal
from gloam.data.weak_pairs.positions import NO_FILE
from gloam.errors import DataError
from tests.data.weak_pairs.drives import EAST, HEADER, NORTH, STEP, write_drive


def track(times: list[int], yaws: list[float], good: list[bool] | None = None) -> Track:
    values = np.array([(10.0 * row, 0.0, yaw) for row, yaw in enumerate(yaws)])
    return Track(np.array(times), np.array(good or [True] * len(times)), values, "30 north")


def test_the_fraction_between_two_rows_is_a_true_ratio() -> None:
    values, reasons = interpolated(track([0, 100], [0.0, 0.4]), np.array([0, 25, 99, 100]), 200)
    assert reasons == [""] * 4
    np.testing.assert_allclose(values, [[0, 0, 0], [2.5, 0, 0.1], [9.9, 0, 0.396], [10, 0, 0.4]], atol=1e-12)


def test_microseconds_since_1970_lose_nothing() -> None:
    start = 1_447_000_000_000_000
    values, _ = interpolated(track([start, start + 20_000], [0.0, 0.0]), np.array([start + 1]), 200_000)
    assert values[0, 0] == pytest.approx(10 / 20_000, abs=1e-12)


@pytest.mark.parametrize(("first", "second"), [(3.1, -3.1), (6.2, 0.1), (-3.1, 3.1), (0.1, 6.2)])
def test_yaw_goes_the_short_way_round(first: float, second: float) -> None:
    values, _ = interpolated(track([0, 100], [first, second]), np.array([50]), 200)
    half = np.angle((np.exp(1j * first) + np.exp(1j * second)) / 2)
    assert abs(np.angle(np.exp(1j * (values[0, 2] - half)))) < 1e-9


def test_images_without_two_good_rows_around_them_are_left_out_with_the_reason() -> None:
    found = track([100, 120, 140, 500, 520], [0.0] * 5, [True, True, False, True, True])
    _, reasons = interpolated(found, np.array([99, 110, 120, 130, 140, 300, 510, 521]), 200)
    assert reasons == [
        "before or after the INS",
        "",
        "",
        "INS is not INS_SOLUTION_GOOD",
        "INS is not INS_SOLUTION_GOOD",
        "in a gap of the INS of more than 0.0002 s",
        "",
        "before or after the INS",
    ]


def test_a_traversal_is_positioned_and_counted(tmp_path: Path) -> None:
    write_drive(tmp_path, images=20)
    first = read_timestamps(tmp_path / "stereo.timestamps")[0]
    (tmp_path / "stereo" / "centre" / f"{first}.png").unlink()
    listed = tmp_path / "stereo.timestamps"
    listed.write_text(f"{first - 8_000} 1\n" + listed.read_text())
    found = read_traversal(tmp_path)
    assert len(found) == 19
    assert found.left_out == {NO_FILE: 1, "before or after the INS": 1}
    assert found.frame == "UTM zone 30 north"
    np.testing.assert_allclose(found.centers[0], [EAST, NORTH + 4.07, 0], atol=1e-6)  # north at 10 m/s after 0.407 s
    np.testing.assert_allclose(found.directions[0], [1, 0, 0], atol=1e-12)


def test_rows_that_are_not_good_are_not_read_as_numbers(tmp_path: Path) -> None:
    rows = write_drive(tmp_path, images=20)
    cells = rows[1].split(",")
    cells[1:] = ["INS_SOLUTION_NOT_GOOD", *["nan"] * 13]
    (tmp_path / "gps" / "ins.csv").write_text("\n".join([rows[0], ",".join(cells), *rows[2:]]))
    assert read_traversal(tmp_path).left_out == {"INS is not INS_SOLUTION_GOOD": 1}


def test_marks_of_other_systems_are_read(tmp_path: Path) -> None:
    rows = write_drive(tmp_path, images=5)
    (tmp_path / "gps" / "ins.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).encode())
    times = (tmp_path / "stereo.timestamps").read_text()
    (tmp_path / "stereo.timestamps").write_bytes(b"\xef\xbb\xbf" + times.replace("\n", "\r\n").encode())
    assert len(read_traversal(tmp_path)) == 5


def test_a_doubted_traversal_is_noted(tmp_path: Path) -> None:
    write_drive(tmp_path / "2014-11-14-16-34-33", images=3)
    assert "leaves out" in read_traversal(tmp_path / "2014-11-14-16-34-33").notes[0]


ROW = "{},INS_SOLUTION_GOOD,51.7,-1.2,100,{},620000.0,0,30U,0,0,0,0,0,{}"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([HEADER.replace(",yaw", ",Yaw"), ROW.format(1, 2, 3)], r"ins.csv:1: no column 'yaw'"),
        ([HEADER, ROW.format(1, 2, 3) + ",9"], r"ins.csv:2: 16 values where the header has 15"),
        ([HEADER, ROW.format(1, "nan", 3)], r"ins.csv:2: malformed \('nan' is not finite\)"),
        ([HEADER, ROW.format(1, 2, "west")], r"ins.csv:2: malformed .*'west'"),
        ([HEADER, ROW.format(5, 2, 3), ROW.format(4, 2, 3)], r"ins.csv:3: timestamp 4 is before that of line 2"),
        ([HEADER, ROW.format(5, 2, 3), ROW.format(5, 2, 3)], r"ins.csv:3: timestamp 5 is there already, in line 2"),
        ([HEADER, ROW.format("1.5", 2, 3)], r"ins.csv:2: timestamp '1.5' is no whole number"),
        ([HEADER, ROW.format(1, 2, 3).replace("30U", "61U")], r"ins.csv:2: malformed \('61U' is no UTM zone"),
        (
            [HEADER, ROW.format(1, 2, 3), ROW.format(2, 2, 3).replace("30U", "31U")],
            r":3: is of UTM zone 31 north, line 2",
        ),
        ([HEADER, ROW.format(1, 2, 3).replace("GOOD", "BAD")], r"none of its 1 rows is INS_SOLUTION_GOOD"),
        ([HEADER], r"none of its 0 rows"),
    ],
)
def test_a_table_of_the_ins_that_is_wrong_is_refused_with_its_line(
    tmp_path: Path, rows: list[str], message: str
) -> None:
    (tmp_path / "ins.csv").write_text("\n".join(rows))
    with pytest.raises(DataError, match=message):
        read_ins(tmp_path / "ins.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2 1\n1 1\n", r"stereo.timestamps:2: timestamp 1 is before that of line 1"),
        ("2 1\n2 1\n", r"stereo.timestamps:2: timestamp 2 is there already, in line 1"),
        ("1 1\nnan 1\n", r"stereo.timestamps:2: timestamp 'nan' is no whole number"),
        ("\n", r"stereo.timestamps: lists no images"),
    ],
)
def test_a_list_of_times_that_is_wrong_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "stereo.timestamps").write_text(text)
    with pytest.raises(DataError, match=message):
        read_timestamps(tmp_path / "stereo.timestamps")


def test_a_traversal_without_its_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gps/ins.csv: the table of the INS cannot be read"):
        read_traversal(tmp_path)
    write_drive(tmp_path, images=3)
    with pytest.raises(DataError, match=r"mono_rear.timestamps: the list of images' times cannot be read"):
        read_traversal(tmp_path, camera="mono_rear")


def test_a_gap_of_the_ins_takes_its_images(tmp_path: Path) -> None:
    rows = write_drive(tmp_path, images=20)
    (tmp_path / "gps" / "ins.csv").write_text("\n".join(rows[:22] + rows[22 + 500_000 // STEP :]))  # 0.4 to 0.92 s
    found = read_traversal(tmp_path, gap=0.2)
    assert found.left_out == {"in a gap of the INS of more than 0.2 s": 2}
    assert not read_traversal(tmp_path, gap=1.0).left_out
