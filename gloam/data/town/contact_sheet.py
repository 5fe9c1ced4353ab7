"""One picture of a town: some query poses down, conditions across, under headings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from gloam.data.images import decode_image
from gloam.data.sheets import draw_sheet
from gloam.data.town.dataset import TownDataset
from gloam.errors import StoreError
from gloam.files import write_bytes


def write_contact_sheet(town: TownDataset, path: str | Path, rows: int = 5, width: int = 384) -> None:
    """Write a PNG with ``rows`` query poses, evenly chosen, under every condition.

    Args:
        width: of each thumbnail, pixels.

    Raises:
        ImageError, StoreError: an image cannot be read, or the sheet cannot be written.
    """
    count = min(rows, town.config.queries)
    chosen = np.linspace(0, town.config.queries - 1, count).round().astype(int)
    names = [[town.conditions[condition][index] for condition in town.config.conditions] for index in chosen]
    paths = [[town.query.image_path(name) for name in line] for line in names]
    labels = [f"query pose {index}" for index in chosen]
    write_sheet(path, paths, town.config.conditions, labels, (town.config.width, town.config.height), width)


def write_sheet(
    path: str | Path,
    rows: Sequence[Sequence[Path]],
    columns: Sequence[str],
    labels: Sequence[str],
    size: tuple[int, int],
    width: int = 384,
) -> None:
    """Write a PNG of image files, row by row.

    Args:
        rows: as many files each.
        columns, labels: headings of the columns, and names of the rows.
        size: width and height of the images, pixels; width: of each thumbnail.

    Raises:
        ImageError, StoreError: an image cannot be read, or the sheet cannot be written.
    """
    stretch = (width, round(width * size[1] / size[0]))
    cells = [[decode_image(image, stretch=stretch) for image in row] for row in rows]
    done, encoded = cv2.imencode(".png", draw_sheet(cells, columns, labels, stretch)[..., ::-1])
    if not done:
        raise StoreError(f"{path}: the contact sheet could not be encoded")
    write_bytes(path, encoded.tobytes())
