"""What gloam asks of TensorRT itself: the names that versions 10.3 to 11 and TensorRT for RTX share, and their
differences in one place.

Without an NVIDIA driver TensorRT ends the whole process, so the driver is looked for before it is imported. TensorRT
for RTX loads and builds without one. Flags are spelled by name, never by number: version 11 renumbered them.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from gloam.errors import DeviceError, ModelError, StoreError, UsageError, require
from gloam.files import write_bytes, write_failure
from gloam.model_card import ModelCard
from gloam.runtime.backends.cuda.device import DeviceMemoryError
from gloam.runtime.backends.cuda.driver import require_gpu

OLDEST = (10, 3)  # the first whose names the code below uses all exist
OLDEST_RTX = (1, 7)  # what the names below were checked against
# Of the GPUs that an engine of TensorRT for RTX can be built for, as `--gpu` spells them.
ARCHITECTURES = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
HARDWARE = {"same-gpu": "NONE", "compute-capability": "SAME_COMPUTE_CAPABILITY", "ampere-plus": "AMPERE_PLUS"}
SERIOUS = ("INTERNAL_ERROR", "ERROR")
PARSED = re.compile(r"(\S+) \[(\w+)\] inputs: ")  # what the parser says of each node before it imports it
COMPUTED = ("FLOAT", "HALF", "BF16", "INT8", "FP8")  # types of layer_types; the others are sizes and masks
MEMORY = re.compile(r"Total (Activation|Weights) Memory: (\d+) bytes")
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
    if _version(trt) < OLDEST:
        raise UsageError(f"TensorRT {trt.__version__} is too old; pip install 'gloam[tensorrt]' or 'gloam[tensorrt11]'")
    return trt


def load_rtx() -> Any:
    """The ``tensorrt_rtx`` module, which needs no driver to be loaded and to build.

    Raises:
        MissingExtraError: TensorRT for RTX does not import.
        UsageError: a version that is too old.
    """
    trt: Any = require("tensorrt_rtx", "tensorrt-rtx", "build and run engines for RTX")
    if _version(trt) < OLDEST_RTX:
        raise UsageError(f"TensorRT for RTX {trt.__version__} is too old; pip install -U 'gloam[tensorrt-rtx]'")
    return trt


def _version(trt: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", trt.__version__)[:2])


class EngineLog:
    """What TensorRT said: errors are kept for messages, everything goes to ``file`` where there is one.

    Attributes:
        errors: messages of serious errors since the last failure that was reported.
        path: of the file.
        full: why the file could not be written; nothing is raised where it happens, inside TensorRT's own code.
        node: name and operator of the node that was parsed last; the parser's errors do not always say it.
        activations: bytes of GPU memory that each optimisation profile needs beside the weights, in order.
        weights: bytes of the weights on the GPU; None where nothing was built.
    """

    def __init__(self, file: IO[str] | None = None) -> None:
        self.errors: list[str] = []
        self.path = "" if file is None else file.name
        self.full: OSError | None = None
        self.node: tuple[str, str] | None = None
        self.activations: list[int] = []
        self.weights: int | None = None
        self._file = file

    def add(self, severity: str, message: str) -> None:
        """One message of a severity by TensorRT's name."""
        if severity in SERIOUS:
            self.errors.append(" ".join(message.split()))
        elif found := PARSED.match(message):
            self.node = found[1], found[2]
        elif found := MEMORY.match(message):
            if found[1] == "Activation":
                self.activations.append(int(found[2]))
            else:
                self.weights = int(found[2])
        if self._file is not None and self.full is None:
            try:
                self._file.write(f"[{severity}] {message}\n")
                self._file.flush()  # what was said last is what one wants to read after a crash
            except OSError as error:
                self.full = error

    def expect_written(self) -> None:
        """Refuse to carry on where the log could not be written.

        Raises:
            StoreError: the disk is full, or the file cannot be written.
        """
        if self.full is not None:
            raise StoreError(write_failure(Path(self.path), self.full)) from self.full

    @property
    def out_of_memory(self) -> bool:
        """Whether one of the errors is about memory."""
        return any(OUT_OF_MEMORY.search(message) for message in self.errors)

    def failure(self, what: str, advice: str) -> DeviceError:
        """The one-line error for a call that failed, of the kind that its reason tells."""
        full, reason = self.out_of_memory, self.reason()
        if full:
            return DeviceMemoryError(f"{what} ({reason}); free memory of the GPU, or ask for smaller shapes; {advice}")
        return DeviceError(f"{what} ({reason}); {advice}")

    def reason(self) -> str:
        """What was said last; the errors are forgotten."""
        reason = self.errors[-1][:300] if self.errors else "TensorRT gave no reason"
        self.errors.clear()
        return reason


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


def set_architectures(trt: Any, config: Any, architectures: Sequence[str]) -> None:
    """Say for which GPUs TensorRT for RTX builds.

    Raises:
        UsageError: an architecture that this version lacks.
    """
    config.num_compute_capabilities = len(architectures)
    for index, name in enumerate(architectures):
        member = getattr(trt.ComputeCapability, name.upper(), None)
        if member is None or not config.set_compute_capability(member, index):
            raise UsageError(f"TensorRT for RTX {trt.__version__} cannot build for {name}; leave it out of --gpu")


def layer_types(network: Any) -> dict[str, dict[str, int]]:
    """How many outputs of each kind of layer are of each floating or quantised type, by TensorRT's names.

    Networks are strongly typed, so this is what the layers compute in; TF32 alone stands beside it.
    """
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        for output in (layer.get_output(at) for at in range(layer.num_outputs)):
            if not output.is_shape_tensor and output.dtype.name in COMPUTED:
                found[layer.type.name][output.dtype.name] += 1
    return {kind: dict(sorted(counts.items())) for kind, counts in sorted(found.items())}


class RuntimeCache:
    """What TensorRT for RTX compiled for a GPU when it ran an engine there, kept beside the plan.

    Args:
        trt, engine: the module and the deserialised engine.
        file: of the kernels; what is absent, or of another version, GPU or driver, is begun anew.

    Attributes:
        config: with which execution contexts are made.
    """

    def __init__(self, trt: Any, engine: Any, file: Path) -> None:
        self._file = file
        self.config = engine.create_runtime_config()
        self.config.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        self._cache = self.config.create_runtime_cache()
        try:
            self._kept = file.read_bytes()
        except OSError:
            self._kept = b""
        if self._kept:
            self._cache.deserialize(self._kept)  # false where it does not fit: then the cache is empty
        self.config.set_runtime_cache(self._cache)

    def save(self) -> None:
        """Write what was compiled since; a folder that cannot be written costs time at the next load, nothing else."""
        content = bytes(memoryview(self._cache.serialize()))
        if content != self._kept:
            with contextlib.suppress(StoreError):
                write_bytes(self._file, content)
            self._kept = content


@dataclass(frozen=True)
class Tensor:
    """An input or output of an engine; ``dtype`` as numpy knows it, -1 in ``shape`` for a free axis."""

    name: str
    dtype: np.dtype[Any]
    is_input: bool
    shape: tuple[int, ...]


@dataclass(frozen=True)
class EngineProfile:
    """One optimisation profile of an engine.

    Attributes:
        index: of the profile.
        shape: (H, W) of the images.
        batch: smallest, preferred and largest number of images.
        ranges: smallest, preferred and largest shape of each input.
    """

    index: int
    shape: tuple[int, int]
    batch: tuple[int, int, int]
    ranges: Mapping[str, tuple[tuple[int, ...], ...]]

    @property
    def inputs(self) -> dict[str, tuple[int, ...]]:
        """Largest shape of each input."""
        return {name: shapes[2] for name, shapes in self.ranges.items()}


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
        shape = tuple(int(side) for side in engine.get_tensor_shape(name))
        found.append(Tensor(name, dtype, engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT, shape))
    return tuple(found)


def engine_profiles(engine: Any, tensors: tuple[Tensor, ...], card: ModelCard) -> tuple[EngineProfile, ...]:
    """The engine's optimisation profiles; ``card`` is of its model."""
    profiles = []
    for index in range(engine.num_optimization_profiles):
        ranges = {
            tensor.name: tuple(
                tuple(int(side) for side in shape) for shape in engine.get_tensor_profile_shape(tensor.name, index)
            )
            for tensor in tensors
            if tensor.is_input
        }
        least, preferred, most = ranges[card.inputs[0].name]
        shape = card.padded({name: shapes[2] for name, shapes in ranges.items()})
        profiles.append(EngineProfile(index, shape, (least[0], preferred[0], most[0]), ranges))
    return tuple(profiles)
