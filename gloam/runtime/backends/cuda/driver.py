"""The NVIDIA driver, asked through ``ctypes`` before anything that crashes without one is loaded."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from gloam.errors import DeviceError
from gloam.runtime.doctor import Driver, Gpu, find_driver


def require_gpu(ordinal: int = 0) -> Gpu:
    """The GPU of that number, as the driver names it.

    Raises:
        DeviceError: no driver, a driver that does not start, or no such GPU.
    """
    driver: Driver = find_driver()
    if driver.problem is not None:
        raise DeviceError(
            f"CUDA cannot be used here: {driver.problem}; run `gloam doctor`, or run the .onnx file on the CPU"
        )
    if not 0 <= ordinal < len(driver.gpus):
        raise DeviceError(f"there is no GPU number {ordinal}; the driver sees {len(driver.gpus)}, counted from 0")
    return driver.gpus[ordinal]


def driver_version(load: Callable[[str], Any] = ctypes.CDLL) -> str:
    """The driver's own version, e.g. ``580.159.03``, from its management library; ``unknown`` where that is absent."""
    try:
        library = load("libnvidia-ml.so.1")
    except OSError:
        return "unknown"
    text = ctypes.create_string_buffer(96)
    if library.nvmlInit_v2() != 0:
        return "unknown"
    try:
        code = library.nvmlSystemGetDriverVersion(text, ctypes.c_uint(len(text)))
    finally:
        library.nvmlShutdown()
    return text.value.decode(errors="replace") if code == 0 else "unknown"
