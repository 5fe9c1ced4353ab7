"""Arrays that are made once and kept in a file, such as rendered streets, so that a resumed run does not make them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.data.npz import read_npz, write_npz
from gloam.errors import StoreError

NAME = "kept as"  # so that a file under another's name is not taken for it


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]] | None:
    """What :func:`write_arrays` wrote, by name; None where there is no such file.

    Raises:
        StoreError: the file cannot be read, or is another's.
    """
    if not path.is_file():
        return None
    try:
        arrays = read_npz(path)
        if str(arrays.pop(NAME, path.name)) != path.name:
            raise ValueError("it was written under another name")
        return arrays
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: not readable ({error}); remove it to render again") from error


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays to an ``.npz`` file, whole or not at all.

    Raises:
        StoreError: the disk is full or not writable.
    """
    write_npz(path, {**arrays, NAME: np.array(path.name)})
