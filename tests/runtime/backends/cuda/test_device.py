"""Both CUDA packages do the same behind the interface, and what is missing or fails is one line."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gloam.errors import DeviceError, GloamError, MissingExtraError
from gloam.runtime.backends.cuda.cuda_python_device import CudaPythonDevice
from gloam.runtime.backends.cuda.device import Device, DeviceMemoryError, PinnedBuffer
from gloam.runtime.backends.cuda.driver import Driver, Gpu, driver_version, require_gpu
from gloam.runtime.backends.cuda.graphs import DriverGraphs
from gloam.runtime.backends.cuda.open import open_device
from gloam.runtime.backends.cuda.pycuda_device import PyCudaDevice
from tests.fakes.cuda import FakeDevice
from tests.fakes.cuda_packages import CudaRuntime, PyCuda

ONE_GPU = Driver("13.0", [Gpu("Host GPU", "9.0")])


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> tuple[PyCuda, CudaRuntime]:
    """Both packages, on the host's memory."""
    pycuda, runtime = PyCuda(), CudaRuntime()
    monkeypatch.setattr("gloam.runtime.backends.cuda.driver.find_driver", lambda: ONE_GPU)
    for name, module in (("pycuda", types.ModuleType("pycuda")), ("pycuda.driver", pycuda)):
        monkeypatch.setitem(sys.modules, name, module)  # type: ignore[arg-type]
    for name in ("cuda", "cuda.bindings"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", runtime)  # type: ignore[arg-type]
    return pycuda, runtime


def round_trip(device: Device) -> None:
    """Bytes go to the GPU and come back over two streams, in the order that an event gives them."""
    rng = np.random.default_rng(0)
    with device.current():
        first, second, event = device.stream(), device.stream(), device.event()
        assert first.handle
        values = rng.integers(0, 256, (3, 1000), dtype=np.uint8)
        memory = device.allocate(values.nbytes + 24)
        assert memory.address % 256 == 0 or not isinstance(device, FakeDevice)
        source, target = device.pinned(values.nbytes), device.pinned(values.nbytes)
        source.view(values.shape, values.dtype)[...] = values
        target.array[...] = 0
        device.copy_to_device(memory, source.view(values.shape, values.dtype), first)
        device.record(event, first)
        device.wait(second, event)
        device.copy_to_host(target.view(values.shape, values.dtype), memory, second)
        device.synchronize(second)
        np.testing.assert_array_equal(target.view(values.shape, values.dtype), values)
        with pytest.raises(DeviceError, match="cannot hold"):
            target.view((3, 1001), np.dtype(np.uint8))
        device.synchronize(event)
        device.synchronize()
        for resource in (memory, source, target, event, first, second):
            device.release(resource)
    device.close()


@pytest.mark.parametrize("make", [PyCudaDevice, CudaPythonDevice, FakeDevice])
def test_a_round_trip(packages: tuple[PyCuda, CudaRuntime], make: Callable[[], Device]) -> None:
    device = make()
    assert device.info.compute_capability == "9.0"
    round_trip(device)


def test_memory_is_given_back(packages: tuple[PyCuda, CudaRuntime]) -> None:
    pycuda, runtime = packages
    round_trip(PyCudaDevice())
    round_trip(CudaPythonDevice())
    assert len(pycuda.freed) == len(runtime.freed) == 3
    assert {"cudaStreamDestroy", "cudaEventDestroy"} <= set(runtime.calls)


def test_pycuda_keeps_to_the_primary_context_and_leaves_none_behind(packages: tuple[PyCuda, CudaRuntime]) -> None:
    pycuda, _ = packages
    device = PyCudaDevice()
    assert pycuda.initialised
    assert pycuda.stack == []
    with device.current(), device.current():
        assert len(pycuda.stack) == 2
    with pytest.raises(RuntimeError), device.current():
        raise RuntimeError
    assert pycuda.stack == []  # pycuda aborts a process that leaves one
    assert "pycuda.autoinit" not in sys.modules


@pytest.mark.parametrize("make", [PyCudaDevice, CudaPythonDevice])
def test_errors_are_one_line_and_of_their_kind(
    packages: tuple[PyCuda, CudaRuntime], make: Callable[..., Device]
) -> None:
    device = make()
    with device.current():
        with pytest.raises(DeviceMemoryError, match=r"Host GPU: out of memory.*33554432 bytes") as caught:
            device.allocate(1 << 25)
        assert isinstance(caught.value, MemoryError)
        memory, stream = device.allocate(8), device.stream()
        for call in (
            lambda: device.copy_to_device(memory, np.zeros(9, np.uint8), stream),
            lambda: device.copy_to_host(np.zeros(9, np.uint8), memory, stream),
        ):
            with pytest.raises(DeviceError, match="do not fit a buffer of 8"):
                call()
        with pytest.raises(DeviceError, match="contiguous"):
            device.copy_to_device(memory, np.zeros((3, 2), np.uint8)[:, :1], stream)
    with pytest.raises(DeviceError, match="invalid device ordinal") as failed:
        make(1)
    assert "\n" not in str(failed.value)


def test_the_error_that_cuda_remembers_is_cleared(packages: tuple[PyCuda, CudaRuntime]) -> None:
    device = CudaPythonDevice()
    with pytest.raises(DeviceMemoryError):
        device.pinned(1 << 25)
    assert packages[1].calls[-1] == "cudaGetLastError"


class Library:
    """``libcuda`` or ``libnvidia-ml``: calls are noted, and some are refused."""

    def __init__(self, refused: str = "") -> None:
        self.refused, self.calls = refused, []

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name == "nvmlSystemGetDriverVersion":
                arguments[0].value = b"580.159.03"
            if name in ("cuStreamEndCapture", "cuGraphInstantiateWithFlags"):
                (arguments[1] if name == "cuStreamEndCapture" else arguments[0])._obj.value = 4
            return 901 if name == self.refused else 0

        return call


def test_graphs_of_pycuda_come_from_the_driver(
    packages: tuple[PyCuda, CudaRuntime], monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library()
    monkeypatch.setattr(
        "gloam.runtime.backends.cuda.pycuda_device.DriverGraphs", lambda: DriverGraphs(lambda name: library)
    )
    device = PyCudaDevice()
    with device.current():
        stream = device.stream()
        device.begin_capture(stream)
        graph = device.end_capture(stream)
        assert graph.owner == 4
        device.launch(graph, stream)
        device.release(graph)
    assert library.calls == [
        "cuStreamBeginCapture_v2",
        "cuStreamEndCapture",
        "cuGraphInstantiateWithFlags",
        "cuGraphDestroy",
        "cuGraphLaunch",
        "cuGraphExecDestroy",
    ]
    with pytest.raises(DeviceError, match=r"refuses cuStreamEndCapture .error 901.; run without CUDA graphs"):
        DriverGraphs(lambda name: Library("cuStreamEndCapture")).end(1)
    instantiating = Library("cuGraphInstantiateWithFlags")
    with pytest.raises(DeviceError):
        DriverGraphs(lambda name: instantiating).end(1)
    assert instantiating.calls[-1] == "cuGraphDestroy"


def test_graphs_of_cuda_python(packages: tuple[PyCuda, CudaRuntime]) -> None:
    device = CudaPythonDevice()
    stream = device.stream()
    device.begin_capture(stream)
    graph = device.end_capture(stream)
    device.launch(graph, stream)
    device.release(graph)
    assert packages[1].calls[-6:] == [
        "cudaStreamBeginCapture",
        "cudaStreamEndCapture",
        "cudaGraphInstantiate",
        "cudaGraphDestroy",
        "cudaGraphLaunch",
        "cudaGraphExecDestroy",
    ]


def test_cuda_python_is_preferred_and_pycuda_stands_in(
    packages: tuple[PyCuda, CudaRuntime], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert open_device().layer == "cuda-python"
    assert open_device(layer="pycuda").layer == "pycuda"
    with pytest.raises(DeviceError, match="choose cuda-python or pycuda"):
        open_device(layer="cupy")
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    assert open_device().layer == "pycuda"
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    with pytest.raises(
        MissingExtraError, match=r"neither cuda-python nor pycuda imports.*pip install 'gloam\[gpu\]'"
    ) as e:
        open_device()
    assert "\n" not in str(e.value)


def test_a_gpu_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gloam.runtime.backends.cuda.driver.find_driver", lambda: ONE_GPU)
    assert require_gpu().name == "Host GPU"
    with pytest.raises(DeviceError, match="no GPU number 1; the driver sees 1"):
        open_device(1)
    monkeypatch.setattr("gloam.runtime.backends.cuda.driver.find_driver", lambda: Driver(None, [], "no NVIDIA driver"))
    with pytest.raises(DeviceError, match="no NVIDIA driver; run `gloam doctor`"):
        open_device()


def test_the_drivers_version_comes_from_its_library() -> None:
    library = Library()
    assert driver_version(lambda name: library) == "580.159.03"
    assert library.calls[-1] == "nvmlShutdown"
    assert driver_version(lambda name: Library("nvmlInit_v2")) == "unknown"
    assert driver_version(lambda name: Library("nvmlSystemGetDriverVersion")) == "unknown"

    def absent(name: str) -> Any:
        raise OSError(name)

    assert driver_version(absent) == "unknown"


def test_nothing_of_cuda_is_imported_before_it_is_asked_for() -> None:
    code = (
        "import sys; import gloam.runtime.backends.open, gloam.runtime.backends.cuda.device;"
        "import gloam.runtime.backends.tensorrt.session;"
        "bad = {'pycuda', 'cuda', 'tensorrt', 'onnxruntime', 'torch'} & set(sys.modules);"
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_released_buffer_cannot_be_written() -> None:
    device = FakeDevice()
    with device.current():
        buffer = device.pinned(16)
        device.release(buffer)
    with pytest.raises(GloamError):
        PinnedBuffer(np.empty(0, np.uint8)).view((16,), np.dtype(np.uint8))
