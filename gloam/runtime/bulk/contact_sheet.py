"""One picture of a bulk run: sources and what became of them, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from gloam.data.images import decode_image, read_bytes
from gloam.data.sheets import draw_sheet
from gloam.data.sources import ImageItem
from gloam.errors import ImageError, StoreError
from gloam.files import write_bytes
from gloam.runtime.bulk.picture_folder import read_pictures
from gloam.runtime.bulk.pictures import encode
from gloam.runtime.models.image_model import Pixels

PAIRS = 16
CELL = (300, 225)  # width and height of a thumbnail, pixels


SHEET = "contact_sheet.jpg"


def write_contact_sheet(
    folder: str | Path,
    items: Sequence[ImageItem],
    pairs: int = PAIRS,
    *,
    upright: bool = True,
    made_by: str = "picture",
) -> Path:
    """Write ``contact_sheet.jpg`` into the folder of a finished run: source left, picture right, evenly chosen, under
    headings and beside their names.

    Args:
        folder: of the run.
        items: its sources.
        pairs: at most so many.
        upright: whether the run turned its sources as their EXIF orientation says.
        made_by: heading of the pictures.

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
        [
            _picture(sources[picture.image].read, upright),
            _picture(partial(read_bytes, place / "images" / picture.output)),
        ]
        for picture in chosen
    ]
    names_of = [picture.image for picture in chosen]
    half = -(-len(cells) // 2)
    blocks = []
    for rows, labels in ((cells[:half], names_of[:half]), (cells[half:], names_of[half:])):
        short = half - len(rows)
        if rows:
            blocks.append(
                draw_sheet([*rows, *[[None, None]] * short], ("source", made_by), [*labels, *[""] * short], CELL)
            )
    path = place / SHEET
    write_bytes(path, encode(np.hstack(blocks), "jpg"))
    return path


def _picture(read: Callable[[], bytes], upright: bool = True) -> Pixels | None:
    """A picture, uint8 RGB; None where it has gone or was damaged since: its cell stays white."""
    try:
        return decode_image(read(), min_side=1, upright=upright)
    except ImageError:
        return None
