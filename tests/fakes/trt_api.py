"""Every name of TensorRT that gloam uses, with the versions that have it, and the descriptions that a fake is made of.

A description has the form of a dump of the vendor's bindings: ``classes`` with ``methods`` (signatures) and
``properties`` (``r`` or ``rw``), and ``enums`` with values. Where the dumps are at hand, beside the data packs, the
fake is made of those, and this list is checked against them; elsewhere it is made of this list.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

VERSIONS = ("10.16", "11.4")
OLDEST, NEWEST = (10, 3), (11, 99)
Range = tuple[tuple[int, int], tuple[int, int]]
ALWAYS: Range = (OLDEST, NEWEST)

# class -> method -> parameters after self. "__init__" is listed where gloam constructs or subclasses.
METHODS: dict[str, dict[str, str]] = {
    "ILogger": {"__init__": "", "log": "severity: object, msg: str"},
    "IProgressMonitor": {
        "__init__": "",
        "phase_start": "phase_name: str, parent_phase: str, num_steps: typing.SupportsInt",
        "step_complete": "phase_name: str, step: typing.SupportsInt",
        "phase_finish": "phase_name: str",
    },
    "Builder": {
        "__init__": "logger: ILogger",
        "create_network": "flags: typing.SupportsInt = 0",
        "create_builder_config": "",
        "create_optimization_profile": "",
        "build_serialized_network": "network: INetworkDefinition, config: IBuilderConfig",
    },
    "OnnxParser": {
        "__init__": "network: INetworkDefinition, logger: ILogger",
        "parse_from_file": "model: str",
        "get_error": "index: typing.SupportsInt",
    },
    "ParserError": {"node_name": "", "node_operator": "", "desc": ""},
    "INetworkDefinition": {"get_layer": "index: typing.SupportsInt"},
    "ILayer": {"get_output": "index: typing.SupportsInt"},
    "IBuilderConfig": {
        "set_flag": "flag: BuilderFlag",
        "clear_flag": "flag: BuilderFlag",
        "set_memory_pool_limit": "pool: MemoryPoolType, pool_size: typing.SupportsInt",
        "add_optimization_profile": "profile: IOptimizationProfile",
        "create_timing_cache": "serialized_timing_cache: typing_extensions.Buffer",
        "set_timing_cache": "cache: ITimingCache, ignore_mismatch: bool",
        "get_timing_cache": "",
    },
    "IOptimizationProfile": {"set_shape": "input: str, min: Dims, opt: Dims, max: Dims"},
    "ITimingCache": {"serialize": ""},
    "Runtime": {
        "__init__": "logger: ILogger",
        "deserialize_cuda_engine": "serialized_engine: typing_extensions.Buffer",
    },
    "ICudaEngine": {
        "get_tensor_name": "index: typing.SupportsInt",
        "get_tensor_dtype": "name: str",
        "get_tensor_mode": "name: str",
        "get_tensor_shape": "name: str",
        "get_tensor_profile_shape": "name: str, profile_index: typing.SupportsInt",
        "get_device_memory_size_for_profile_v2": "profile_index: typing.SupportsInt",
        "create_execution_context": "strategy: ExecutionContextAllocationStrategy",
    },
    "IExecutionContext": {
        "set_optimization_profile_async": "profile_index: typing.SupportsInt, stream_handle: typing.SupportsInt",
        "set_input_shape": "name: str, shape: tuple",
        "infer_shapes": "",
        "get_tensor_shape": "name: str",
        "update_device_memory_size_for_shapes": "",
        "set_device_memory": "memory: typing.SupportsInt, size: typing.SupportsInt",
        "set_tensor_address": "name: str, memory: typing.SupportsInt",
        "execute_async_v3": "stream_handle: typing.SupportsInt",
    },
}
PROPERTIES: dict[str, dict[str, str]] = {
    "OnnxParser": {"num_errors": "r"},
    "INetworkDefinition": {"num_layers": "r"},
    "ILayer": {"num_outputs": "r", "type": "r"},
    "ITensor": {"dtype": "r", "is_shape_tensor": "r"},
    "IBuilderConfig": {
        "builder_optimization_level": "rw",
        "hardware_compatibility_level": "rw",
        "progress_monitor": "rw",
    },
    "Runtime": {"engine_host_code_allowed": "rw"},
    "ICudaEngine": {"num_io_tensors": "r", "num_optimization_profiles": "r"},
}
ENUMS: dict[str, dict[str, Range]] = {
    "BuilderFlag": {"TF32": ALWAYS, "VERSION_COMPATIBLE": ALWAYS},
    "MemoryPoolType": {"WORKSPACE": ALWAYS},
    # Needed on 10, where networks are weakly typed without it; ignored on 11; used where it exists.
    "NetworkDefinitionCreationFlag": {"STRONGLY_TYPED": ALWAYS},
    # Between 10.8 and 10.12; used where it exists.
    "HardwareCompatibilityLevel": {
        "NONE": ALWAYS,
        "AMPERE_PLUS": ALWAYS,
        "SAME_COMPUTE_CAPABILITY": ((10, 12), NEWEST),
    },
    "TensorIOMode": {"INPUT": ALWAYS},
    "ExecutionContextAllocationStrategy": {"USER_MANAGED": ALWAYS},
}
# What TensorRT for RTX has besides, and what it is not asked for.
RTX_METHODS: dict[str, dict[str, str]] = {
    "IBuilderConfig": {
        "set_compute_capability": "compute_capability: ComputeCapability, index: typing.SupportsInt",
    },
    "ICudaEngine": {
        "create_runtime_config": "",
        "create_execution_context": "runtime_config: IRuntimeConfig",
    },
    "IRuntimeConfig": {
        "set_execution_context_allocation_strategy": "strategy: ExecutionContextAllocationStrategy",
        "create_runtime_cache": "",
        "set_runtime_cache": "cache: IRuntimeCache",
    },
    "IRuntimeCache": {"serialize": "", "deserialize": "blob: typing_extensions.Buffer"},
}
RTX_PROPERTIES: dict[str, dict[str, str]] = {"IBuilderConfig": {"num_compute_capabilities": "rw"}}
CLASSIC_ALONE = ("HardwareCompatibilityLevel.",)
# Written in Python beside the bindings, so in no dump of them.
FUNCTIONS = ("__version__", "nptype")
# What a test needs of the module besides, where no dump is at hand.
ELSEWHERE = {
    "DataType": ("FLOAT", "HALF", "BF16", "INT32", "INT64", "INT8", "UINT8", "BOOL"),
    "TensorIOMode": ("INPUT", "OUTPUT"),
    "ExecutionContextAllocationStrategy": ("STATIC", "USER_MANAGED"),
    "BuilderFlag": ("TF32", "VERSION_COMPATIBLE"),
}


def number(version: str) -> tuple[int, int]:
    """``10.16`` as (10, 16)."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def in_version(span: Range, version: str) -> bool:
    """Whether a version lies in a range."""
    return span[0] <= number(version) <= span[1]


def used_names(version: str) -> set[str]:
    """Dotted names that gloam uses of a version."""
    names = {f"{owner}.{name}" for table in (METHODS, PROPERTIES) for owner, rows in table.items() for name in rows}
    names |= {
        f"{owner}.{name}" for owner, rows in ENUMS.items() for name, span in rows.items() if in_version(span, version)
    }
    return names


def dump_path(version: str) -> Path:
    """Where the dump of a version's bindings lies, if at all."""
    root = os.environ.get("GLOAM_DATA")
    folder = Path(root).parent / "facts" if root else Path("absent")
    return folder / f"trt_api_{version.replace('.', '_')}.json"


def description(version: str) -> dict[str, Any]:
    """The dump of a version's bindings, or the same form made of this list."""
    path = dump_path(version)
    if path.is_file():
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return value
    first = number(version)[0]  # numbers that differ between versions, as the real ones do
    classes = {
        owner: {
            "bases": [],
            "methods": {
                name: [f"{name}(self: {owner}{', ' if parameters else ''}{parameters}) -> object"]
                for name, parameters in METHODS.get(owner, {}).items()
            },
            "properties": PROPERTIES.get(owner, {}),
        }
        for owner in (*METHODS, "IHostMemory", "Dims")
    }
    members = {
        owner: [name for name, span in rows.items() if in_version(span, version)] for owner, rows in ENUMS.items()
    }
    for owner, names in ELSEWHERE.items():
        members[owner] = sorted({*members.get(owner, []), *names})
    enums = {owner: {name: index + first % 2 for index, name in enumerate(names)} for owner, names in members.items()}
    return {"classes": classes, "enums": enums}


def rtx_description() -> dict[str, Any]:
    """TensorRT's description, with what TensorRT for RTX has besides."""
    value = description("11.4")
    value["enums"]["ComputeCapability"] = {name: index for index, name in enumerate(("SM80", "SM89"))}
    for owner, methods in RTX_METHODS.items():
        known = value["classes"].setdefault(owner, {"bases": [], "methods": {}, "properties": {}})
        for name, parameters in methods.items():
            signature = f"{name}(self: {owner}{', ' if parameters else ''}{parameters}) -> object"
            known["methods"].setdefault(name, []).append(signature)
    for owner, properties in RTX_PROPERTIES.items():
        value["classes"][owner]["properties"] |= properties
    return value
