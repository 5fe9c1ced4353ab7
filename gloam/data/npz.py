"""Named arrays in one ``.npz`` file: whole or absent when written; when read, whole or refused, and never trusted."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.files import open_file, write_bytes

MOST_PACKED = 100  # bytes that a byte of the file may stand for
SPARE = 1 << 20  # bytes beside them
# For whoever reads arrays in threads: numpy reads a header by ast.literal_eval, which in two threads at once now and
# then raises SystemError ("AST constructor recursion depth mismatch", Python 3.11.7), as if the file were damaged.
HEADERS = Lock()


def write_npz(path: str | Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays of plain types, each with the checksum that ZIP files have.

    Raises:
        StoreError: the disk is full or not writable.
    """
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_bytes(path, buffer.getvalue())


def read_npz(path: str | Path, names: Iterable[str] | None = None) -> dict[str, npt.NDArray[Any]]:
    """Arrays of numbers and text by name; every checksum is compared before an array's header is believed.

    Args:
        path: the file.
        names: that are needed; all by default.

    Raises:
        OSError: as :func:`gloam.files.open_file`.
        ValueError: no such file of arrays, damaged, with Python objects, or packed so that it would fill the memory; or
            one of ``names`` is not there.
    """
    with open_file(path) as handle:
        size = Path(path).stat().st_size
        try:
            with zipfile.ZipFile(handle) as members:
                unpacked = sum(entry.file_size for entry in members.infolist())
                if unpacked > MOST_PACKED * size + SPARE:
                    raise ValueError(f"its {size} bytes stand for {unpacked}")
                damaged = members.testzip()
            if damaged is not None:
                raise ValueError(f"the checksum of {damaged!r} differs")
            handle.seek(0)
            with HEADERS, np.load(handle, allow_pickle=False) as kept:
                return {name: kept[name] for name in (kept.files if names is None else names)}
        except Exception as error:  # readers of zip files and of arrays raise OS-, EOF-, zlib, struct and key errors
            raise ValueError(" ".join(str(error).split())[:120] or type(error).__name__) from error
