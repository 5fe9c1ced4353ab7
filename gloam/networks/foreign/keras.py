"""Weights that Keras kept (``.weights.h5``), as tensors under their paths in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from gloam.errors import ModelError

SUFFIX = ".h5"


def load_keras(path: str | Path) -> dict[str, Tensor]:
    """Read every array of a file; kernels of convolutions, rows x columns x in x out in Keras, become torch's.

    Returns:
        float32 tensors by path, for example ``block1/layers/conv2d/vars/0``.

    Raises:
        ModelError: absent, damaged, or not weights of Keras alone.
    """
    file = Path(path)
    if not file.is_file():
        raise ModelError(f"{file}: no such weights file")
    found: dict[str, Tensor] = {}
    size = left = file.stat().st_size

    def keep(name: str, item: Any) -> None:
        nonlocal left
        if not isinstance(item, h5py.Dataset):
            return
        if not np.issubdtype(item.dtype, np.floating):
            raise ModelError(f"{file}: {name} is not an array of numbers as Keras keeps weights")
        left -= item.nbytes
        if left < 0:  # of a file that would fill the memory
            raise ModelError(f"{file}: says of itself that it holds more numbers than its {size} bytes have room for")
        values = np.asarray(item[()], np.float32)
        found[name] = torch.from_numpy(values.transpose(3, 2, 0, 1).copy() if values.ndim == 4 else values)

    try:
        with h5py.File(file, "r") as opened:
            opened.visititems(keep)
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise ModelError(f"{file}: damaged, or no HDF5 file ({' '.join(str(error).split())[:120]})") from error
    if not found:
        raise ModelError(f"{file}: holds no weights")
    return found
