"""Named arrays in one ``.npz`` file: whole or absent when written, and whole or refused when read."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.files import open_file, write_bytes


def write_npz(path: str | Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays of plain types, each with the checksum that ZIP files have.

    Raises:
        StoreError: the disk is full or not writable.
    """
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_bytes(path, buffer.getvalue())


def read_npz(path: str | Path) -> dict[str, npt.NDArray[Any]]:
    """What :func:`write_npz` wrote, by name; every checksum is compared before an array's header is believed.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is damaged, or no such file.
    """
    with open_file(path) as handle:
        try:
            with zipfile.ZipFile(handle) as members:
                damaged = members.testzip()
            if damaged is not None:
                raise ValueError(f"the checksum of {damaged!r} differs")
            handle.seek(0)
            with np.load(handle, allow_pickle=False) as kept:
                return {name: kept[name] for name in kept.files}
        except ValueError:
            raise
        except Exception as error:  # zipfile, zlib and numpy raise errors of a dozen kinds where a header is damaged
            raise ValueError(f"not a readable .npz file ({type(error).__name__}: {error})") from error
