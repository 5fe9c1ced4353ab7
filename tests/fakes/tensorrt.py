"""A ``tensorrt`` module made of a description of the vendor's bindings, and just enough behind it to build and run.

Only names of that version resolve, arguments must fit a signature, read-only properties cannot be set, and subclasses
must call their base's ``__init__`` themselves, as pybind11 asks. An engine sums each image's valid pixels.
"""

from __future__ import annotations

import json
import types
import zlib
from typing import Any

import numpy as np
import onnx

from tests.fakes.bindings import Bindings, Guard, Member
from tests.fakes.cuda import FakeDevice, Misuse, Work, expected_sums
from tests.fakes.trt_api import description

NUMPY = {"FLOAT": "float32", "HALF": "float16", "INT32": "int32", "INT64": "int64", "INT8": "int8", "UINT8": "uint8"}
ONNX_TYPES = {1: "FLOAT", 2: "UINT8", 6: "INT32", 10: "HALF", 16: "BF16"}


class FakeTensorRT(Bindings):
    """The module.

    Args:
        version: ``10.16`` or ``11.4``.
        device: on which engines run.

    Attributes:
        unsupported: operators that the parser refuses.
        out_of_memory_above: rows from which on a run fails for lack of memory.
        build_failure: message with which the builder fails.
        activations: ``shapes``: asked by shape; ``profile``: known by profile alone; ``none``: the engine needs none.
        compiled, deserialized: RTX: what a runtime cache holds after a run, and what was read from one.
        starts: whether the library makes a builder and a runtime.
        built, contexts: how many were made.
    """

    def __init__(self, version: str, device: FakeDevice, api: dict[str, Any] | None = None) -> None:
        super().__init__("tensorrt" if api is None else "tensorrt_rtx", api or description(version))
        self.__version__ = f"{version}.0.1"
        self.device = device
        self.unsupported: set[str] = set()
        self.out_of_memory_above = 1 << 30
        self.build_failure: str | None = None
        self.activations = "shapes"
        self.starts = True
        self.built = 0
        self.timings: list[bytes] = []
        self.configs: list[Any] = []
        self.contexts = 0
        self.compiled = b"kernels"
        self.deserialized: list[bytes] = []
        self.ILogger = self.base("ILogger")
        self.IProgressMonitor = self.base("IProgressMonitor")

    def __getattr__(self, name: str) -> Any:
        if name in ("Builder", "OnnxParser", "Runtime"):
            behaviour = {"Builder": Builder, "OnnxParser": OnnxParser, "Runtime": Runtime}[name]
            self.used.add(f"{name}.__init__")

            def make(*arguments: Any) -> Guard:
                if not self.starts:
                    self.log(arguments[-1], "ERROR", "CUDA initialization failure with error: 35")
                    raise TypeError("pybind11::init(): factory function returned nullptr")
                return Guard(self, name, behaviour(self, *arguments))

            return self.checked(name, "__init__", make)
        if name in self.__dict__.get("enums", {}):
            return self.enums[name]
        raise AttributeError(f"module 'tensorrt' {self.__dict__.get('__version__')} has no attribute '{name}'")

    def nptype(self, kind: Member) -> Any:
        if kind.name not in NUMPY:
            raise TypeError("Could not resolve TensorRT datatype to an equivalent numpy datatype.")
        return np.dtype(NUMPY[kind.name]).type

    def log(self, logger: Any, severity: str, message: str) -> None:
        self.call(logger, "ILogger", "log", Member("Severity", severity, 1), message)


class Builder:
    def __init__(self, module: FakeTensorRT, logger: Any) -> None:
        self.module, self.logger = module, logger

    def create_network(self, flags: int = 0) -> Guard:
        known = self.module.api["enums"]["NetworkDefinitionCreationFlag"]
        typed = bool(int(flags) >> known["STRONGLY_TYPED"] & 1)
        if int(flags) & ~(1 << known["STRONGLY_TYPED"]):
            raise Misuse("a flag that nobody asked for: the numbers are another version's")
        if not typed and self.module.__version__.startswith("10."):
            raise Misuse("a weakly typed network: its precision is TensorRT's, not the model's")
        return Guard(self.module, "INetworkDefinition", types.SimpleNamespace(model=None, num_layers=0))

    def create_builder_config(self) -> Guard:
        config = Config(self.module)
        self.module.configs.append(config)
        return Guard(self.module, "IBuilderConfig", config)

    def create_optimization_profile(self) -> Guard:
        return Guard(self.module, "IOptimizationProfile", OptimizationProfile())

    def build_serialized_network(self, network: Guard, config: Guard) -> bytes | None:
        module, settings = self.module, config._behaviour
        if module.build_failure is not None:
            module.log(self.logger, "ERROR", module.build_failure)
            return None
        module.built += 1
        monitor = settings.progress_monitor
        module.call(monitor, "IProgressMonitor", "phase_start", "Building", None, 3)
        for step in range(3):
            if not module.call(monitor, "IProgressMonitor", "step_complete", "Building", step):
                return None
        module.call(monitor, "IProgressMonitor", "phase_finish", "Building")
        module.log(self.logger, "INFO", "built")
        graph = network._behaviour.model.graph
        tensors = [
            {
                "name": value.name,
                "type": ONNX_TYPES[value.type.tensor_type.elem_type],
                "input": value in graph.input,
                "tail": [dim.dim_value for dim in value.type.tensor_type.shape.dim][1:],
            }
            for value in (*graph.input, *graph.output)
        ]
        plan = {
            "version": module.__version__,
            "host_code": "VERSION_COMPATIBLE" in settings.flags,
            "tensors": tensors,
            "profiles": settings.profiles,
        }
        content = json.dumps(plan).encode()
        return content + zlib.crc32(content).to_bytes(4, "big")


class Config:
    def __init__(self, module: FakeTensorRT) -> None:
        self.module = module
        self.flags = {"TF32"}  # on by default
        self.pools: dict[str, int] = {}
        self.profiles: list[dict[str, Any]] = []
        self.builder_optimization_level = 3
        self.hardware_compatibility_level: Any = None
        self.progress_monitor: Any = None
        self.cache = b"new"
        self.num_compute_capabilities = 0
        self.architectures: dict[int, str] = {}

    def set_flag(self, flag: Member) -> None:
        self.flags.add(flag.name)

    def clear_flag(self, flag: Member) -> None:
        self.flags.discard(flag.name)

    def set_memory_pool_limit(self, pool: Member, pool_size: int) -> None:
        self.pools[pool.name] = int(pool_size)

    def add_optimization_profile(self, profile: Guard) -> int:
        shapes = profile._behaviour.shapes
        if any(not (low <= best <= high) for dims in shapes.values() for low, best, high in zip(*dims, strict=True)):
            return -1
        self.profiles.append(shapes)
        return len(self.profiles) - 1

    def set_compute_capability(self, compute_capability: Member, index: int) -> bool:
        self.architectures[index] = compute_capability.name
        return True

    def create_timing_cache(self, content: bytes) -> Guard:
        return Guard(self.module, "ITimingCache", types.SimpleNamespace(serialize=lambda: b"timings", content=content))

    def set_timing_cache(self, cache: Guard, ignore_mismatch: bool) -> bool:
        content = cache._behaviour.content
        if content not in (b"", b"timings"):
            return False
        self.module.timings.append(content)
        return True

    def get_timing_cache(self) -> Guard:
        return self.create_timing_cache(b"timings")


class OptimizationProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, name: str, least: Any, best: Any, most: Any) -> None:
        self.shapes[name] = [list(least), list(best), list(most)]


class OnnxParser:
    def __init__(self, module: FakeTensorRT, network: Guard, logger: Any) -> None:
        self.module, self.network, self.logger = module, network, logger
        self.errors: list[Any] = []

    @property
    def num_errors(self) -> int:
        return len(self.errors)

    def parse_from_file(self, path: str) -> bool:
        model = onnx.load(path)
        for node in model.graph.node:
            if node.op_type in self.module.unsupported:
                self.errors.append(
                    types.SimpleNamespace(
                        node_name=lambda node=node: node.name,
                        node_operator=lambda node=node: node.op_type,
                        desc=lambda: "no importer\nregistered",
                    )
                )
        self.network._behaviour.model = model
        return not self.errors

    def get_error(self, index: int) -> Guard:
        return Guard(self.module, "ParserError", self.errors[index])


class Runtime:
    def __init__(self, module: FakeTensorRT, logger: Any) -> None:
        self.module, self.logger = module, logger
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, content: bytes) -> Guard | None:
        content = bytes(content)
        if zlib.crc32(content[:-4]).to_bytes(4, "big") != content[-4:]:
            self.module.log(self.logger, "ERROR", "Serialization assertion failed:\n  magic tag does not match")
            return None
        plan = json.loads(content[:-4])
        if plan["host_code"] and not self.engine_host_code_allowed:
            self.module.log(self.logger, "ERROR", "engine host code is not allowed")
            return None
        return Guard(self.module, "ICudaEngine", Engine(self.module, plan, self.logger))


class Engine:
    def __init__(self, module: FakeTensorRT, plan: dict[str, Any], logger: Any) -> None:
        self.module, self.plan, self.logger = module, plan, logger
        self.tensors = {tensor["name"]: tensor for tensor in plan["tensors"]}
        self.num_io_tensors = len(self.tensors)
        self.num_optimization_profiles = len(plan["profiles"])

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_dtype(self, name: str) -> Member:
        return Member("DataType", self.tensors[name]["type"], 0)

    def get_tensor_shape(self, name: str) -> list[int]:
        free = 1 if not self.tensors[name]["input"] else 3 if name == "images" else 1
        return [-1] * free + self.tensors[name]["tail"][free - 1 :]

    def get_tensor_mode(self, name: str) -> Member:
        member: Member = self.module.enums["TensorIOMode"].INPUT
        if self.tensors[name]["input"]:
            return member
        return Member("TensorIOMode", "OUTPUT", 2)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[list[int]]:
        shapes: list[list[int]] = self.plan["profiles"][profile_index][name]
        return shapes

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        most = self.plan["profiles"][profile_index]["images"][2]
        return 0 if self.module.activations == "none" else int(np.prod(most))

    def create_runtime_config(self) -> Guard:
        return Guard(self.module, "IRuntimeConfig", RuntimeConfig(self.module))

    def create_execution_context(self, strategy: Member | Guard) -> Guard:
        if isinstance(strategy, Guard):
            strategy = strategy._behaviour.strategy
        if strategy.name != "USER_MANAGED":
            raise Misuse("contexts with memory of their own would not fit the GPU for every profile and batch")
        self.module.contexts += 1
        return Guard(self.module, "IExecutionContext", ExecutionContext(self))


class RuntimeConfig:
    """Of RTX: a strategy and a cache of kernels."""

    def __init__(self, module: FakeTensorRT) -> None:
        self.module = module
        self.strategy = Member("ExecutionContextAllocationStrategy", "STATIC", 0)

    def set_execution_context_allocation_strategy(self, strategy: Member) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> Guard:
        return Guard(self.module, "IRuntimeCache", RuntimeCache(self.module))

    def set_runtime_cache(self, cache: Guard) -> bool:
        return True


class RuntimeCache:
    def __init__(self, module: FakeTensorRT) -> None:
        self.module = module

    def deserialize(self, blob: bytes) -> bool:
        self.module.deserialized.append(bytes(blob))
        return bool(blob == self.module.compiled)

    def serialize(self) -> bytes:
        return self.module.compiled


class ExecutionContext:
    def __init__(self, engine: Engine) -> None:
        self.engine, self.module = engine, engine.module
        self.profile: int | None = None
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.activations = (0, 0)

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        self.profile = profile_index
        self.module.device.enqueue(stream_handle, Work(lambda: None))
        return profile_index < self.engine.num_optimization_profiles

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if self.profile is None:
            raise Misuse("a shape before the profile")
        least, _, most = self.engine.plan["profiles"][self.profile][name]
        if not all(low <= side <= high for low, side, high in zip(least, shape, most, strict=True)):
            self.module.log(self.engine.logger, "ERROR", f"{name} {shape} is outside the profile")
            return False
        self.shapes[name] = tuple(shape)
        return True

    def infer_shapes(self) -> list[str]:
        return [name for name, t in self.engine.tensors.items() if t["input"] and name not in self.shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes.get(name, (self.shapes["images"][0], *self.engine.tensors[name]["tail"]))

    def update_device_memory_size_for_shapes(self) -> int:
        return int(np.prod(self.shapes["images"])) if self.module.activations == "shapes" else 0

    def need(self) -> int:
        return 0 if self.module.activations == "none" else int(np.prod(self.shapes["images"]))

    def set_device_memory(self, memory: int, size: int) -> None:
        self.module.device.memory(memory, size)
        self.activations = (memory, size)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return memory % 256 == 0

    def execute_async_v3(self, stream_handle: int) -> bool:
        device, engine = self.module.device, self.engine
        batch = self.shapes["images"][0]
        if batch > self.module.out_of_memory_above:
            self.module.log(engine.logger, "ERROR", "Cuda Runtime (out of memory)")
            return False
        if self.activations[1] < self.need():
            raise Misuse("the activation memory is too small for the shapes")
        shapes = {name: self.get_tensor_shape(name) for name in engine.tensors}
        dtypes = {name: np.dtype(NUMPY[tensor["type"]]) for name, tensor in engine.tensors.items()}
        addresses, activations = dict(self.addresses), self.activations
        sizes = {name: int(np.prod(shapes[name])) * dtypes[name].itemsize for name in shapes}
        blocks = [device._block(addresses[name], sizes[name]) for name in shapes]
        if activations[1]:
            blocks.append(device._block(*activations))

        def run() -> None:
            if activations[1]:
                device.memory(*activations)[...] = 0xEE  # activations are written over
            values = {
                name: device.memory(addresses[name], sizes[name]).view(dtypes[name]).reshape(shapes[name])
                for name in shapes
            }
            output = next(name for name, tensor in engine.tensors.items() if not tensor["input"])
            values[output][...] = expected_sums(values["images"], values["sizes"], shapes[output][1])

        device.enqueue(stream_handle, Work(run, tuple(blocks)))
        return True
