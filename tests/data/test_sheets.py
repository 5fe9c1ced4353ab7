"""Pictures on a sheet are where they should be, whole, under headings and beside names."""

from __future__ import annotations

import numpy as np
import pytest

from gloam.data.sheets import FRAME, GAP, HEADING, LEFT, LINE, draw_sheet, fitted_picture, framed_picture

SIZE = (60, 40)


def flat(height: int, width: int, colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def test_cells_lie_in_rows_and_columns() -> None:
    red, green = flat(40, 60, (200, 0, 0)), flat(40, 60, (0, 200, 0))
    sheet = draw_sheet([[red, None], [green, red]], ["a", "b"], ["one", "two"], SIZE)
    assert sheet.shape == (HEADING + 2 * (SIZE[1] + GAP), LEFT + 2 * (SIZE[0] + GAP), 3)
    for row, column, picture in ((0, 0, red), (1, 0, green), (1, 1, red)):
        top, left = HEADING + row * (SIZE[1] + GAP), LEFT + column * (SIZE[0] + GAP)
        np.testing.assert_array_equal(sheet[top : top + SIZE[1], left : left + SIZE[0]], picture)
    assert sheet[HEADING : HEADING + SIZE[1], LEFT + SIZE[0] :].min() == 255  # the empty cell


@pytest.mark.parametrize("name", ["a/long/name/of/an/image.jpg", "IMG_20141214_MORNING_WWWWW.JPG", "some words only"])
def test_headings_and_names_are_written_and_do_not_run_into_others(name: str) -> None:
    none = [[None, None], [None, None]]
    sheet = draw_sheet(none, ["a heading that is much too long for its column", ""], [name, ""], SIZE)
    dark = sheet.min(axis=2) < 128
    assert dark[:HEADING, LEFT : LEFT + SIZE[0]].any()
    assert not dark[:HEADING, LEFT + SIZE[0] + GAP :].any()
    assert dark[HEADING : HEADING + SIZE[1] + GAP, :LEFT].any()
    assert not dark[HEADING + SIZE[1] + GAP :, :].any()
    assert not dark[HEADING:, LEFT - 3 :].any()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((40, 60), (40, 60)), ((80, 60), (40, 30)), ((10, 60), (10, 60)), ((20, 30), (40, 60)), ((1, 400), (1, 60))],
)
def test_a_picture_is_fitted_whole(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    assert fitted_picture(flat(*shape, (9, 9, 9)), SIZE).shape == (*expected, 3)


@pytest.mark.parametrize("shape", [(40, 60), (20, 20)])
def test_a_frame_is_around_the_picture_and_the_line_beneath(shape: tuple[int, int]) -> None:
    picture, colour = flat(*shape, (9, 90, 9)), (200, 0, 0)
    framed = framed_picture(picture, SIZE, colour, "a line that is much longer than the picture is wide")
    assert framed.shape == (SIZE[1] + 2 * FRAME + LINE, SIZE[0] + 2 * FRAME, 3)
    inside = (framed == (9, 90, 9)).all(2)
    frame = (framed == colour).all(2)
    height, width = fitted_picture(picture, SIZE).shape[:2]
    assert inside.sum() == height * width
    assert frame.sum() == (height + 2 * FRAME) * (width + 2 * FRAME) - height * width
    beneath = framed[np.flatnonzero(frame.any(1))[-1] + 1 :]
    assert beneath.min() < 128
    plain = framed_picture(picture, SIZE, None, "")
    assert np.array_equal(plain[inside], framed[inside])
    assert plain[~inside].min() == 255
