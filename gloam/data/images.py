"""Decoding one image, or saying in a few words why it cannot be used."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from gloam.errors import ImageError

MIN_SIDE = 32  # pixels; below this a stride-32 network has no cell left
MAX_PIXELS = 120_000_000  # refused from the header, before a decompression bomb is unpacked
SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")

Pixels = npt.NDArray[np.uint8]


def decode_image(
    source: str | Path | bytes,
    *,
    max_side: int | None = None,
    stretch: tuple[int, int] | None = None,
    min_side: int = MIN_SIDE,
) -> Pixels:
    """Decode an image to upright RGB.

    Args:
        source: a path, or the file's bytes.
        max_side: longer side after a LANCZOS reduction, pixels; never enlarged.
        stretch: exact (width, height) by area interpolation, whatever the aspect; excludes ``max_side``.
        min_side: shortest side that is accepted, pixels.

    Returns:
        uint8 ``[H, W, 3]`` RGB, EXIF orientation applied, 16-bit grey scaled to 8 bits, alpha dropped.

    Raises:
        ImageError: the reason, in a few words.
    """
    content = source if isinstance(source, bytes) else read_bytes(Path(source))
    if not content:
        raise ImageError("the file is empty")
    try:
        with Image.open(io.BytesIO(content)) as image:
            _check_header(image)
            upright = _to_rgb(ImageOps.exif_transpose(image))
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError("not an image that can be decoded") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"more than {MAX_PIXELS} pixels: a decompression bomb or a scan; cut it first") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error and more
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ImageError(f"corrupt or truncated: {reason}") from error
    if min(upright.size) < min_side:
        raise ImageError(
            f"{upright.width}x{upright.height} is too small; the shorter side must be {min_side} px or more"
        )
    if stretch is not None:
        stretched: Pixels = cv2.resize(np.asarray(upright), stretch, interpolation=cv2.INTER_AREA)
        return stretched
    if max_side is not None and max(upright.size) > max_side:
        size = upright.size
        upright.thumbnail((max_side, max_side), Image.Resampling.LANCZOS, reducing_gap=None)
        if min(upright.size) < min_side:
            raise ImageError(f"{size[0]}x{size[1]} at --max-side {max_side} has a side under {min_side} px")
    return np.array(upright)


def image_size(content: bytes) -> tuple[int, int]:
    """Width and height from the header of an image that decodes; its orientation is left aside."""
    with Image.open(io.BytesIO(content)) as image:
        return image.size


def read_bytes(path: Path) -> bytes:
    """A file's bytes; a failure is an ImageError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error


def _check_header(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{width}x{height} is more than {MAX_PIXELS} pixels: a decompression bomb or a scan; cut it first"
        )
    # A phone's MPO holds a thumbnail or a second view beside the photograph; its first frame is the photograph.
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise ImageError("animated or of several frames; extract one frame first")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ImageError("floating-point pixels have no defined range; convert to 8 bits first")
    if image.mode in SIXTEEN_BIT_MODES:
        values = np.asarray(image).astype(np.float64)
        return Image.fromarray((values / 257).round().clip(0, 255).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")
