"""Which package reaches the GPU: cuda-python, or pycuda where cuda-python does not import."""

from __future__ import annotations

from collections.abc import Callable

from gloam.errors import DeviceError, MissingExtraError
from gloam.runtime.backends.cuda.device import Device
from gloam.runtime.backends.cuda.driver import require_gpu


def open_device(ordinal: int = 0, layer: str | None = None) -> Device:
    """The GPU of that number, through cuda-python, or through pycuda where cuda-python does not import.

    Args:
        ordinal: number of the GPU.
        layer: ``cuda-python`` or ``pycuda``, to have that one alone.

    Raises:
        DeviceError: no driver or no such GPU.
        MissingExtraError: neither package imports.
    """
    if layer is not None and layer not in LAYERS:
        raise DeviceError(f"unknown CUDA package {layer!r}; choose {' or '.join(LAYERS)}")
    require_gpu(ordinal)
    reasons = []
    for name in LAYERS if layer is None else (layer,):
        try:
            return LAYERS[name](ordinal)
        except MissingExtraError as error:
            reasons.append(str(error).partition("(")[2].rpartition(")")[0] or str(error))
    wanted = " nor ".join(LAYERS) if layer is None else layer
    raise MissingExtraError(
        f"{'neither ' if layer is None else ''}{wanted} imports, and one is needed to reach the GPU "
        f"({'; '.join(reasons)}); pip install 'gloam[gpu]', or 'gloam[pycuda]' where a CUDA toolkit is to build pycuda"
    )


def _pycuda(ordinal: int) -> Device:
    from gloam.runtime.backends.cuda.pycuda_device import PyCudaDevice

    return PyCudaDevice(ordinal)


def _cuda_python(ordinal: int) -> Device:
    from gloam.runtime.backends.cuda.cuda_python_device import CudaPythonDevice

    return CudaPythonDevice(ordinal)


LAYERS: dict[str, Callable[[int], Device]] = {"cuda-python": _cuda_python, "pycuda": _pycuda}
