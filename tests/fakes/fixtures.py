"""A machine with a GPU and TensorRT that is not there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gloam.padding import PaddingProfile
from gloam.runtime.backends.cuda.driver import Driver, Gpu
from tests.fakes.cuda import FakeDevice
from tests.fakes.tensorrt import FakeTensorRT
from tests.fakes.trt_api import VERSIONS, rtx_description
from tests.tiny_models import write_tiny_embedder

PROFILE = PaddingProfile.fixed((256, 512), (256, 512), batch=(1, 8))


@pytest.fixture
def gpu() -> FakeDevice:
    return FakeDevice()


@pytest.fixture(params=VERSIONS)
def trt(request: pytest.FixtureRequest, gpu: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> FakeTensorRT:
    return install(FakeTensorRT(request.param, gpu), gpu, monkeypatch)


@pytest.fixture
def rtx(gpu: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> FakeTensorRT:
    """TensorRT for RTX, of which only what a GPU is needed for is worth a fake: the runtime."""
    module = FakeTensorRT("1.7", gpu, rtx_description())
    return install(module, gpu, monkeypatch)


def install(module: FakeTensorRT, gpu: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> FakeTensorRT:
    """The module, a driver and the GPU where gloam looks for them."""
    monkeypatch.setitem(sys.modules, module.__name__, module)
    driver = Driver("13.0", [Gpu(gpu.info.name, gpu.info.compute_capability)])
    monkeypatch.setattr("gloam.runtime.backends.cuda.driver.find_driver", lambda: driver)
    monkeypatch.setattr("gloam.runtime.backends.open.find_driver", lambda: driver)
    monkeypatch.setattr("gloam.runtime.backends.tensorrt.session.open_device", lambda: gpu)
    monkeypatch.setattr("gloam.export.engine.build.open_device", lambda: gpu)
    return module


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.onnx"
    write_tiny_embedder(path, PROFILE)
    return path
