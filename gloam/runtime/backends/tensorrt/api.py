"""What gloam asks of TensorRT itself: the names that versions 10.3 to 11 share, and their differences in one place.

Without an NVIDIA driver TensorRT ends the whole process, so the driver is looked for before it is imported. Flags are
spelled by name, never by number: version 11 renumbered them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from gloam.errors import DeviceError, ModelError, UsageError, require
from gloam.runtime.backends.cuda.device import DeviceMemoryError
from gloam.runtime.backends.cuda.driver import require_gpu

OLDEST = (10, 3)  # the first whose names the code below uses all exist
HARDWARE = {"same-gpu": "NONE", "compute-capability": "SAME_COMPUTE_CAPABILITY", "ampere-plus": "AMPERE_PLUS"}
SERIOUS = ("INTERNAL_ERROR", "ERROR")
OUT_OF_MEMORY = re.compile(r"out ?of ?memory|OutOfMemory|failed to allocate|MEM_ALLOC_FAILED", re.IGNORECASE)


def load_tensorrt(ordinal: int = 0) -> Any:
    """The ``tensorrt`` module.

    Raises:
        DeviceError: no driver or no such GPU.
        MissingExtraError: TensorRT does not import.
        UsageError: a version that is too old.
    """
    require_gpu(ordinal)
    trt: Any = require("tensorrt", "tensorrt", "build and run engines")
    version = tuple(int(part) for part in re.findall(r"\d+", trt.__version__)[:2])
    if version < OLDEST:
        raise UsageError(f"TensorRT {trt.__version__} is too old; pip install 'gloam[tensorrt]' or 'gloam[tensorrt11]'")
    return trt


class EngineLog:
    """What TensorRT said: errors are kept for messages, everything goes to ``file`` where there is one.

    Attributes:
        errors: messages of serious errors since the last failure that was reported.
        path: of the file.
    """

    def __init__(self, file: IO[str] | None = None) -> None:
        self.errors: list[str] = []
        self.path = "" if file is None else file.name
        self._file = file

    def add(self, severity: str, message: str) -> None:
        """One message of a severity by TensorRT's name."""
        if severity in SERIOUS:
            self.errors.append(" ".join(message.split()))
        if self._file is not None:
            self._file.write(f"[{severity}] {message}\n")
            self._file.flush()  # what was said last is what one wants to read after a crash

    def failure(self, what: str, advice: str) -> DeviceError:
        """The one-line error for a call that failed, of the kind that its reason tells."""
        reason = self.errors[-1][:300] if self.errors else "TensorRT gave no reason"
        full = any(OUT_OF_MEMORY.search(message) for message in self.errors)
        self.errors.clear()
        if full:
            return DeviceMemoryError(f"{what} ({reason}); free memory of the GPU, or ask for smaller shapes; {advice}")
        return DeviceError(f"{what} ({reason}); {advice}")


def make_logger(trt: Any, log: EngineLog) -> Any:
    """A ``trt.ILogger`` that fills ``log``; must live as long as what is made with it."""

    class Logger(trt.ILogger):  # type: ignore[misc]  # a class of the module that was just loaded
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # the bindings ask for the base's own, not for super()

        def log(self, severity: Any, msg: str) -> None:
            log.add(severity.name, msg)

    return Logger()


def start_library(make: Callable[[Any], Any], logger: Any, log: EngineLog, what: str) -> Any:
    """``trt.Builder`` or ``trt.Runtime``, whose bindings raise TypeError where the library makes none.

    Raises:
        DeviceError: with what the library said.
    """
    try:
        return make(logger)
    except TypeError as error:
        raise log.failure(f"TensorRT could not start its {what}", "run `gloam doctor`") from error


def create_network(trt: Any, builder: Any) -> Any:
    """An empty strongly typed network: version 10 needs a flag, 11 has no other kind."""
    creation = trt.NetworkDefinitionCreationFlag
    typed = getattr(creation, "STRONGLY_TYPED", None)
    return builder.create_network(0 if typed is None else 1 << int(typed))


def hardware_level(trt: Any, name: str) -> Any:
    """The hardware compatibility level by gloam's name.

    Raises:
        UsageError: an unknown name, or a level that this version lacks.
    """
    if name not in HARDWARE:
        raise UsageError(f"unknown hardware compatibility {name!r}; choose one of {', '.join(HARDWARE)}")
    level = getattr(trt.HardwareCompatibilityLevel, HARDWARE[name], None)
    if level is None:
        raise UsageError(f"TensorRT {trt.__version__} has no hardware compatibility {name!r}; update TensorRT")
    return level


@dataclass(frozen=True)
class Tensor:
    """An input or output of an engine; ``dtype`` as numpy knows it."""

    name: str
    dtype: np.dtype[Any]
    is_input: bool


@dataclass(frozen=True)
class EngineProfile:
    """One optimisation profile of an engine.

    Attributes:
        index: of the profile.
        shape: (H, W) of the images.
        batch: smallest, preferred and largest number of images.
        inputs: largest shape of each input.
    """

    index: int
    shape: tuple[int, int]
    batch: tuple[int, int, int]
    inputs: Mapping[str, tuple[int, ...]]


def engine_tensors(trt: Any, engine: Any, where: str) -> tuple[Tensor, ...]:
    """The engine's inputs and outputs, in its own order.

    Raises:
        ModelError: a type that numpy lacks, e.g. bf16.
    """
    found = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        kind = engine.get_tensor_dtype(name)
        try:
            dtype = np.dtype(trt.nptype(kind))
        except TypeError as error:
            raise ModelError(
                f"{where}: {name!r} is of type {kind}, which has no numpy type; export the model with fp32 outputs"
            ) from error
        found.append(Tensor(name, dtype, engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT))
    return tuple(found)


def engine_profiles(engine: Any, tensors: tuple[Tensor, ...], images: str) -> tuple[EngineProfile, ...]:
    """The engine's optimisation profiles; ``images`` is the name of the input ``[B, H, W, C]``."""
    profiles = []
    for index in range(engine.num_optimization_profiles):
        ranges = {
            tensor.name: [tuple(shape) for shape in engine.get_tensor_profile_shape(tensor.name, index)]
            for tensor in tensors
            if tensor.is_input
        }
        least, preferred, most = ranges[images]
        profiles.append(
            EngineProfile(
                index,
                (int(most[1]), int(most[2])),
                (int(least[0]), int(preferred[0]), int(most[0])),
                {name: tuple(int(side) for side in shapes[2]) for name, shapes in ranges.items()},
            )
        )
    return tuple(profiles)
