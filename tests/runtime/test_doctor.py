"""The doctor names what is wrong, for installations that are only described."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from gloam.runtime.backends.cuda.driver import Driver, Gpu, find_driver
from gloam.runtime.backends.processor import Processor
from gloam.runtime.doctor import EXCLUSIVE, PURPOSES, backends, conflicts, diagnose, extras, installed_versions

NO_GPU = Driver(None, [], "no NVIDIA driver")
H200 = Driver("13.0", [Gpu("NVIDIA H200", "9.0")])


@pytest.mark.parametrize("pair", EXCLUSIVE)
def test_double_installs_are_named_with_a_cure(pair: tuple[str, str]) -> None:
    (problem,) = conflicts({pair[0]: "1.0", pair[1]: "2.0"})
    assert f"pip uninstall {pair[0]} {pair[1]}" in problem
    assert conflicts({pair[0]: "1.0"}) == []


def test_extras_follow_the_metadata_of_gloam() -> None:
    lines = ["numpy>=2", 'ray[data]>=2; extra == "ray"', "Tensor_RT>=10; extra == 'tensorrt'"]
    found = {extra.name: extra for extra in extras({"ray": "2.5"}, lines)}
    assert found["ray"].complete
    assert found["ray"].installed == {"ray": "2.5"}
    assert found["tensorrt"].missing == ["tensor-rt"]
    installed = {extra.name: extra for extra in extras(installed_versions())}
    assert {"onnxruntime", "faiss-cpu"} == {*installed["cpu"].installed, *installed["cpu"].missing}


def test_every_extra_has_its_line_and_no_line_is_of_none() -> None:
    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    stated = tomllib.loads(text)["project"]["optional-dependencies"]
    assert set(PURPOSES) == set(stated)
    printed = str(diagnose({}, NO_GPU))
    for name, purpose in PURPOSES.items():
        assert f"no  {name} " in printed
        assert purpose in printed


def test_an_extra_that_the_installed_metadata_lack_is_not_called_complete() -> None:
    found = {extra.name: extra.complete for extra in extras({"ray": "2.5"}, ['ray>=2; extra == "ray"'])}
    assert found["ray"]
    assert not found["rerun"]


def test_tensorrt_10_is_not_the_extra_of_11() -> None:
    found = {extra.name: extra.complete for extra in extras({"tensorrt": "10.16.0", "cuda-python": "13.4"})}
    assert found["tensorrt"]
    assert not found["tensorrt11"]


def test_torchvision_beside_a_cpu_torch_is_broken() -> None:
    found = diagnose({"torch": "2.13.0+cpu", "torchvision": "0.28.0"}, NO_GPU)
    assert any("torchvision" in problem for problem in found.problems)
    assert diagnose({"torch": "2.13.0+cpu", "torchvision": "0.28.0+cpu"}, NO_GPU).problems == []


def test_builds_that_do_not_fit_the_machine_are_noted() -> None:
    assert any("CUDA build" in note for note in diagnose({"torch": "2.13.0+cu130"}, NO_GPU).notes)
    assert any("CPU build" in note for note in diagnose({"torch": "2.13.0+cpu"}, H200).notes)


def test_gpu_wheels_without_a_driver_are_not_called_usable() -> None:
    versions = {"onnxruntime-gpu": "1.31.1", "tensorrt": "10.3"}
    without = diagnose(versions, NO_GPU).backends
    assert "not usable" in without["ONNX Runtime"]
    assert "not usable" in without["TensorRT"]
    assert "H200" in diagnose(versions, H200).backends["ONNX Runtime"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"avx2"}, "CPU; no bf16, no VNNI for int8 in this processor"),
        ({"avx512_vnni"}, "CPU; no bf16, VNNI for int8 in this processor"),
        ({"avx512_vnni", "avx512_bf16"}, "CPU; bf16, VNNI for int8 in this processor"),
        (set(), "not known"),
    ],
)
def test_openvino_stands_with_what_the_processor_gives(flags: set[str], said: str) -> None:
    line = backends({"openvino": "2026.4.1"}, NO_GPU, Processor("a CPU", 2, frozenset(flags)))["OpenVINO"]
    assert line.startswith("2026.4.1, ")
    assert said in line
    assert "gloam[openvino]" in backends({}, NO_GPU)["OpenVINO"]


class FakeCuda:
    """A driver with two GPUs, or one that refuses to start."""

    def __init__(self, code: int = 0) -> None:
        self.code = code

    def cuInit(self, flags: int) -> int:
        return self.code

    def cuDriverGetVersion(self, version: Any) -> None:
        version._obj.value = 13020

    def cuDeviceGetCount(self, count: Any) -> None:
        count._obj.value = 2

    def cuDeviceGet(self, device: Any, ordinal: int) -> None:
        device._obj.value = ordinal

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> None:
        name.value = f"GPU {device.value}".encode()

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> None:
        value._obj.value = {75: 9, 76: 0}[attribute]


def test_driver_is_read_through_its_library() -> None:
    assert find_driver(lambda name: FakeCuda()) == Driver("13.2", [Gpu("GPU 0", "9.0"), Gpu("GPU 1", "9.0")])
    assert "error 999" in (find_driver(lambda name: FakeCuda(999)).problem or "")

    def absent(name: str) -> Any:
        raise OSError(name)

    assert find_driver(absent) == NO_GPU


def test_nothing_that_can_crash_is_imported() -> None:
    code = (
        "import argparse, sys; from gloam.cli import doctor; doctor.run(argparse.Namespace()); "
        "bad = {'torch', 'faiss', 'onnxruntime', 'tensorrt', 'openvino', 'pycolmap', 'kapture', 'cv2'}; "
        "bad &= set(sys.modules); "
        "sys.exit(str(sorted(bad)) if bad else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr


def test_rtx_builds_everywhere_and_runs_on_its_own_gpus() -> None:
    versions = {"tensorrt-rtx-cu12": "1.7.1.116"}
    ada = Driver("13.0", [Gpu("NVIDIA RTX 4090", "8.9")])
    for driver, said in (
        (NO_GPU, "1.7.1.116, builds engines; runs none here, CUDA not usable: "),
        (H200, "builds engines; runs none on NVIDIA H200, which is sm90"),
        (ada, "builds engines and runs those for sm89 on NVIDIA RTX 4090"),
    ):
        assert said in backends(versions, driver)["TensorRT for RTX"]
    assert backends({}, NO_GPU)["TensorRT for RTX"] == "not installed; pip install 'gloam[tensorrt-rtx]'"
