"""Pictures inside a page, as ``data:`` URIs of small JPEGs."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from gloam.data.images import decode_image
from gloam.workflows.reports.page.data import Picture

THUMBNAIL = 240  # longer side, pixels
QUALITY = 76


def thumbnail(path: Path, most: int = THUMBNAIL) -> str:
    """An image, reduced to a longer side of at most ``most`` pixels.

    Raises:
        ImageError: it cannot be read.
    """
    return picture_uri(decode_image(path, max_side=most))


def picture_uri(pixels: Picture, most: int | None = None, quality: int = QUALITY) -> str:
    """Pixels uint8 ``[h, w, 3]`` RGB, reduced where they are wider than ``most``."""
    picture = Image.fromarray(pixels)
    if most is not None and picture.width > most:
        height = max(round(picture.height * most / picture.width), 1)
        picture = picture.resize((most, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
