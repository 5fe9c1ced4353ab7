"""Writes ``docs/town.jpg``, two places under the four conditions: ``python docs/make_picture.py TOWN``."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from gloam.data.images import decode_image

PICTURE = Path(__file__).with_name("town.jpg")
CONDITIONS = ("day", "dusk", "night", "night-rain")
POSES = (0, 9)  # of the queries
SIZE = (240, 180)  # of each photograph, pixels
QUALITY = 88


def main(town: Path) -> None:
    """Put the photographs of a town of ``gloam town --look 2`` side by side."""
    query = town / "query"
    rows = []
    for pose in POSES:
        names = [(query / "conditions" / f"{name}.txt").read_text().splitlines()[pose] for name in CONDITIONS]
        paths = [query / "sensors/records_data" / name for name in names]
        rows.append(np.concatenate([decode_image(path, stretch=SIZE) for path in paths], axis=1))
    picture = np.concatenate(rows)[..., ::-1]
    PICTURE.write_bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
