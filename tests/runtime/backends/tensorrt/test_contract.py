"""Every name of TensorRT that gloam uses exists in the vendor's bindings, with those arguments, in every version."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gloam.export.engine.build import build_engine
from gloam.export.engine.options import BuildOptions
from gloam.runtime.backends.tensorrt.api import ARCHITECTURES
from gloam.runtime.backends.tensorrt.session import TensorRTSession
from tests.fakes.bindings import parse_signature
from tests.fakes.cuda import FakeDevice
from tests.fakes.tensorrt import FakeTensorRT
from tests.fakes.trt_api import (
    CLASSIC_ALONE,
    ENUMS,
    FUNCTIONS,
    METHODS,
    PROPERTIES,
    RTX_METHODS,
    RTX_PROPERTIES,
    VERSIONS,
    description,
    dump_path,
    in_version,
    used_names,
)

dumps = pytest.mark.skipif(
    not all(dump_path(version).is_file() for version in VERSIONS), reason="no dumps of the bindings beside GLOAM_DATA"
)


def test_the_list_is_exactly_what_a_build_and_a_run_look_up(
    trt: FakeTensorRT, gpu: FakeDevice, onnx_file: Path, tmp_path: Path
) -> None:
    options = BuildOptions(workspace=1 << 20, version_compatible=True, hardware="ampere-plus")
    for name, choice in (
        ("a", options),
        ("b", BuildOptions(tf32=True, hardware="compute-capability", heights=(256,), widths=(256,))),
        ("c", BuildOptions(heights=(256,), widths=(256,))),
    ):
        build_engine(onnx_file, tmp_path / name, choice)
    with TensorRTSession(tmp_path / "a") as session:
        session.run({"images": np.zeros((1, 256, 256, 3), np.uint8), "sizes": np.ones((1, 2), np.int32)})
    # What only a failure, a network with layers or an engine without activations looks up:
    rest = {"INetworkDefinition.get_layer", "ILayer.get_output", "ILayer.num_outputs", "ILayer.type"}
    rest |= {"ITensor.dtype", "ITensor.is_shape_tensor"}
    rest |= {"ParserError.node_name", "ParserError.node_operator", "ParserError.desc"}
    rest |= {"OnnxParser.num_errors", "OnnxParser.get_error", "ICudaEngine.get_device_memory_size_for_profile_v2"}
    version = trt.__version__.removesuffix(".0.1")
    assert trt.used | rest == used_names(version)


@dumps
@pytest.mark.parametrize("version", VERSIONS)
def test_every_name_of_the_list_is_in_the_dump_of_the_bindings(version: str) -> None:
    api = json.loads(dump_path(version).read_text())
    for owner, methods in METHODS.items():
        for name, parameters in methods.items():
            wanted = [parameter[:2] for parameter in parse_signature(f"{name}(self, {parameters})") if parameter[0]]
            if owner == "ILogger":  # the dump spells the nested enumeration in a way of its own
                wanted = [(label, "ILogger.Severity" if label == "severity" else kind) for label, kind in wanted]
            offered = [parse_signature(signature) for signature in api["classes"][owner]["methods"][name]]
            assert any(
                [parameter[:2] for parameter in signature[: len(wanted)]] == wanted
                and all(optional for *_, optional in signature[len(wanted) :])
                for signature in offered
            ), f"{owner}.{name}({parameters}) is not among {offered}"
    for owner, properties in PROPERTIES.items():
        offered = api["classes"][owner]["properties"]
        assert all(wanted in offered.get(name, "") for name, wanted in properties.items()), owner
    for owner, members in ENUMS.items():
        for name, span in members.items():
            assert (name in api["enums"][owner]) == in_version(span, version)


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="TensorRT for RTX is not installed")
def test_every_name_that_is_used_of_rtx_is_in_the_installed_module() -> None:
    """TensorRT for RTX loads without a driver, so its own module is asked."""
    import tensorrt_rtx

    wanted = {
        f"{owner}.{name}" for rows in (RTX_METHODS, RTX_PROPERTIES) for owner, names in rows.items() for name in names
    }
    classic = {name for name in used_names("11.4") if not name.startswith(CLASSIC_ALONE)}
    for dotted in sorted(wanted | classic):
        owner, name = dotted.split(".")
        assert hasattr(getattr(tensorrt_rtx, owner), name), dotted
    for owner, methods in RTX_METHODS.items():
        for name, parameters in methods.items():
            said = getattr(getattr(tensorrt_rtx, owner), name).__doc__
            for parameter in filter(None, parameters.split(", ")):
                assert f"{parameter.split(':')[0]}:" in said, f"{owner}.{name} has no {parameter}"
    members = set(tensorrt_rtx.ComputeCapability.__members__) - {"NONE", "CURRENT"}
    assert members == {name.upper() for name in ARCHITECTURES}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_fake_module_knows_no_other_names(version: str, gpu: FakeDevice, onnx_file: Path) -> None:
    module = FakeTensorRT(version, gpu)
    for name in ("IInt8Calibrator", "BuilderFlag.FP32", "MemoryPoolType.workspace"):
        with pytest.raises(AttributeError):
            _resolve(module, name)
    logger = type("Logger", (module.ILogger,), {"log": lambda self, severity, msg: None})()
    with pytest.raises(AttributeError):
        module.Builder(logger).platform_has_fast_everything  # noqa: B018
    config = module.Builder(logger).create_builder_config()
    with pytest.raises(AttributeError, match="cannot be set"):
        config.num_optimization_profiles = 3
    with pytest.raises(TypeError, match="incompatible function arguments"):
        config.set_flag(1)
    with pytest.raises(TypeError, match="incompatible function arguments"):
        config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE)

    class Forgetful(module.ILogger):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            pass

    with pytest.raises(TypeError):
        module.Builder(Forgetful())


def _resolve(module: FakeTensorRT, dotted: str) -> object:
    found: object = module
    for part in dotted.split("."):
        found = getattr(found, part)
    return found


def test_a_calibrator_is_a_name_of_neither_version_here() -> None:
    for version in VERSIONS:
        assert "FP16" not in ENUMS["BuilderFlag"]
        assert not {"IInt8Calibrator"} & {name.split(".")[0] for name in used_names(version)}


def test_numbers_of_flags_differ_between_versions() -> None:
    """So a hard-coded number would show."""
    flags = [description(version)["enums"]["NetworkDefinitionCreationFlag"]["STRONGLY_TYPED"] for version in VERSIONS]
    assert flags[0] != flags[1]


STUBS = """
#define NOTHING(name) void *name(void) { return 0; }
NOTHING(createInferBuilder_INTERNAL) NOTHING(createInferRefitter_INTERNAL) NOTHING(createInferRuntime_INTERNAL)
NOTHING(getPluginRegistry) NOTHING(getBuilderPluginRegistry)
NOTHING(createNvOnnxParser_INTERNAL) NOTHING(createNvOnnxParserRefitter_INTERNAL)
int getNvOnnxParserVersion(void) { return 0; }
int initLibNvInferPlugins(void) { return 1; }
"""
# Prints the version and what is missing; makes the subclasses as gloam does, and calls them as the library would.
PROBE = """
import json, sys
import tensorrt_bindings as trt
from gloam.export.engine.progress import BuildBars, make_monitor
from gloam.runtime.backends.tensorrt.api import EngineLog, make_logger
names, functions = json.loads(sys.argv[1])
missing = [name for name in functions if not hasattr(trt, name)]
for dotted in names:
    owner, member = dotted.split(".")
    if not hasattr(getattr(trt, owner, None), member):
        missing.append(dotted)
log, bars = EngineLog(), BuildBars(False)
logger = make_logger(trt, log)
trt.ILogger.log(logger, trt.ILogger.Severity.ERROR, "out of memory")
logger.log(trt.ILogger.Severity.ERROR, "out of memory")
monitor = make_monitor(trt, bars)
monitor.phase_start("a", None, 2)
assert monitor.step_complete("a", 0) is True
monitor.phase_finish("a")
creation = trt.NetworkDefinitionCreationFlag
assert 1 << int(creation.STRONGLY_TYPED) in (1, 2)
assert trt.nptype(trt.DataType.UINT8) and trt.nptype(trt.DataType.FLOAT)
try:
    trt.nptype(trt.DataType.BF16)
except TypeError:
    pass
else:
    missing.append("nptype refuses bf16")
try:
    trt.Runtime(logger)
except TypeError:
    pass  # the stubs make no runtime
print(json.dumps({"version": trt.__version__, "missing": missing, "errors": log.errors}))
"""


def test_every_name_of_the_list_is_in_the_installed_bindings(tmp_path: Path) -> None:
    """The vendor's own module, imported on stub libraries: no GPU, no driver, no TensorRT."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    spec = importlib.util.find_spec("tensorrt_bindings")
    if compiler is None or spec is None or spec.origin is None:
        pytest.skip("no C compiler, or no tensorrt_cu13_bindings (pip install tensorrt_cu13_bindings)")
    source = tmp_path / "stubs.c"
    source.write_text(STUBS)
    text = Path(spec.origin).read_text(encoding="utf-8")
    version = text.partition('__version__ = "')[2].partition('"')[0]
    for library in ("nvinfer", "nvonnxparser", "nvinfer_plugin"):
        name = f"lib{library}.so.{version.split('.')[0]}"
        subprocess.run(
            [compiler, "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(tmp_path / name), str(source)], check=True
        )
    names = json.dumps([sorted(used_names(version)), [name for name in FUNCTIONS if name != "__version__"]])
    done = subprocess.run(
        [sys.executable, "-c", PROBE, names],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["version"] == version
    assert found["missing"] == []
    assert "out of memory" in found["errors"]
