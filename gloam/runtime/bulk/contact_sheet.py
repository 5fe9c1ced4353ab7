"""One picture of a bulk run: sources and what became of them, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from gloam.data.images import decode_image, read_bytes
from gloam.data.sources import ImageItem
from gloam.errors import ImageError, StoreError
from gloam.files import write_bytes
from gloam.runtime.bulk.picture_folder import read_pictures
from gloam.runtime.bulk.pictures import encode
from gloam.runtime.models.image_model import Pixels

PAIRS = 16
CELL = (300, 225)  # width and height of a thumbnail, pixels
CAPTION = 18  # pixels below each row
PER_ROW = 2


def write_contact_sheet(
    folder: str | Path, items: Sequence[ImageItem], pairs: int = PAIRS, *, upright: bool = True
) -> Path:
    """Write ``contact_sheet.jpg`` into the folder of a finished run: source left, picture right, evenly chosen.

    Args:
        folder: of the run.
        items: its sources.
        pairs: at most so many.
        upright: whether the run turned its sources as their EXIF orientation says.

    Returns:
        the file.

    Raises:
        StoreError: the folder holds no finished run, or cannot be written.
    """
    place = Path(folder)
    names = {picture.image for picture in read_pictures(place)}
    sources: Mapping[str, ImageItem] = {item.name: item for item in items if item.name in names}
    done = [picture for picture in read_pictures(place) if picture.image in sources]
    evenly = np.linspace(0, len(done) - 1, min(pairs, len(done))).round().astype(int)
    chosen = [done[index] for index in evenly]
    if not chosen:
        raise StoreError(f"{place}: holds no pictures of these sources; run them first")
    cells = [
        np.hstack(
            [
                _thumbnail(sources[picture.image].read, upright),
                _thumbnail(partial(read_bytes, place / "images" / picture.output)),
                np.full((CELL[1] + CAPTION, 8, 3), 255, np.uint8),
            ]
        )
        for picture in chosen
    ]
    for cell, picture in zip(cells, chosen, strict=True):
        _caption(cell, picture.image)
    blank = np.full_like(cells[0], 255)
    cells += [blank] * (-len(cells) % PER_ROW)
    rows = [np.hstack(cells[at : at + PER_ROW]) for at in range(0, len(cells), PER_ROW)]
    path = place / "contact_sheet.jpg"
    write_bytes(path, encode(np.vstack(rows), "jpg"))
    return path


def _thumbnail(read: Callable[[], bytes], upright: bool = True) -> Pixels:
    """A picture fitted into a white cell with room for the caption, uint8 RGB."""
    cell = np.full((CELL[1] + CAPTION, CELL[0], 3), 255, np.uint8)
    try:
        picture = decode_image(read(), min_side=1, upright=upright)
    except ImageError:  # gone or damaged since: the cell stays white
        return cell
    scale = min(CELL[0] / picture.shape[1], CELL[1] / picture.shape[0])
    size = (max(round(picture.shape[1] * scale), 1), max(round(picture.shape[0] * scale), 1))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    top, left = CELL[1] - small.shape[0], (CELL[0] - small.shape[1]) // 2  # down at the caption
    cell[top : top + small.shape[0], left : left + small.shape[1]] = small
    return cell


def _caption(cell: Pixels, name: str) -> None:
    text = name.encode("ascii", "replace").decode()  # OpenCV's letters are ASCII
    longest = 2 * CELL[0] // 7
    text = text if len(text) <= longest else f"...{text[3 - longest :]}"
    cv2.putText(cell, text, (4, CELL[1] + 13), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)
