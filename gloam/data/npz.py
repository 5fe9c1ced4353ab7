"""Arrays of an ``.npz`` file, read without trusting it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.files import open_file

MOST_PACKED = 100  # bytes that a byte of the file may stand for
SPARE = 1 << 20  # bytes beside them


def load_npz(path: str | Path, names: Iterable[str] | None = None) -> dict[str, npt.NDArray[Any]]:
    """Arrays of numbers and text by name.

    Args:
        path: the file.
        names: that are needed; all by default.

    Raises:
        OSError: as :func:`gloam.files.open_file`.
        ValueError: no such file of arrays, damaged, with Python objects, or packed so that it would fill the memory; or
            one of ``names`` is not there.
    """
    with open_file(path) as file:
        size = Path(path).stat().st_size
        try:
            with zipfile.ZipFile(file) as packed:
                unpacked = sum(entry.file_size for entry in packed.infolist())
            if unpacked > MOST_PACKED * size + SPARE:
                raise ValueError(f"its {size} bytes stand for {unpacked}")
            file.seek(0)
            with np.load(file, allow_pickle=False) as kept:
                return {name: kept[name] for name in (kept.files if names is None else names)}
        except Exception as error:  # readers of zip files and of arrays raise OS-, EOF-, zlib, struct and key errors
            raise ValueError(" ".join(str(error).split())[:120] or type(error).__name__) from error
