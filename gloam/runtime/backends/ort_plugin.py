"""ONNX Runtime's plugin for TensorRT for RTX: registered once, and refused where it lists no GPU.

Asked by name for a plugin that is not registered, or that found no GPU, ONNX Runtime prints a line and runs on the CPU.
So the plugin's own devices are asked for, and handed over one by one. Its library links the NVIDIA driver and a CUDA
runtime that no loader finds under its file name, so the driver is looked for first and that runtime loaded before it.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

from gloam.errors import DeviceError, require
from gloam.runtime.backends.cuda.driver import require_gpu

RTX = "tensorrt-rtx"  # the device, as users name it
PROVIDER = "NvTensorRTRTXExecutionProvider"
PACKAGE, EXTRA = "onnxruntime_ep_nv_tensorrt_rtx", "tensorrt-rtx-plugin"
OLDEST = "1.24"  # of ONNX Runtime, that the plugin works with


def add_plugin(ort: Any, session: Any, options: dict[str, str]) -> None:
    """Have a session run on the first GPU of the plugin.

    Args:
        ort: the ``onnxruntime`` module.
        session: ``SessionOptions`` of the session.
        options: the plugin's own.

    Raises:
        DeviceError: no driver or GPU, an ONNX Runtime that is too old, a plugin that does not load or lists no GPU.
        MissingExtraError: the plugin is not installed.
    """
    session.add_provider_for_devices(plugin_devices(ort)[:1], options)


def plugin_devices(ort: Any) -> list[Any]:
    """The GPUs that the plugin lists, one at least.

    Raises:
        see :func:`add_plugin`.
    """
    require_gpu()
    package = require(PACKAGE, EXTRA, f"run a model with --device {RTX}")
    if not hasattr(ort, "register_execution_provider_library"):
        raise DeviceError(
            f"ONNX Runtime {ort.__version__} takes no plugins; pip install 'onnxruntime>={OLDEST}' for --device {RTX}"
        )
    devices = _listed(ort)
    if not devices:
        try:
            for library in sorted(Path(str(package.__file__)).parent.glob("libcudart.so.*")):
                ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
            ort.register_execution_provider_library(PROVIDER, package.get_library_path())
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            reason = " ".join(str(error).split())[:300]
            raise DeviceError(
                f"ONNX Runtime's plugin for TensorRT for RTX does not load ({reason}); run `gloam doctor`"
            ) from error
        devices = _listed(ort)
    if not devices:
        raise DeviceError(
            "ONNX Runtime's plugin for TensorRT for RTX lists no GPU; it needs one of Ampere or later and a driver for "
            "its CUDA; run `gloam doctor`, or ask for --device cuda"
        )
    return devices


def _listed(ort: Any) -> list[Any]:
    return [device for device in ort.get_ep_devices() if device.ep_name == PROVIDER]
