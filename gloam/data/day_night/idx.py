"""IDX files, gzipped or not: how MNIST and Fashion-MNIST keep their images and labels."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gloam.errors import DataError

UNSIGNED_BYTE = 0x08
GZIP_MAGIC = b"\x1f\x8b"
MOST_BYTES = 2**31  # unpacked; a larger header is a broken or hostile file


def read_idx(path: str | Path) -> npt.NDArray[np.uint8]:
    """The array of an IDX file of bytes: images ``[n, rows, columns]`` or labels ``[n]``, uint8.

    Raises:
        DataError: unreadable, not IDX, of another type than bytes, or of another length than its header says.
    """
    place = Path(path)
    try:
        with open(place, "rb") as raw:
            packed = raw.read(2) == GZIP_MAGIC
        with gzip.open(place, "rb") if packed else open(place, "rb") as handle:
            content = handle.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{place}: cannot be read ({error})") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[3] not in (1, 2, 3, 4):
        raise DataError(f"{place}: not an IDX file (its header begins with {content[:4].hex(' ')})")
    if content[2] != UNSIGNED_BYTE:
        raise DataError(f"{place}: an IDX file of type 0x{content[2]:02x}; only unsigned bytes (0x08) are read")
    start = 4 + 4 * content[3]
    shape = [int(size) for size in np.frombuffer(content[4:start], ">u4", count=(min(start, len(content)) - 4) // 4)]
    expected = start + int(np.prod(shape, dtype=object))
    if len(shape) != content[3] or len(content) != expected:
        raise DataError(f"{place}: holds {len(content)} bytes; its header says {expected} for the shape {shape}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_idx_images(path: str | Path) -> npt.NDArray[np.uint8]:
    """Images ``[n, rows, columns, 1]``, uint8.

    Raises:
        DataError: as :func:`read_idx`, or labels instead of images, or none.
    """
    values = read_idx(path)
    if values.ndim != 3 or not values.size:
        raise DataError(f"{path}: holds an array of shape {list(values.shape)}; expected images [n, rows, columns]")
    return values[..., None]
