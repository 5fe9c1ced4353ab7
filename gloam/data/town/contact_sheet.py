"""One picture of a town: some query poses down, conditions across."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from gloam.data.images import decode_image
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
    height = round(width * town.config.height / town.config.width)
    count = min(rows, town.config.queries)
    chosen = np.linspace(0, town.config.queries - 1, count).round().astype(int)
    lines = []
    for index in chosen:
        names = [town.conditions[condition][index] for condition in town.config.conditions]
        pictures = [decode_image(town.query.image_path(name), stretch=(width, height)) for name in names]
        lines.append(np.concatenate(pictures, axis=1))
    done, encoded = cv2.imencode(".png", np.concatenate(lines)[..., ::-1])
    if not done:
        raise StoreError(f"{path}: the contact sheet could not be encoded")
    write_bytes(path, encoded.tobytes())
