"""Decoding one image, or saying in a few words why it cannot be used."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError, features

from gloam.errors import ImageError
from gloam.files import open_file
from gloam.model_card import SMALLEST_SIDE, InputRule
from gloam.padding import LARGEST_SIDE

MIN_SIDE = SMALLEST_SIDE
MAX_PIXELS = 120_000_000  # refused from the header, before a decompression bomb is unpacked
MAX_BYTES = 1 << 30  # of an image file; more is no photograph, and would fill the memory
# All that Pillow may open; of the others one starts a program. JPEG finds MPO.
FORMATS = (
    "JPEG",
    "PNG",
    "WEBP",
    "TIFF",
    "BMP",
    "GIF",
    "PPM",
    "JPEG2000",
    *(("AVIF",) if features.check("avif") else ()),
)
BAND = 256  # rows of deep pixels that are reduced to 8 bits at once
SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
# What undoes each EXIF orientation's turn.
_TURNED_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}

NO_MEMORY = "there is no memory for its pixels; make it smaller, or let fewer images be open at once"
TOO_LONG = f"holds more than {MAX_BYTES >> 20} MB; not a photograph"

Pixels = npt.NDArray[np.uint8]


def decode_image(
    source: str | Path | bytes,
    *,
    max_side: int | None = None,
    stretch: tuple[int, int] | None = None,
    rule: InputRule | None = None,
    min_side: int = MIN_SIDE,
    fast: bool = False,
    upright: bool = True,
    background: tuple[int, int, int] | None = None,
) -> Pixels:
    """Decode an image to RGB, upright or as its pixels are stored.

    Args:
        source: a path, or the file's bytes.
        max_side: longer side after a LANCZOS reduction, pixels; never enlarged.
        stretch: exact (width, height) by area interpolation, whatever the aspect; excludes ``max_side``.
        rule: a model's, in place of both; by a filter of its own it sees all pixels, ``fast`` or not.
        min_side: shortest side that is accepted, pixels.
        fast: unpack a JPEG at 1/2, 1/4 or 1/8 of its size where that is at least the size asked for. Several times
            quicker on large photographs; the pixels differ a little.
        upright: turn the picture as its EXIF orientation says. False leaves the stored pixels where they are: what
            belongs to intrinsics, keypoints for one, is measured there.
        background: RGB that shows where the picture is transparent; None drops the transparency.

    Returns:
        uint8 ``[H, W, 3]`` RGB, turned by its EXIF orientation where ``upright``; 16-bit grey scaled to 8 bits.

    Raises:
        ImageError: the reason, in a few words.
    """
    content = source if isinstance(source, bytes) else read_bytes(Path(source))
    if not content:
        raise ImageError("the file is empty")
    if rule is not None and rule.of_pillow:
        whole = decode_image(content, min_side=min_side, upright=upright, background=background)
        return resize_image(whole, rule, min_side)
    if rule is not None:
        max_side, stretch = rule.max_side, rule.stretch
    try:
        return _decode(content, max_side, stretch, min_side, fast, upright, background)
    except (MemoryError, cv2.error) as error:
        raise ImageError(NO_MEMORY) from error


def _decode(
    content: bytes,
    max_side: int | None,
    stretch: tuple[int, int] | None,
    min_side: int,
    fast: bool,
    upright: bool,
    background: tuple[int, int, int] | None,
) -> Pixels:
    try:
        with open_image(io.BytesIO(content)) as image:
            _check_header(image)
            size = image.size
            jpeg = fast and image.format in ("JPEG", "MPO")
            unpacked = _unpack_reduced(image, max_side, stretch, upright) if jpeg else image
            picture = _to_rgb(_oriented(unpacked, upright), background)
            if picture.size != unpacked.size:
                size = size[::-1]
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise ImageError("not an image that can be decoded") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"more than {MAX_PIXELS} pixels: a decompression bomb or a scan; cut it first") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error and more
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ImageError(f"corrupt or truncated: {reason}") from error
    if min(size) < min_side:
        raise ImageError(f"{size[0]}x{size[1]} is too small; the shorter side must be {min_side} px or more")
    if stretch is not None:
        return _stretched(np.asarray(picture), stretch)
    if max_side is not None and max(size) > max_side:
        picture = _reduced(picture, size, max_side, min_side)
    return np.array(picture)


def resize_image(image: Pixels, rule: InputRule, min_side: int = MIN_SIDE) -> Pixels:
    """A decoded image at the size that a rule asks for: the very pixels that :func:`decode_image` gives with the same
    ``max_side`` or ``stretch``. An image that has that size already is given back as it is.

    Args:
        image: uint8 ``[H, W, 3]`` RGB.
        rule: of the model.
        min_side: shortest side that is accepted behind a reduction, pixels.

    Returns:
        uint8 ``[h, w, 3]``.

    Raises:
        ImageError: a reduction leaves too short a side, or there is no memory.
    """
    size = image.shape[1], image.shape[0]
    try:
        if rule.of_pillow:
            wanted = ruled_size(size, rule)
            if min(wanted) < min_side:
                raise ImageError(f"{size[0]}x{size[1]} read at {rule} has a side under {min_side} px")
            return image if wanted == size else np.array(Image.fromarray(image).resize(wanted, _FILTERS[rule.filter]))
        if rule.stretch is not None and size != rule.stretch:
            return _stretched(image, rule.stretch)
        if rule.max_side is not None and max(size) > rule.max_side:
            return np.array(_reduced(Image.fromarray(image), size, rule.max_side, min_side))
    except (MemoryError, cv2.error) as error:
        raise ImageError(NO_MEMORY) from error
    return image


def ruled_size(size: tuple[int, int], rule: InputRule) -> tuple[int, int]:
    """Width and height to which a rule brings an image of a size."""
    if rule.stretch is not None:
        return rule.stretch
    wide, high = size if rule.max_side is None or max(size) <= rule.max_side else fitted(size, rule.max_side)
    most = (rule.max_side or LARGEST_SIDE) // rule.multiple

    def nearest(side: int) -> int:
        return max(min(round(side / rule.multiple), most), 1) * rule.multiple  # round takes a half to the even number

    return nearest(wide), nearest(high)


def _stretched(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    # OpenCV takes no view that runs backwards, as BGR turned to RGB does.
    stretched: Pixels = cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA)
    return stretched


def _reduced(picture: Image.Image, size: tuple[int, int], max_side: int, min_side: int) -> Image.Image:
    """The picture reduced as Pillow's ``thumbnail`` does; ``size`` is what a message calls the image.

    Each axis by itself, rows first: of long images newer releases of Pillow take the columns first, whose whole levels
    between the two passes are others.
    """
    if max(picture.size) > max_side:
        width, height = fitted(picture.size, max_side)
        for step in ((width, picture.height), (width, height)):
            picture = picture.resize(step, Image.Resampling.LANCZOS)
    if min(picture.size) < min_side:
        raise ImageError(f"{size[0]}x{size[1]} at --max-side {max_side} has a side under {min_side} px")
    return picture


def image_size(content: bytes) -> tuple[int, int]:
    """Width and height from the header of an image that decodes; its orientation is left aside."""
    with open_image(io.BytesIO(content)) as image:
        return _stored_size(image)


def stored_size(path: str | Path) -> tuple[int, int]:
    """Width and height of the pixels that a file stores, from its header: the frame of intrinsics and keypoints.

    Raises:
        ImageError: the reason, in a few words.
    """
    try:
        with open_file(path) as file, open_image(file) as image:
            return _stored_size(image)
    except UnidentifiedImageError as error:
        raise ImageError("not an image that can be decoded") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"more than {MAX_PIXELS} pixels: a decompression bomb or a scan; cut it first") from error
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error
    except Exception as error:  # headers are parsed by decoders, which raise SyntaxError, ValueError and more
        raise ImageError(f"corrupt or truncated: {error}") from error


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Pillow turns a TIFF while it loads it and states the turned size before; every other format waits."""
    turned = image.format == "TIFF" and image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    return image.size[::-1] if turned else image.size


def _oriented(image: Image.Image, upright: bool) -> Image.Image:
    """The image upright, or as it is stored; a TIFF, which Pillow turns while it loads it, is turned back."""
    if upright:
        return ImageOps.exif_transpose(image)
    if image.format != "TIFF":
        return image
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    image.load()
    back = _TURNED_BACK.get(orientation)
    return image if back is None else image.transpose(back)


def header_size(path: Path) -> tuple[int, int]:
    """Width and height from a file's header, which is all that is read of it.

    Raises:
        ImageError: the reason, in a few words.
    """
    try:
        with open_file(path) as file, open_image(file) as image:
            return image.size
    except Image.DecompressionBombError as error:
        raise ImageError("a decompression bomb or a scan; cut it first") from error
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or 'not an image'}") from error
    except Exception as error:  # as in decoding
        raise ImageError(f"cannot be read: {type(error).__name__}") from error


def open_image(file: BinaryIO) -> Image.Image:
    """What Pillow finds in an open file, of :data:`FORMATS` alone; raises as ``PIL.Image.open`` does."""
    return Image.open(file, formats=FORMATS)


def read_bytes(path: Path) -> bytes:
    """A file's bytes; a failure is an ImageError."""
    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            content = file.read(MAX_BYTES) if size <= MAX_BYTES else b""
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise ImageError(NO_MEMORY) from error
    if size > MAX_BYTES:
        raise ImageError(TOO_LONG)
    return content


def _check_header(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{width}x{height} is more than {MAX_PIXELS} pixels: a decompression bomb or a scan; cut it first"
        )
    # A phone's MPO holds a thumbnail or a second view beside the photograph; its first frame is the photograph.
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise ImageError("animated or of several frames; extract one frame first")


def _unpack_reduced(
    image: Image.Image, max_side: int | None, stretch: tuple[int, int] | None, upright: bool
) -> Image.Image:
    """A JPEG at the size asked for, unpacked at the smallest of its own scales that is not below that size.

    Unchanged where no scale of its own serves. The orientation is still to be applied.
    """
    if stretch is not None:
        turned = upright and image.getexif().get(ExifTags.Base.Orientation, 1) >= 5  # the values that swap the axes
        size = stretch[::-1] if turned else stretch
    elif max_side is not None and max(image.size) > max_side:
        size = fitted(image.size, max_side)
    else:
        return image
    if min(image.width // size[0], image.height // size[1]) < 2:
        return image
    # The box leaves out what the last row and column of blocks hold beyond the image's edge.
    box = (image.draft(None, size) or (None, None))[1]
    return image.resize(size, Image.Resampling.LANCZOS, box=box)


def fitted(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    """Width and height that Pillow's ``thumbnail`` gives an image whose longer side is reduced to ``max_side``."""
    aspect = size[0] / size[1]
    short = max_side * min(size) / max(size)
    nearest = (max(math.floor(short), 1), math.ceil(short))
    if aspect >= 1:
        return max_side, min(nearest, key=lambda height: abs(aspect - max_side / height))
    return min(nearest, key=lambda width: abs(aspect - width / max_side)), max_side


def _to_rgb(image: Image.Image, background: tuple[int, int, int] | None = None) -> Image.Image:
    if image.mode == "F":
        raise ImageError("floating-point pixels have no defined range; convert to 8 bits first")
    if image.mode in SIXTEEN_BIT_MODES:
        grey = np.empty((image.height, image.width), np.uint8)
        for top in range(0, image.height, BAND):
            band = np.asarray(image.crop((0, top, image.width, min(top + BAND, image.height)))).astype(np.int64)
            grey[top : top + BAND] = (band.clip(0, 65535) + 128) // 257  # the nearest; never half way
        return Image.fromarray(grey).convert("RGB")
    if image.mode == "P" and image.has_transparency_data:
        image = image.convert("RGBA")  # else Pillow warns
    if background is not None and image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, background), image)
    if image.mode != "RGB":
        return image.convert("RGB")
    image.load()  # while its file is open
    return image
