"""The NVIDIA driver, asked through ``ctypes`` before anything that crashes without one is loaded."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gloam.errors import DeviceError


@dataclass(frozen=True)
class Gpu:
    """One GPU as the driver names it."""

    name: str
    compute_capability: str


@dataclass(frozen=True)
class Driver:
    """The NVIDIA driver: the CUDA version it supports, its GPUs, or why it cannot be used."""

    cuda: str | None
    gpus: list[Gpu]
    problem: str | None = None


def find_driver(load: Callable[[str], Any] = ctypes.CDLL) -> Driver:
    """Ask the NVIDIA driver for its version and GPUs; ``load`` opens a shared library by name."""
    try:
        cuda = load("nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1")
    except OSError:
        return Driver(None, [], "no NVIDIA driver")
    if code := cuda.cuInit(0):
        return Driver(None, [], f"the NVIDIA driver refuses to start (CUDA error {code})")
    version, count = ctypes.c_int(), ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(version))
    cuda.cuDeviceGetCount(ctypes.byref(count))
    gpus = []
    for ordinal in range(count.value):
        device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
        cuda.cuDeviceGet(ctypes.byref(device), ordinal)
        cuda.cuDeviceGetName(name, len(name), device)
        capability = []
        for attribute in (75, 76):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
            value = ctypes.c_int()
            cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
            capability.append(str(value.value))
        gpus.append(Gpu(name.value.decode(errors="replace"), ".".join(capability)))
    text = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return Driver(text, gpus, None if gpus else "the NVIDIA driver sees no GPU")


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
