"""Pictures in rows and columns on one sheet, under headings and beside names."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from gloam.files import printable

Pixels = npt.NDArray[np.uint8]
FRAME = 4  # pixels, around a picture
HEADING, GAP, LEFT = 22, 4, 118  # pixels: above the columns, between cells, and for the names of rows
LINES, LINE = 3, 16  # of the name of a row: lines at most, and pixels of one
WHITE, INK = (255, 255, 255), (30, 30, 30)


def draw_sheet(
    cells: Sequence[Sequence[Pixels | None]],
    columns: Sequence[str],
    labels: Sequence[str],
    size: tuple[int, int],
) -> Pixels:
    """A sheet, uint8 ``[h, w, 3]`` RGB, white where there is nothing.

    Args:
        cells: rows of pictures, uint8 ``[h, w, 3]`` of any sizes, which are fitted in; None for an empty cell.
        columns: heading of each column; what does not fit is cut.
        labels: name of each row; of a long one the end is shown.
        size: width and height of a cell, pixels.
    """
    width, height = size
    sheet = Image.new("RGB", (LEFT + len(columns) * (width + GAP), HEADING + len(cells) * (height + GAP)), WHITE)
    draw, font = ImageDraw.Draw(sheet), _font()
    for column, heading in enumerate(columns):
        _write(draw, (LEFT + column * (width + GAP) + 2, 3), heading, width)
    for row, (label, line) in enumerate(zip(labels, cells, strict=True)):
        top = HEADING + row * (height + GAP)
        lines = _wrapped(draw, printable(label), LEFT - 6)
        for at, text in enumerate(lines[-min(LINES, max(height // LINE, 1)) :]):
            draw.text((3, top + 2 + LINE * at), text, fill=INK, font=font)
        for column, cell in enumerate(line):
            if cell is not None:
                shown = fitted_picture(cell, size)
                left = LEFT + column * (width + GAP) + (width - shown.shape[1]) // 2
                sheet.paste(Image.fromarray(shown), (left, top + (height - shown.shape[0]) // 2))
    return np.array(sheet)


def fitted_picture(picture: Pixels, size: tuple[int, int]) -> Pixels:
    """A picture uint8 ``[h, w, 3]``, enlarged or reduced until it just fits into a width and height."""
    height, width = picture.shape[:2]
    scale = min(size[0] / width, size[1] / height)
    if scale == 1:
        return np.ascontiguousarray(picture)
    fit = (max(round(width * scale), 1), max(round(height * scale), 1))
    return np.asarray(
        cv2.resize(picture, fit, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST), np.uint8
    )


def framed_picture(picture: Pixels, size: tuple[int, int], colour: tuple[int, int, int] | None, below: str) -> Pixels:
    """A picture fitted into a width and height, in a frame of its own, with a line of text beneath.

    Args:
        picture: uint8 ``[h, w, 3]``.
        size: (width, height) of the room for it, pixels.
        colour: of the frame, RGB; None leaves it white.
        below: the line; what does not fit is cut.

    Returns:
        uint8 ``[size[1] + 2 FRAME + LINE, size[0] + 2 FRAME, 3]``, whatever the picture's own size is.
    """
    shown = fitted_picture(picture, size)
    height, width = shown.shape[:2]
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    sheet = Image.new("RGB", (size[0] + 2 * FRAME, size[1] + 2 * FRAME + LINE), WHITE)
    draw = ImageDraw.Draw(sheet)
    if colour is not None:
        draw.rectangle((left, top, left + width + 2 * FRAME - 1, top + height + 2 * FRAME - 1), fill=colour)
    sheet.paste(Image.fromarray(shown), (left + FRAME, top + FRAME))
    _write(draw, (left + FRAME, top + height + 2 * FRAME), below, width)
    return np.array(sheet)


def _wrapped(draw: ImageDraw.ImageDraw, text: str, width: int) -> list[str]:
    """Lines of at most a width in pixels, broken behind folders and spaces, and within a word where it is too long."""
    lines = [""]
    for word in re.split(r"(?<=[/ ])", text):
        if lines[-1] and draw.textlength(lines[-1] + word.rstrip(), _font()) > width:
            lines.append("")
        for letter in word:
            if lines[-1] and draw.textlength(lines[-1] + letter, _font()) > width:
                lines.append("")
            lines[-1] += letter
    return [line.strip() for line in lines if line.strip()]


def _write(draw: ImageDraw.ImageDraw, place: tuple[int, int], line: str, width: int) -> None:
    """A line of text, cut to a width in pixels."""
    font, text = _font(), printable(line)
    while text and draw.textlength(text, font) > width:
        text = text[:-1]
    draw.text(place, text, fill=INK, font=font)


@functools.cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(13)
